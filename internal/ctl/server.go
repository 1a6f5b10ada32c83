package ctl

import (
	"bufio"
	"cmp"
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
	maxBody     = int64(4 << 10)  // of a request; what needs none may have it, and it is ignored
	maxFile     = 16 << 20        // a configuration of 10,000 real servers has 1 MB
	flushSize   = 64 << 10        // what a listing holds in memory
	answerTime  = time.Minute     // to make and write an answer: a reload compiles the whole table
	listingTime = 5 * time.Minute // to take one flushSize of a listing: time to read a screen of it in a pager
)

// NewServer returns the handler of the control socket over b.
func NewServer(b Backend) http.Handler {
	s := &server{b: b}
	s.routes = map[string]route{
		PathServices:    {get: s.services},
		PathConnections: {get: s.connections, parameters: true},
		PathLocals:      {get: s.locals},
		PathStats:       {get: s.stats},
		PathStatus:      {get: s.status},
		PathDrops:       {get: s.drops},
		PathHealth:      {get: s.health},
		PathReload:      {post: s.reload},
		PathUpgrade:     {post: s.upgrade, body: maxBody},
		PathStop:        {post: s.stop},
		PathDiff:        {post: s.diff, parameters: true, body: maxFile},
		PathExplain:     {get: s.explain, parameters: true},
		PathEdit:        {post: s.edit, body: maxEdits},
		PathDrain:       {get: s.drains, post: s.drain},
	}
	return s
}

type server struct {
	b      Backend
	routes map[string]route
}

// A route is what a path answers; body is read by then.
type route struct {
	get        func(http.ResponseWriter, *http.Request)
	post       func(w http.ResponseWriter, r *http.Request, body []byte)
	parameters bool  // may it have a query?
	body       int64 // bytes at most; 0 is maxBody
}

// methods returns what r may be asked with.
func (r *route) methods() string {
	switch {
	case r.post == nil:
		return http.MethodGet
	case r.get == nil:
		return http.MethodPost
	}
	return http.MethodGet + ", " + http.MethodPost
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
	get, post := r.Method == http.MethodGet && route.get != nil, r.Method == http.MethodPost && route.post != nil
	if !get && !post {
		w.Header().Set("Allow", route.methods())
		fail(w, http.StatusMethodNotAllowed, fmt.Errorf("%s: wants %s, not %s", r.URL.Path, route.methods(), r.Method))
		return
	}
	limit := cmp.Or(route.body, maxBody)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge, fmt.Errorf("request body: more than %d bytes, or broken off", limit))
		return
	}
	if !route.parameters && r.URL.RawQuery != "" {
		fail(w, http.StatusBadRequest, fmt.Errorf("%q: %s takes no parameters", r.URL.RawQuery, r.URL.Path))
		return
	}
	if get {
		route.get(w, r)
		return
	}
	route.post(w, r, body)
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

func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, healthBody{orEmpty(s.b.Health())})
}

// reload answers 422 when the configuration is refused: the request was fine
// and the program is fine, the file is not.
func (s *server) reload(w http.ResponseWriter, r *http.Request, _ []byte) {
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
