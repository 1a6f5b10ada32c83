package daemon

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/xsk"
)

// An upgrade is a conversation between the fnatd that runs, the owner, and one of
// another binary that it has started, the heir:
//
//	heir                          owner
//	hello ──────────────────────▶       what it is, what states it can read
//	      ◀────────────────────── will  settings, locks, listeners
//	ready ──────────────────────▶       all is made that can be made beforehand
//	                                    workers stop
//	      ◀──────────────────── estate  state, frames, sockets
//	workers run, XDP program is replaced
//	serving ────────────────────▶       looks on whether packets go through
//	      ◀────────────────────── done  and ends
//
// Until it has sent the estate the owner has changed nothing, and goes on if anything
// is wrong. After that it ends the heir and begins anew, as after a crash: the
// state has changed under its hands. Either may say why it gives up: failed.
type message struct {
	Kind   string
	Error  string  `json:",omitempty"` // of failed
	Hello  *hello  `json:",omitempty"`
	Will   *will   `json:",omitempty"`
	Estate *estate `json:",omitempty"`
	Files  int     // descriptors that come with it
}

// Kinds of messages.
const (
	kindHello   = "hello"
	kindWill    = "will"
	kindReady   = "ready"
	kindEstate  = "estate"
	kindServing = "serving"
	kindDone    = "done"
	kindFailed  = "failed"
)

// A hello is what an heir says first.
type hello struct {
	Version string
	PID     int
}

// A will is what an heir needs to make itself ready. Its descriptors: the state, the lock
// beside the control socket, the control socket, and the pin directory and the metrics'
// listener if there are.
type will struct {
	State     uint64 // version of the state file, for a fnatd that knows only 1 of it; others ask the file
	Table     int    // and of the connection table in it
	Daemon    config.Daemon
	Dataplane config.Dataplane
	Pinned    bool // there is a pin directory
	Metrics   bool // there is a listener of metrics
	Ports     []portWill
}

// A portWill is an interface as it is served.
type portWill struct {
	Name   string
	MTU    int // what frames were made for
	XDP    bpf.Mode
	Reason string
	Queues int
	Frames xsk.Mode
	Since  string
}

// check says why this fnatd cannot go on where the one of the will is, with the
// configuration of its own.
func (w *will) check(cfg *config.Config) error {
	if w.Table != conntrack.Version {
		return cannotInherit(fmt.Errorf("the connection table is of version %d, this fnatd knows %d", w.Table, conntrack.Version))
	}
	return fixed(&config.Config{Daemon: w.Daemon, Dataplane: w.Dataplane}, cfg)
}

// An estate is what only one can have at a time. Its descriptors: for each worker those
// of its UMEM and sockets.
type estate struct {
	Workers []workerEstate
}

// A workerEstate is a UMEM and the sockets on it, port by port and queue by queue.
type workerEstate struct{ UMEM xsk.Estate }

// files returns how many descriptors e comes with.
func (e *workerEstate) files() int { return 1 + len(e.UMEM.Sockets) }

// A wire is one end of the conversation.
type wire struct{ conn *net.UnixConn }

// newWire returns one end, and the other one to be given to another process.
func newWire() (*wire, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	other := os.NewFile(uintptr(fds[1]), "heir")
	w, err := openWire(os.NewFile(uintptr(fds[0]), "owner"))
	if err != nil {
		other.Close()
		return nil, nil, err
	}
	return w, other, nil
}

// openWire takes over a descriptor of one end.
func openWire(f *os.File) (*wire, error) {
	defer f.Close() // FileConn duplicates it
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("not a unix socket")
	}
	return &wire{u}, nil
}

func (w *wire) close() { w.conn.Close() }

// Bounds of a message, far above what an honest one needs, and of the descriptors that
// the kernel passes at a time (SCM_MAX_FD is 253).
const (
	maxMessage = 64 << 20
	maxFiles   = 1 << 16
	filesChunk = 128
)

// send sends m and descriptors, which stay the caller's.
func (w *wire) send(m *message, fds ...int) error {
	m.Files = len(fds)
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := w.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
		return err
	}
	for len(fds) > 0 {
		n := min(len(fds), filesChunk)
		if _, _, err := w.conn.WriteMsgUnix([]byte{byte(n)}, unix.UnixRights(fds[:n]...), nil); err != nil {
			return err
		}
		fds = fds[n:]
	}
	return nil
}

// receive waits for the next message, which must be of a kind, and its descriptors.
func (w *wire) receive(kind string, patience time.Duration) (*message, []int, error) {
	_ = w.conn.SetReadDeadline(time.Now().Add(patience)) // a socket has deadlines
	var size [4]byte
	if _, err := io.ReadFull(w.conn, size[:]); err != nil {
		return nil, nil, silence(err, kind, patience)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxMessage {
		return nil, nil, fmt.Errorf("a message of %d bytes: the other side is no fnatd", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(w.conn, b); err != nil {
		return nil, nil, silence(err, kind, patience)
	}
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, nil, fmt.Errorf("a message that cannot be read: %w", err)
	}
	fds, err := w.receiveFiles(m.Files)
	switch {
	case err != nil:
	case m.Kind == kindFailed:
		err = errors.New(m.Error)
	case m.Kind != kind:
		err = fmt.Errorf("it said %q where %q was due", m.Kind, kind)
	default:
		return &m, fds, nil
	}
	closeAll(fds)
	return nil, nil, err
}

func silence(err error, kind string, patience time.Duration) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it has not said %q within %v", kind, patience)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET):
		return fmt.Errorf("it ended before it said %q", kind)
	}
	return err
}

func (w *wire) receiveFiles(n int) (fds []int, err error) {
	if n < 0 || n > maxFiles {
		return nil, fmt.Errorf("a message with %d descriptors", n)
	}
	for len(fds) < n && err == nil {
		var count [1]byte
		oob := make([]byte, unix.CmsgSpace(4*filesChunk))
		var got int
		if _, got, _, _, err = w.conn.ReadMsgUnix(count[:], oob); err == nil {
			var some []int
			some, err = rights(oob[:got])
			fds = append(fds, some...)
		}
	}
	if err == nil && len(fds) != n {
		err = fmt.Errorf("%d descriptors have come, want %d", len(fds), n)
	}
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, nil
}

func rights(oob []byte) (fds []int, err error) {
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range all {
		some, err := unix.ParseUnixRights(&all[i])
		if err != nil {
			return fds, err
		}
		fds = append(fds, some...)
	}
	if len(fds) == 0 {
		return nil, errors.New("no descriptor has come where one was due")
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
