package ctl

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A journal is where a test's log lines go.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// keepJournal has the default logger write to a journal until the test ends.
func keepJournal(t *testing.T) *journal {
	old := slog.Default()
	t.Cleanup(func() { slog.SetDefault(old) })
	j := new(journal)
	slog.SetDefault(slog.New(slog.NewTextHandler(j, nil)))
	return j
}

// serveHandler serves h on a control socket until the test ends.
func serveHandler(t *testing.T, h http.Handler) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "fnatd.sock")
	l, err := Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, h) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return socket
}

func dial(t *testing.T, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestPeerIsWhoAsks(t *testing.T) {
	got := make(chan Peer, 1)
	socket := serveHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		heard(r.Context())
		got <- PeerOf(r.Context())
	}))
	if _, err := NewClient(socket).Stats(context.Background()); err == nil {
		t.Fatal("an empty answer was taken for one")
	}
	want := Peer{PID: os.Getpid(), UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	if p := <-got; p != want {
		t.Errorf("got %v, want %v", p, want)
	}
	if got, want := PeerOf(context.Background()).String(), "a signal"; got != want {
		t.Errorf("without a request: got %q, want %q", got, want)
	}
}

func TestGarbageIsRefusedAndLogged(t *testing.T) {
	log := keepJournal(t)
	socket := serveHandler(t, NewServer(&fakeBackend{}))
	for name, garbage := range map[string]string{
		"binary":           "\x16\x03\x01\x02\x00\x01\xff\xfe\x00\r\n\r\n",
		"no_http":          "flush the tables please\r\n\r\n",
		"endless_header":   "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
		"negative_length":  "POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"two_host_headers": "GET /v1/stats HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, socket)
			go c.Write([]byte(garbage)) // may fail halfway, when fnatd has seen enough
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode < 400 || resp.StatusCode >= 500 || !resp.Close {
				t.Errorf("got %v, want the connection refused by a status of 400 or so", resp.Status)
			}
		})
	}
	waitFor(t, "five lines of the log", func() bool { return strings.Count(log.String(), "without a request") == 5 })
	if _, err := NewClient(socket).Stats(context.Background()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestSilentClientsDoNotKeepOthersOut fills all places with clients that say
// nothing. One who asks gets an answer when they are cut off.
func TestSilentClientsDoNotKeepOthersOut(t *testing.T) {
	log := keepJournal(t)
	socket := serveHandler(t, NewServer(&fakeBackend{}))
	for range maxConns {
		dial(t, socket)
	}
	half := dial(t, socket)
	if _, err := half.Write([]byte("GET /v1/stats HTTP/1.1\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(socket).Stats(context.Background()); err != nil {
		t.Error(err)
	}
	waitFor(t, "all cut off", func() bool { return strings.Count(log.String(), "without a request") >= maxConns })
}

func TestLogOfStrangersIsBounded(t *testing.T) {
	log := keepJournal(t)
	var s strange
	now := time.Now()
	for range 1000 {
		s.tell(Peer{PID: 1}, now)
	}
	if got := strings.Count(log.String(), "\n"); got != maxConns {
		t.Errorf("got %d lines, want %d", got, maxConns)
	}
	s.tell(Peer{PID: 1}, now.Add(2*readTime))
	if want := fmt.Sprintf("clients=%d", 1000-maxConns); !strings.Contains(log.String(), want) {
		t.Errorf("the others are not told of: no %s in\n%s", want, log)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
