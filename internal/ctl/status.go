package ctl

import (
	"net/http"
	"time"
)

// A Status is how this fnatd runs, and what it has of the one before it.
type Status struct {
	Version       string    `json:"version"`
	PID           int       `json:"pid"`
	Started       time.Time `json:"started"`
	UptimeSeconds float64   `json:"uptime_seconds"`
	Workers       int       `json:"workers"` // that serve queues
	State         State     `json:"state"`
	Start         Start     `json:"start"`
	Notes         Notes     `json:"notes"`
}

// A State is what outlives a fnatd: connections, secrets and notes.
type State struct {
	Path       string    `json:"path"`  // empty: in memory only, it ends with the process
	Bytes      uint64    `json:"bytes"` // fixed by max_connections
	Began      time.Time `json:"began"` // when it was made, by this fnatd or an earlier one
	AgeSeconds float64   `json:"age_seconds"`
	Adoptions  int       `json:"adoptions"`  // times that a fnatd went on with it
	Version    uint64    `json:"version"`    // of its layout
	WrittenBy  string    `json:"written_by"` // build of the fnatd that brought it to that; empty: it is not known
	Written    time.Time `json:"written"`    // when
}

// A Start is what became, when this fnatd started, of the state that it found.
type Start struct {
	Adopted        bool    `json:"adopted"` // this fnatd went on with it
	Refused        string  `json:"refused"` // why it could not; empty: it did, or there was none
	Kept           int     `json:"kept"`    // connections, and templates
	Undone         int     `json:"undone"`  // changes under way, which were taken back
	Lost           []Loss  `json:"lost"`    // one for each reason
	DamagedEntries int     `json:"damaged_entries"`
	TookSeconds    float64 `json:"took_seconds"` // from its opening until all of it was read; packets passed meanwhile
}

// A Loss says how many connections were not kept for one reason, and what that means.
type Loss struct {
	Reason  string `json:"reason"`
	Count   int    `json:"count"`
	Meaning string `json:"meaning"`
}

// Notes are what fnatd writes down besides connections, again and again: health, drains,
// SYNPROXY, counters.
type Notes struct {
	Written    time.Time `json:"written"` // the last time; zero: not yet
	AgeSeconds float64   `json:"age_seconds"`
	Error      string    `json:"error"` // of the last try; empty: it went well
}

// Reasons for losses besides the table's own.
const (
	NoRoom        = "no_room"
	NotConfigured = "not_configured"
)

// lossMeanings says what each reason means.
var lossMeanings = map[string]string{
	"damaged":          "its fields contradicted each other",
	"unlisted":         "the index did not lead to it: it was being removed, or memory was damaged",
	"no_real_server":   "the entry of its real server was damaged",
	"no_local_address": "the entry of its local address was damaged",
	"repeated":         "another connection had the same addresses and ports",
	NoRoom:             "max_connections is lower than it was, and they were too many",
	NotConfigured:      "its service or real server is not in the configuration any more",
}

// NewLoss returns the Loss of so many connections.
func NewLoss(reason string, count int) Loss { return Loss{reason, count, lossMeanings[reason]} }

// LostSum returns how many connections were not kept.
func (s *Start) LostSum() (n int) {
	for _, l := range s.Lost {
		n += l.Count
	}
	return n
}

func (s *server) status(w http.ResponseWriter, _ *http.Request) {
	st := s.b.Status()
	st.Start.Lost = orEmpty(st.Start.Lost)
	answer(w, http.StatusOK, st)
}
