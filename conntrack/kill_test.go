package conntrack

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/packet"
)

// A process churns a table in shared memory and keeps a ledger of what it has done,
// also in shared memory; it is killed at any instant, and the next one adopts the table
// and goes on. What the ledger says is there must be there after every kill.

const (
	churnClients   = 4096
	churnTemplates = churnClients / 64 // as many as there are client addresses
	churners       = 4
	churnVariable  = "FNATD_TEST_CHURN" // set in the process that is to be killed
	far            = 1 << 24            // ms: expires in no test
)

// The table is fuller than full at times, so that half-open connections are evicted.
var churnConfig = Config{MaxConnections: churnClients - churnClients/8, Shards: 16, HashKey: testKey}

// A ledger says which connections a process has told us are established, and how they
// look.
type ledger struct {
	running atomic.Uint32 // the process has come to the table
	steps   atomic.Uint64 // that it has done
	clients [churnClients + churnTemplates]record
}

// A record is the word given for one client, or for one template. It is not given while
// the connection is about to change.
type record struct {
	given atomic.Bool
	conn  Conn
}

func (r *record) take() { r.given.Store(false) }

func (r *record) give(c *Conn) {
	r.conn = outside(c)
	r.given.Store(true)
}

// A churn is the table of one such process, in either of the two.
type churn struct {
	*testing.T
	tb       *Table
	ledger   *ledger
	bindings [3]BindingID // the third is of UDP
	locals   []LocalID
}

// shared maps size bytes of a file, which are zero at first.
func shared(t *testing.T, f *os.File, size int) []byte {
	t.Helper()
	if err := f.Truncate(int64(size)); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	return mem
}

var ledgerBytes = lines(int(unsafe.Sizeof(ledger{})))

func ledgerIn(mem []byte) *ledger {
	l, _ := carve[ledger](mem, 1)
	return &l[0]
}

func (ch *churn) configure() {
	ch.bindings = [3]BindingID{
		mustBind(ch, ch.tb, packet.ProtoTCP, virtual, real1),
		mustBind(ch, ch.tb, packet.ProtoTCP, virtual, real2),
		mustBind(ch, ch.tb, packet.ProtoUDP, virtual, real1),
	}
	ch.locals = []LocalID{mustAddLocal(ch, ch.tb, "10.0.1.1", 1024, 65535), mustAddLocal(ch, ch.tb, "10.0.1.2", 1024, 65535)}
}

// churnUntilKilled is the process that is to be killed.
func churnUntilKilled(t *testing.T) {
	mem := shared(t, os.NewFile(3, "table"), Measure(churnConfig).Memory())
	l := ledgerIn(shared(t, os.NewFile(4, "ledger"), ledgerBytes))
	l.running.Store(1)
	tb, _, err := Adopt(mem)
	if err != nil {
		t.Fatal(err)
	}
	ch := &churn{T: t, tb: tb, ledger: l}
	ch.configure()
	began, epoch := time.Now(), tb.Clock()
	for w := range churners {
		go func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 0))
			for {
				ch.step(r, w+churners*r.IntN(churnClients/churners), epoch+uint32(time.Since(began).Milliseconds()))
				l.steps.Add(1)
			}
		}()
	}
	select {}
}

// step does something to a client's connection, which no other goroutine touches
// unless it is half-open, or closed and due.
func (ch *churn) step(r *rand.Rand, client int, now uint32) {
	if r.IntN(16) == 0 {
		ch.tb.Expire(r.IntN(ch.tb.Shards()), now, 16, func(*Shard, *Conn) uint32 { return 0 })
	}
	if client < churnTemplates {
		ch.template(client, now)
	}
	rec := &ch.ledger.clients[client]
	rec.take()
	b := ch.bindings[0]
	if client%8 == 7 {
		b = ch.bindings[2]
	}
	f := flow(ch.tb.Binding(b).Proto, clientN(client), virtual)
	k := ch.tb.InboundKey(&f)
	s := ch.tb.Lock(k)
	c := s.Find(k, &f)
	if c == nil {
		s.Unlock()
		if _, _, ok := ch.tb.Reserve(); !ok {
			return
		}
		s = ch.tb.Lock(k)
		var why packet.Reason
		if c, why = s.Insert(k, &f, b, ch.locals, nil, now); why != packet.Kept {
			ch.tb.Release()
			s.Unlock()
			return
		}
	}
	defer s.Unlock()
	switch p := r.IntN(8); {
	case p == 0:
		s.Remove(c)
		return
	case p == 1 && f.Proto == packet.ProtoTCP:
		s.SetState(c, Closed, 10, now)
		return
	case c.State.HalfOpen() && p == 2: // left so
		return
	case f.Proto == packet.ProtoUDP:
		s.SetState(c, UDP, far, now)
		s.SetAlarm(c, now+far/2)
		c.SetNoticeTries(r.Uint32())
	default:
		ch.change(s, c, r.Uint32(), now)
	}
	rec.give(c)
}

