package xsk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/dataplane/bpf"
	"github.com/fnatd/fnatd/dataplane/xsk"
)

// heirEnv makes the test binary the heir in another process.
const heirEnv = "FNATD_XSK_HEIR"

// heirControl is the heir's descriptor of a socket pair, of which the test has the
// other end. Messages: "ready" from the heir; to it the Estate, and "stop"; from it
// a heirReport.
const heirControl = 3

type heirReport struct {
	Census   xsk.Census
	Received uint64
	Kernel   xsk.KernelStats
}

func TestMain(m *testing.M) {
	if os.Getenv(heirEnv) == "" {
		os.Exit(m.Run())
	}
	if err := beHeir(); err != nil {
		fmt.Fprintln(os.Stderr, "heir:", err)
		os.Exit(1)
	}
}

// beHeir forwards from the first socket to the second until it is told to stop.
func beHeir() error {
	if _, err := unix.Write(heirControl, []byte("ready")); err != nil {
		return err
	}
	u, socks, err := receiveEstate()
	if err != nil {
		return err
	}
	var stop [16]byte
	for {
		xsk.Wait(socks[:1], time.Millisecond)
		pass(socks[0], socks[1])
		_, _, err := unix.Recvfrom(heirControl, stop[:], unix.MSG_DONTWAIT)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	for range 1000 {
		pass(socks[0], socks[1])
		if c := u.Census(); c.TX+c.Completion == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	stats := socks[0].Stats()
	report, err := json.Marshal(heirReport{u.Census(), stats.Received, stats.Kernel})
	if err != nil {
		return err
	}
	_, err = unix.Write(heirControl, report)
	return err
}

func receiveEstate() (*xsk.UMEM, []*xsk.Socket, error) {
	text, rights := make([]byte, 1<<17), make([]byte, unix.CmsgSpace(4*3))
	n, m, _, _, err := unix.Recvmsg(heirControl, text, rights, 0)
	if err != nil {
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil || len(messages) != 1 {
		return nil, nil, fmt.Errorf("%d control messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, nil, err
	}
	return inherit(text[:n], fds)
}

// startHeir starts the other process and waits until it is ready. It returns the
// other end of its control socket.
func startHeir(t *testing.T) (control int, wait func() error) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(pair[0]) })
	tv := unix.NsecToTimeval(int64(5 * time.Second)) // the heir's patience with a slow machine, and ours
	must(t, unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
	its := os.NewFile(uintptr(pair[1]), "control")
	defer its.Close()

	ctx, cancel := context.WithCancel(context.Background())
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), heirEnv+"=1")
	cmd.ExtraFiles = []*os.File{its}
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(cancel)
	var ready [16]byte
	n, err := unix.Read(pair[0], ready[:])
	if err != nil || string(ready[:n]) != "ready" {
		t.Fatalf("the heir says %q, %v", ready[:n], err)
	}
	return pair[0], func() error { return <-ended }
}

// sendPaced sends n frames at 10,000 a second, and at most twice as fast where it
// was held up: the rig is to lose none of them for another reason.
func sendPaced(wire, n int) error {
	start := time.Now()
	for sent := 0; sent < n; {
		due := min(n, int(time.Since(start)/(100*time.Microsecond)))
		for range min(due-sent, 20) {
			if _, err := unix.Write(wire, frame(uint32(sent))); err != nil {
				return err
			}
			sent++
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// While 10,000 packets come each second, another process takes over and the owner
// goes. None is lost, repeated or out of order.
func TestInheritInAnotherProcess(t *testing.T) {
	const packets, ownersPart = 6000, 2000
	// Rings for 0.4 s, so that a busy machine may halt the change for as long.
	r := newRig(t, xsk.Config{Frames: 16384, RingSize: 4096}, xsk.Options{}, bpf.Native)
	control, wait := startHeir(t)
	sent := make(chan error, 1)
	go func() { sent <- sendPaced(r.wireA, packets) }()

	in, out := r.socks[0], r.socks[1]
	for received := 0; received < ownersPart; {
		xsk.Wait(r.socks[:1], time.Millisecond)
		received += pass(in, out)
	}
	e, fds, err := r.umem.Bequeath()
	must(t, err)
	text, err := json.Marshal(e)
	must(t, err)
	before := [2]xsk.Progress{in.Progress(), out.Progress()}
	must(t, unix.Sendmsg(control, text, unix.UnixRights(fds...), nil, 0))
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if in.Progress().Received != before[0].Received && out.Progress().Queued != before[1].Queued {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the heir does not forward: progress %+v, now %+v, %+v", before, in.Progress(), out.Progress())
		}
	}
	must(t, r.umem.Abandon())
	r.umem, r.socks = nil, nil

	must(t, <-sent)
	r.expect(r.wireB, 0, packets)
	_, err = unix.Write(control, []byte("stop"))
	must(t, err)
	answer := make([]byte, 4096)
	n, err := unix.Read(control, answer)
	must(t, err)
	var report heirReport
	must(t, json.Unmarshal(answer[:n], &report))
	must(t, wait())
	if c := report.Census; !c.Conserved() || c.Held+c.RX+c.TX+c.Completion != 0 || c.Frames != 16384 {
		t.Errorf("the heir's census: %+v", c)
	}
	if report.Received != packets || report.Kernel != (xsk.KernelStats{TXRingEmpty: report.Kernel.TXRingEmpty}) {
		t.Errorf("the heir reports %+v", report)
	}
	if n := drain(t, r.wireB); n != 0 {
		t.Errorf("%d frames too many on the wire", n)
	}
	// Neither process holds the queues any more.
	r.openSockets(small, xsk.Options{})
	r.exchange(r.wireA, r.socks[0], r.socks[1], r.wireB, 100)
}
