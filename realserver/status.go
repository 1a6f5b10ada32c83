package realserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"
)

// answerTime is how long a question to a running fnatrs may take.
const answerTime = 5 * time.Second

// A Status is what a running fnatrs says of itself.
type Status struct {
	Version  string       `json:"version"`
	PID      int          `json:"pid"`
	Started  time.Time    `json:"started"`
	Cgroup   string       `json:"cgroup"`
	Trust    Prefixes     `json:"trust"`
	Kinds    []int        `json:"kinds"`
	Programs []Attachment `json:"programs"`
	Counters []Count      `json:"counters"`
	Error    string       `json:"error,omitempty"` // why the counters are missing
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

// Ask returns the status of the fnatrs that answers on a control socket.
func Ask(socket string) (*Status, error) {
	c, err := net.DialTimeout("unix", socket, answerTime)
	if err != nil {
		return nil, fmt.Errorf("no fnatrs answers on %s: %w", socket, err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return nil, err
	}
	var s Status
	if err := json.NewDecoder(c).Decode(&s); err != nil {
		return nil, fmt.Errorf("answer of fnatrs on %s: %w", socket, err)
	}
	if s.Error != "" {
		return nil, fmt.Errorf("fnatrs: %s", s.Error)
	}
	return &s, nil
}

// listen makes the control socket. The caller holds the lock beside it, so
// what is at its place was left by a dead process.
func listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// An answerer tells whoever connects the status, and asks for nothing.
type answerer struct {
	opts     Options
	started  time.Time
	programs *programs
}

// serve answers until l is closed.
func (a *answerer) serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		a.answer(c)
	}
}

// answer hangs up on who does not read: another might be waiting.
func (a *answerer) answer(c net.Conn) {
	defer c.Close()
	if c.SetDeadline(time.Now().Add(answerTime)) == nil {
		_ = json.NewEncoder(c).Encode(a.status())
	}
}

func (a *answerer) status() *Status {
	s := &Status{
		Version: a.opts.Version, PID: os.Getpid(), Started: a.started,
		Cgroup: a.opts.Cgroup, Trust: a.opts.Trust, Programs: a.programs.attached,
	}
	for _, k := range a.opts.Kinds {
		s.Kinds = append(s.Kinds, int(k))
	}
	var err error
	if s.Counters, err = a.programs.counts(); err != nil {
		s.Error = err.Error()
	}
	return s
}
