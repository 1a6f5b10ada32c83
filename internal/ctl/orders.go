package ctl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// diff answers 422 as reload does.
func (s *server) diff(w http.ResponseWriter, r *http.Request, body []byte) {
	name, err := parseDiff(r.URL.Query(), body)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	if name == "" {
		body = nil
	}
	d, err := s.b.Diff(r.Context(), name, body)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, fmt.Errorf("a reload would be refused:\n%w", err))
		return
	}
	d.Changes = orEmpty(d.Changes)
	answer(w, http.StatusOK, d)
}

// parseDiff returns the name of the file that a DiffQuestion is about, or "" if
// it is fnatd's own.
func parseDiff(q url.Values, body []byte) (name string, err error) {
	for key := range q {
		if key != "name" {
			return "", fmt.Errorf("%q: no such parameter (want name)", key)
		}
	}
	if name = q.Get("name"); (name == "") != (len(body) == 0) {
		return "", errors.New("want the configuration as the body and its name as the parameter name, or neither")
	}
	return name, nil
}

func (s *server) drains(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, drainsBody{orEmpty(s.b.Drains())})
}

func (s *server) drain(w http.ResponseWriter, r *http.Request, body []byte) {
	var o DrainOrder
	if err := decode(body, &o); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	drains, err := s.b.Drain(r.Context(), o)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err)
		return
	}
	answer(w, http.StatusOK, drainsBody{orEmpty(drains)})
}

func (s *server) edit(w http.ResponseWriter, r *http.Request, body []byte) {
	var edits editsBody
	if err := decode(body, &edits); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	done, err := s.b.Edit(r.Context(), edits.Edits)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, err)
		return
	}
	done.Changes, done.Refused = orEmpty(done.Changes), orEmpty(done.Refused)
	answer(w, http.StatusOK, done)
}

// decode reads one JSON value of which every field is known: a misspelt one would
// otherwise be the default.
func decode(body []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil && dec.More() {
		err = errors.New("more than one value")
	}
	if err != nil {
		return fmt.Errorf("request body: not what is asked for: %w", err)
	}
	return nil
}