// change makes c that of another number, in several steps: the number says what its
// fields are and which real server it has.
func (ch *churn) change(s *Shard, c *Conn, number, now uint32) {
	s.Begin(c, false)
	defer s.Commit()
	c.SeqDelta, c.AckDelta = number, number
	if b := ch.bindings[number%2]; b != c.Binding() {
		if why := s.Rebind(c, b, ch.locals, nil); why != packet.Kept {
			ch.Error(why)
		}
	}
	c.RealSeq, c.TimestampDelta = number, number
	s.SetState(c, Established, far, now)
}

// template makes the template of a client, or renews or removes it.
func (ch *churn) template(client int, now uint32) {
	rec := &ch.ledger.clients[churnClients+client]
	rec.take()
	address := clientN(client * 64).Addr
	k := ch.tb.TemplateKey(packet.ProtoTCP, address, virtual)
	_, _, ok := ch.tb.Reserve()
	s := ch.tb.Lock(k)
	defer s.Unlock()
	c := s.FindTemplate(k, packet.ProtoTCP, address, virtual)
	switch {
	case c == nil && ok:
		if c, _ = s.InsertTemplate(k, address, ch.bindings[now%2], far, now); c != nil {
			rec.give(c)
			return
		}
	case c != nil && now%4 == 0:
		s.Remove(c)
	}
	if ok {
		ch.tb.Release()
	}
}

func TestAdoptAfterKillsAtAnyInstant(t *testing.T) {
	if os.Getenv(churnVariable) != "" {
		churnUntilKilled(t)
	}
	runtime.LockOSThread() // the process dies with the thread that made it
	defer runtime.UnlockOSThread()
	const kills = 120
	var files [2]*os.File
	for i, name := range []string{"table", "ledger"} {
		fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		files[i] = os.NewFile(uintptr(fd), name)
		defer files[i].Close()
	}
	mem := shared(t, files[0], Measure(churnConfig).Memory())
	l := ledgerIn(shared(t, files[1], ledgerBytes))
	tb, err := New(churnConfig, mem)
	if err != nil {
		t.Fatal(err)
	}
	first := &churn{T: t, tb: tb}
	first.configure()
	trial := memory(len(mem))
	var sum Adoption
	promised := 0
	for range kills {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestAdoptAfterKillsAtAnyInstant$")
		cmd.Env = append(os.Environ(), churnVariable+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.ExtraFiles = files[:]
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		l.running.Store(0)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); l.running.Load() == 0; time.Sleep(100 * time.Microsecond) {
			if time.Now().After(deadline) {
				t.Fatal("the process does not come to the table")
			}
		}
		time.Sleep(rand.N(12 * time.Millisecond)) // its own adoption is some of it
		cmd.Process.Kill()
		cmd.Wait()
		if s := cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != syscall.SIGKILL {
			t.Fatalf("the process ended by itself: %v", cmd.ProcessState)
		}
		copy(trial, mem) // the next process adopts what this one left, not what we made of it
		heir, found := adopted(t, trial)
		promised += (&churn{T: t, tb: heir, ledger: l}).inherited(first)
		if found.Entries > 0 || found.Lost() > 0 {
			t.Fatalf("adoption: %+v, want nothing lost", *found)
		}
		sum.add(found)
	}
	t.Logf("%d steps; of %d connections promised, and %d kept, none is lost or changed; %d changes were undone",
		l.steps.Load(), promised, sum.Kept, sum.Undone)
	if promised < kills*churnClients/64 {
		t.Errorf("only %d connections were promised over %d kills", promised, kills)
	}
}

// inherited compares the table with the ledger and with the IDs that the first one gave
// out, and returns how many connections the ledger has.
func (ch *churn) inherited(first *churn) (promised int) {
	ch.Helper()
	ch.configure()
	if ch.bindings != first.bindings || !slices.Equal(ch.locals, first.locals) {
		ch.Fatalf("IDs %v and %v, want %v and %v", ch.bindings, ch.locals, first.bindings, first.locals)
	}
	got := map[[2]any]Conn{}
	for _, c := range all(ch.tb) {
		got[[2]any{packet.Endpoint{Addr: c.Client, Port: c.ClientPort}, c.State == Template}] = c
		if n := c.SeqDelta; c.State == Established && (c.AckDelta != n || c.RealSeq != n || c.TimestampDelta != n || c.Binding() != ch.bindings[n%2]) {
			ch.Fatalf("half changed: %+v", c)
		}
	}
	for i := range ch.ledger.clients {
		rec := &ch.ledger.clients[i]
		if !rec.given.Load() {
			continue
		}
		promised++
		is, ok := got[[2]any{packet.Endpoint{Addr: rec.conn.Client, Port: rec.conn.ClientPort}, rec.conn.State == Template}]
		if !ok {
			ch.Fatalf("lost: %+v", rec.conn)
		}
		if is != rec.conn {
			ch.Fatalf("connection %+v, want %+v", is, rec.conn)
		}
	}
	return promised
}
