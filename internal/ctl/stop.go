package ctl

import "net/http"

// A StopOrder has fnatd stop cleanly.
type StopOrder struct {
	Forget bool `json:"forget"` // and leave no state: the next start begins with an empty table
}

// A Stopping is the answer of a fnatd that stops now.
type Stopping struct {
	PID         int    `json:"pid"`
	Connections int    `json:"connections"`
	State       string `json:"state"` // where the next fnatd finds them; empty: nowhere
}

func (s *server) stop(w http.ResponseWriter, r *http.Request, body []byte) {
	var o StopOrder
	if len(body) > 0 {
		if err := decode(body, &o); err != nil {
			fail(w, http.StatusBadRequest, err)
			return
		}
	}
	answer(w, http.StatusOK, s.b.Stop(r.Context(), o))
}
