package realserver

import (
	"os"
	"time"
)

// A Status is what a running fnatrs says of itself.
type Status struct {
	Version    string       `json:"version"`
	PID        int          `json:"pid"`
	Started    time.Time    `json:"started"`
	Cgroup     string       `json:"cgroup"`
	Trust      Prefixes     `json:"trust"`
	Kinds      []int        `json:"kinds"`
	TTM        *TTM         `json:"ttm,omitempty"`
	TCPTimeout string       `json:"tcp_timeout"`
	UDPTimeout string       `json:"udp_timeout"`
	Features   []Feature    `json:"features"`
	Programs   []Attachment `json:"programs"`
	Mappings   Usage        `json:"mappings"`
	Counters   []Count      `json:"counters"`
}

// Count returns a counter's value, 0 for one that is not there.
func (s *Status) Count(c Counter) uint64 {
	for _, n := range s.Counters {
		if n.Name == c.String() {
			return n.Count
		}
	}
	return 0
}

func (a *answerer) status() (*Status, error) {
	s := &Status{
		Version: a.opts.Version, PID: os.Getpid(), Started: a.started,
		Cgroup: a.opts.Cgroup, Trust: a.opts.Trust,
		TCPTimeout: a.opts.TCPTimeout.String(), UDPTimeout: a.opts.UDPTimeout.String(),
		Programs: a.programs.attached,
	}
	for _, f := range a.programs.features {
		s.Features = append(s.Features, f.Feature)
	}
	for _, k := range a.opts.Kinds {
		s.Kinds = append(s.Kinds, int(k))
	}
	if a.opts.TTM.Kind != 0 {
		s.TTM = &a.opts.TTM
	}
	var err error
	if s.Mappings, err = a.programs.usage(); err != nil {
		return nil, err
	}
	s.Counters, err = a.programs.counts()
	return s, err
}
