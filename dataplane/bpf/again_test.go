package bpf

import (
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A SYN that was shed and comes again a second later finds room where one that comes for
// the first time does not; and no more than there is for such.
func TestShedSYNComesAgain(t *testing.T) {
	for name, test := range map[string]struct {
		src, other string
		to         ServiceKey
	}{
		"ipv4": {"198.51.100.7:40000", "198.51.100.8:40000", tcp4},
		"ipv6": {"[2001:db8:7::1]:40000", "[2001:db8:7::2]:40000", tcp6},
	} {
		t.Run(name, func(t *testing.T) {
			r := newGuardedRig(t, Guard{})
			b, err := r.SYNBudget(loopback(t), 0, 2048)
			must(t, err)
			b.Received(0, 0)
			must(t, r.RememberShed())
			syn, other := plainSYN(test.src, test.to), plainSYN(test.other, test.to)
			renumbered := syn
			renumbered.Seq++
			r.runs(t, synBudget, other.Frame().Bytes(), xdpRedirect)
			waitForGeneration()
			r.run(t, syn.Frame().Bytes(), xdpDrop, Shed)
			r.run(t, syn.Frame().Bytes(), xdpDrop, Shed) // at once: who repeats like that is no client
			time.Sleep(time.Second)                      // no generation is as long
			r.run(t, syn.Frame().Bytes(), xdpRedirect, Service)
			r.run(t, other.Frame().Bytes(), xdpDrop, Shed)
			r.run(t, renumbered.Frame().Bytes(), xdpDrop, Shed)
			if got := r.runs(t, 2*synBudget, syn.Frame().Bytes(), xdpRedirect); got != againBudget-synBudget-1 {
				t.Errorf("%d SYNs that come again were redirected, want %d", got, againBudget-synBudget-1)
			}
			time.Sleep(3 << 29)
			r.run(t, other.Frame().Bytes(), xdpDrop, Shed) // nobody remembers
		})
	}
}

// A generation is cleared by what is shed in the one before.
func TestShedSYNsAreForgotten(t *testing.T) {
	onOneCPU(t) // each clears lines by its own count
	r := newGuardedRig(t, Guard{})
	must(t, r.RememberShed())
	var memory *ebpf.Map
	must(t, r.objs.Again.Lookup(uint32(0), &memory))
	defer memory.Close()
	if size := memory.MaxEntries() * memory.ValueSize(); size != ShedMemory {
		t.Errorf("it takes %d bytes, want %d", size, ShedMemory)
	}
	const generations = 4 // AGAIN_GENERATIONS
	lines := memory.MaxEntries() / generations
	full := [8]uint64{1, 2, 3, 4, 5, 6, 7, 8}
	syn := plainSYN("198.51.100.7:40000", tcp4).Frame().Bytes()
	for try := 0; ; try++ {
		for line := range memory.MaxEntries() {
			must(t, memory.Put(line, full))
		}
		waitForGeneration()
		began := Monotonic() >> 29
		r.runs(t, againBudget+int(lines), syn, xdpDrop) // the first are not shed: so many, if chance has its bit in full
		if Monotonic()>>29 != began && try < 9 {
			continue // the machine has other things to do
		}
		next := uint32(began+1) % generations
		for line := range lines {
			var bits [8]uint64
			must(t, memory.Lookup(next*lines+line, &bits))
			if bits != [8]uint64{} {
				t.Fatalf("line %d of the next generation holds %x", line, bits)
			}
		}
		return
	}
}

// onOneCPU has the test run on one CPU.
func onOneCPU(t *testing.T) {
	var all, one unix.CPUSet
	runtime.LockOSThread() // for good: the thread ends with the test's goroutine
	must(t, unix.SchedGetaffinity(0, &all))
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	must(t, unix.SchedSetaffinity(0, &one))
}

// waitForGeneration returns a little after one has begun; they are 2^29 ns apart.
func waitForGeneration() { time.Sleep(1<<29 - Monotonic()%(1<<29) + 10<<20) }
