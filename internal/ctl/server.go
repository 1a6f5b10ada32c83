package ctl

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"
)

// Our choices.
const (
	maxBody     = 4 << 10         // no request needs a body; this much is read and ignored
	flushSize   = 64 << 10        // what a listing holds in memory
	answerTime  = time.Minute     // to make and write an answer: a reload compiles the whole table
	listingTime = 5 * time.Minute // to take one flushSize of a listing: time to read a screen of it in a pager
)

// NewServer returns the handler of the control socket over b.
func NewServer(b Backend) http.Handler {
	s := &server{b: b}
	s.routes = map[string]route{
		PathServices:    {http.MethodGet, s.services},
		PathConnections: {http.MethodGet, s.connections},
		PathLocals:      {http.MethodGet, s.locals},
		PathStats:       {http.MethodGet, s.stats},
		PathDrops:       {http.MethodGet, s.drops},
		PathReload:      {http.MethodPost, s.reload},
	}
	return s
}

type server struct {
	b      Backend
	routes map[string]route
}

type route struct {
	method string
	handle http.HandlerFunc
}

// ServeHTTP answers every request in JSON, errors included, which is why it
// is not an http.ServeMux.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	heard(r.Context())
	route, ok := s.routes[r.URL.Path]
	if !ok {
		fail(w, http.StatusNotFound, fmt.Errorf("%s: no such path", r.URL.Path))
		return
	}
	if r.Method != route.method {
		w.Header().Set("Allow", route.method)
		fail(w, http.StatusMethodNotAllowed, fmt.Errorf("%s: wants %s, not %s", r.URL.Path, route.method, r.Method))
		return
	}
	if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		fail(w, http.StatusRequestEntityTooLarge, fmt.Errorf("request body: more than %d bytes", maxBody))
		return
	}
	if r.URL.Path != PathConnections && r.URL.RawQuery != "" {
		fail(w, http.StatusBadRequest, fmt.Errorf("%q: %s takes no parameters", r.URL.RawQuery, r.URL.Path))
		return
	}
	route.handle(w, r)
}

func (s *server) services(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, servicesBody{orEmpty(s.b.Services())})
}

func (s *server) locals(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, localsBody{orEmpty(s.b.Locals())})
}

func (s *server) stats(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, s.b.Stats())
}

func (s *server) drops(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, dropsBody{orEmpty(s.b.Drops())})
}

// reload answers 422 when the configuration is refused: the request was fine
// and the program is fine, the file is not.
func (s *server) reload(w http.ResponseWriter, r *http.Request) {
	done, err := s.b.Reload(r.Context())
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, fmt.Errorf("reload refused, the old configuration stays in use:\n%w", err))
		return
	}
	done.Changes = orEmpty(done.Changes)
	answer(w, http.StatusOK, done)
}

func (s *server) connections(w http.ResponseWriter, r *http.Request) {
	f, err := parseFilter(r.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	if f.Service != "" && !slices.ContainsFunc(s.b.Services(), func(s Service) bool { return s.Name == f.Service }) {
		fail(w, http.StatusNotFound, fmt.Errorf("service %q: no such service", f.Service))
		return
	}
	if err := s.stream(w, r, f); err != nil {
		// The status is out already. Cutting the answer off is what is left
		// to tell the other end that it is not whole.
		panic(http.ErrAbortHandler)
	}
}

// stream writes the connections that f selects as they come, so that a million
// of them take one buffer. "more" says that the limit cut them off.
func (s *server) stream(w http.ResponseWriter, r *http.Request, f Filter) error {
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriterSize(&patientWriter{w, http.NewResponseController(w)}, flushSize)
	enc := json.NewEncoder(out)
	n, more := 0, false
	out.WriteString(`{"connections":[`)
	for c := range s.b.Connections() {
		if r.Context().Err() != nil {
			return r.Context().Err()
		}
		if !f.Match(&c) {
			continue
		}
		if more = f.Limit != 0 && n == f.Limit; more {
			break
		}
		if n > 0 {
			out.WriteByte(',')
		}
		n++
		if err := enc.Encode(&c); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "],\"more\":%t}\n", more)
	return out.Flush()
}

// A patientWriter gives its reader listingTime for each write anew.
type patientWriter struct {
	w       io.Writer
	control *http.ResponseController
}

func (p *patientWriter) Write(b []byte) (int, error) {
	err := p.control.SetWriteDeadline(time.Now().Add(listingTime))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.w.Write(b)
}

func fail(w http.ResponseWriter, status int, err error) {
	answer(w, status, errorBody{err.Error()})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		slog.Debug("control socket: answer not written", "error", err)
	}
}

// orEmpty returns s, never nil, so that an empty list is [] and not null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
