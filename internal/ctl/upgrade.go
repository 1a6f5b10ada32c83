package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// An UpgradeOrder says what fnatd is to be replaced by.
type UpgradeOrder struct {
	Binary string `json:"binary"` // absolute path; "": the one that it was started from
}

// An Upgrade is the answer when another fnatd has taken over.
type Upgrade struct {
	PID        int     `json:"pid"`
	Version    string  `json:"version"`
	Before     string  `json:"before"`      // the version that it was
	GapSeconds float64 `json:"gap_seconds"` // for which packets waited in the rings, at most
}

// Upgrade has another binary take over.
func (c *Client) Upgrade(ctx context.Context, o UpgradeOrder) (Upgrade, error) {
	return ask[Upgrade](ctx, c, Post(PathUpgrade, o))
}

// upgrade answers 422 when the other binary could not take over: then the old one
// goes on.
func (s *server) upgrade(w http.ResponseWriter, r *http.Request, body []byte) {
	var o UpgradeOrder
	if len(body) > 0 {
		if err := json.Unmarshal(body, &o); err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("request body: %w", err))
			return
		}
	}
	done, err := s.b.Upgrade(r.Context(), o.Binary)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, fmt.Errorf("upgrade failed, the old fnatd goes on: %w", err))
		return
	}
	answer(w, http.StatusOK, done)
}

// Gap returns for how long packets waited.
func (u *Upgrade) Gap() time.Duration { return time.Duration(u.GapSeconds * float64(time.Second)) }
