package bpf

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
)

// A dead fnatd's program leads to the socket that it is given by the next one, and goes
// with its maps when that one's is there.
func TestPredecessor(t *testing.T) {
	privateNetns(t)
	dir, l := pinDir(t), veth(t, "a0", "a1")
	dead := mustLoad(t, dir)
	dead.attach(t, l, Auto, Native, "the driver has native XDP")
	must(t, dead.Prune())
	_, _, err := dead.CountFlows(flowHash, flowPlaces)
	must(t, err)
	must(t, dead.Close(true))

	index := l.Attrs().Index
	lock := LockPins(Options{PinDir: dir})
	defer lock.Close()
	p := FindPredecessor(lock, map[string]int{"a1": index}, Auto)
	if p == nil {
		t.Fatal("none is found")
	}
	defer p.Close()
	if p.Mode(index) != Native {
		t.Errorf("mode %v, want %v", p.Mode(index), Native)
	}
	s := newSocket(t, index)
	defer s.Close()
	must(t, p.SetSocket(index, 0, s.FD()))
	if err := p.SetSocket(index, 1000, s.FD()); err == nil {
		t.Error("a queue that there is no place for: no error")
	}
	if err := p.sockets[index].known.Delete(uint32(0)); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("the program goes by counts that nobody keeps: %v", err)
	}
	if err := p.sockets[index].xsks.Delete(uint32(0)); err != nil { // an XSKMAP is not to be read
		t.Errorf("the program does not have the socket: %v", err)
	}
}

// Without its maps, in another mode, or when another program has taken its place there is
// no predecessor, and nothing else is wrong.
func TestNoPredecessor(t *testing.T) {
	privateNetns(t)
	dir, l := pinDir(t), veth(t, "a0", "a1")
	first := mustLoad(t, dir)
	first.attach(t, l, Auto, Native, "the driver has native XDP")
	was := attached(t, l)
	must(t, first.Close(true))
	for _, kind := range []string{xsksPin, portsPin, knownPin} {
		if _, err := os.Stat(mapPin(dir, kind, uint32(was))); err != nil {
			t.Error(err)
		}
	}
	second := mustLoad(t, dir)
	second.attach(t, l, Auto, Native, takenOver)
	must(t, second.Prune())
	entries, err := os.ReadDir(mapsDir(dir))
	if err != nil || len(entries) != 3 || filepath.Base(mapPin(dir, knownPin, uint32(attached(t, l)))) != entries[1].Name() {
		t.Errorf("pinned %v, %v, want the maps of the program in force", entries, err)
	}
	must(t, second.Close(true))
	lock := LockPins(Options{PinDir: dir})
	defer lock.Close()
	find := func(mode Mode) *Predecessor {
		return FindPredecessor(lock, map[string]int{"a1": l.Attrs().Index}, mode)
	}
	if p := find(Auto); p == nil {
		t.Error("the one in force is not found")
	}
	if find(Generic) != nil {
		t.Error("found, where another mode is wanted")
	}
	must(t, os.Remove(mapPin(dir, xsksPin, uint32(attached(t, l)))))
	if find(Auto) != nil {
		t.Error("found without one of its maps")
	}
}
