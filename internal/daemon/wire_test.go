package daemon

import (
	"encoding/binary"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/state"
)

func wires(t *testing.T) (owner, heir *wire) {
	t.Helper()
	owner, other, err := newWire()
	if err != nil {
		t.Fatal(err)
	}
	if heir, err = openWire(other); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(owner.close)
	t.Cleanup(heir.close)
	return owner, heir
}

// TestWireCarriesDescriptors passes more than the kernel takes at a time, and in their
// order.
func TestWireCarriesDescriptors(t *testing.T) {
	owner, heir := wires(t)
	const many = 3*filesChunk + 5
	fds := make([]int, many)
	for i := range fds {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(int64(i)); err != nil {
			t.Fatal(err)
		}
		fds[i] = int(f.Fd())
	}
	sent := make(chan error, 1)
	go func() {
		err := owner.send(&message{Kind: kindEstate, Estate: &estate{Workers: make([]workerEstate, 7)}}, fds...)
		if err == nil {
			err = owner.send(&message{Kind: kindDone})
		}
		sent <- err
	}()
	m, got, err := heir.receive(kindEstate, time.Minute)
	if err != nil || len(m.Estate.Workers) != 7 || len(got) != many {
		t.Fatalf("got %+v with %d descriptors, %v", m, len(got), err)
	}
	defer closeAll(got)
	for i, fd := range got {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Size != int64(i) {
			t.Errorf("descriptor %d: size %d, %v", i, st.Size, err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d outlives an exec", i)
		}
	}
	if _, _, err := heir.receive(kindDone, time.Minute); err != nil {
		t.Error(err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestWireRefuses(t *testing.T) {
	raw := func(b string) func(w *wire) {
		return func(w *wire) {
			w.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
		}
	}
	for _, tc := range []struct {
		name, want string
		say        func(w *wire)
	}{
		{"silence", `it has not said "ready" within`, func(w *wire) {}},
		{"end", `it ended before it said "ready"`, func(w *wire) { w.close() }},
		{"half a message", `it ended before it said "ready"`, func(w *wire) { io.WriteString(w.conn, "\x00\x00\x00\x09{"); w.close() }},
		{"giving up", "for a reason", func(w *wire) { w.send(&message{Kind: kindFailed, Error: "for a reason"}) }},
		{"another kind", `it said "done" where "ready" was due`, func(w *wire) { w.send(&message{Kind: kindDone}) }},
		{"another program", "the other side is no fnatd", func(w *wire) { io.WriteString(w.conn, "GET / HTTP/1.1") }},
		{"no JSON", "cannot be read", raw("hello")},
		{"too many descriptors", "with 100000 descriptors", raw(`{"Kind":"ready","Files":100000}`)},
		{"fewer than none", "with -1 descriptors", raw(`{"Kind":"ready","Files":-1}`)},
		{"descriptors that do not come", "no descriptor has come", func(w *wire) {
			raw(`{"Kind":"ready","Files":1}`)(w)
			io.WriteString(w.conn, "\x01")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			owner, heir := wires(t)
			tc.say(heir)
			if _, _, err := owner.receive(kindReady, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestWillCheck has an heir of other versions, or another configuration, say so.
func TestWillCheck(t *testing.T) {
	cfg := must(config.Parse("lb.toml", []byte(twoPools)))
	for _, tc := range []struct {
		name, want string
		change     func(*will)
	}{
		{"the same", "", func(*will) {}},
		{"table", "the connection table is of version 9, this fnatd knows 1", func(w *will) { w.Table = 9 }},
		{"interfaces", "[dataplane] interfaces", func(w *will) { w.Dataplane.Interfaces = []string{"eth7"} }},
	} {
		w := will{State: state.Version, Table: conntrack.Version, Daemon: cfg.Daemon, Dataplane: cfg.Dataplane}
		tc.change(&w)
		err := w.check(cfg)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
}
