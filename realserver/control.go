package realserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

// answerTime is how long a question to a running fnatrs may take.
const answerTime = 5 * time.Second

// An answerer answers questions about a running fnatrs: HTTP on the control
// socket, and for Prometheus.
type answerer struct {
	opts     Options
	started  time.Time
	programs *programs
	servers  []*http.Server
	sockets  []net.Listener
}

// listen opens the sockets. What ends the serving of one comes on served;
// shutdown ends all.
func (a *answerer) listen() (served chan error, shutdown func(), err error) {
	control, err := listenControl(a.opts.Socket)
	if err != nil {
		return nil, nil, fmt.Errorf("control socket: %w", err)
	}
	a.add(control, a.handler())
	if a.opts.Metrics != "" {
		l, err := net.Listen("tcp", a.opts.Metrics)
		if err != nil {
			control.Close()
			return nil, nil, fmt.Errorf("metrics: %w (name another address with --metrics, or \"\" for none)", err)
		}
		a.add(l, a.metricsHandler())
	}
	return make(chan error, len(a.servers)), func() {
		for i, s := range a.servers {
			s.Close()
			a.sockets[i].Close() // if it was not served yet
		}
	}, nil
}

func (a *answerer) add(l net.Listener, h http.Handler) {
	a.sockets = append(a.sockets, l)
	a.servers = append(a.servers, &http.Server{
		Handler: h, ReadTimeout: answerTime, WriteTimeout: answerTime, MaxHeaderBytes: 1 << 14,
		ErrorLog: slog.NewLogLogger(a.opts.Log.Handler(), slog.LevelDebug),
	})
}

func (a *answerer) serve(served chan<- error) {
	for i, s := range a.servers {
		go func() { served <- fmt.Errorf("%s: %w", a.sockets[i].Addr(), s.Serve(a.sockets[i])) }()
	}
}

// handler answers on the control socket.
func (a *answerer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, a.status) })
	mux.HandleFunc("GET /v1/mappings", func(w http.ResponseWriter, _ *http.Request) { reply(w, a.programs.listMappings) })
	return mux
}

// reply writes an answer as JSON, or why there is none as text.
func reply[T any](w http.ResponseWriter, answer func() (T, error)) {
	got, err := answer()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(got) // whoever asked has gone
}

// listenControl makes the control socket. The caller holds the lock beside it,
// so what is at its place was left by a dead process.
func listenControl(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Ask returns the status of the fnatrs that answers on a control socket.
func Ask(socket string) (*Status, error) { return ask[*Status](socket, "/v1/status") }

// AskMappings returns the mappings of the fnatrs that answers on a control socket.
func AskMappings(socket string) ([]Mapping, error) { return ask[[]Mapping](socket, "/v1/mappings") }

func ask[T any](socket, path string) (answer T, err error) {
	client := http.Client{
		Timeout: answerTime,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			Dial:              func(_, _ string) (net.Conn, error) { return net.DialTimeout("unix", socket, answerTime) },
		},
	}
	r, err := client.Get("http://fnatrs" + path)
	if err != nil {
		return answer, fmt.Errorf("no fnatrs answers on %s: %w", socket, err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(r.Body)
		return answer, fmt.Errorf("fnatrs: %s: %s", r.Status, text)
	}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("answer of fnatrs on %s: %w", socket, err)
	}
	return answer, nil
}
