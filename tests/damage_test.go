package tests

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Where things are in a state file: internal/state and conntrack say so.
const (
	notesAt    = 4 << 10
	tableAt    = 8 << 20
	marksAt    = tableAt + 64
	registryAt = marksAt + 64*128 // as many shards
	localsAt   = registryAt + 1<<16*64
	shardsAt   = localsAt + 1<<12*32
)

// TestStartsOnADamagedState puts damage of many kinds into the state that a killed fnatd
// has left. The next one must come up each time, say in one line what has become of the
// connections, and forward.
func TestStartsOnADamagedState(t *testing.T) {
	b := newBed(t, matrix[0], 1)
	b.inMemory()
	b.mirror(b.Servers[0], 0)
	b.start(b.web(0))
	conns := b.kept(300, 80)
	b.each(conns, func(i int) error { return bounce(conns[i]) })
	b.eventually("there are notes", func() bool { return b.stateFile()[notesAt] != 0 || b.stateFile()[notesAt+4<<20-2<<10] != 0 })
	b.kill()
	whole := b.stateFile()
	r := rand.New(rand.NewPCG(7, 8))
	noise := func(from, to int) func([]byte) []byte {
		return func(f []byte) []byte {
			for at := from; at < min(to, len(f)); at++ {
				f[at] = byte(r.Uint32())
			}
			return f
		}
	}
	type trial struct {
		name  string
		spoil func([]byte) []byte
		want  string // in the line: of a refusal, or if it begins with "lost=", of an adoption
	}
	trials := []trial{
		{"nothing", func(f []byte) []byte { return f }, "lost=0"},
		{"notes", noise(notesAt, tableAt), "lost=0"},
		{"one_client", func(f []byte) []byte { f[find(t, f, conns[7])+15] ^= 1; return f }, "lost=1"},
		{"marks", noise(marksAt, registryAt), "lost="},
		{"registry", noise(registryAt, registryAt+1<<20), "lost=300"},
		{"local_addresses", noise(localsAt, shardsAt), "lost=300"},
		{"some_shards", noise(shardsAt, shardsAt+1<<20), "lost="},
		{"all_shards", noise(shardsAt, len(whole)), "lost="},
		{"table", noise(marksAt, len(whole)), "lost="},

		{"magic", noise(0, 8), "it is no state of fnatd"},
		{"header", noise(8+8, notesAt), "its header is damaged"},
		{"version", poke(8, 9), "its header is damaged"},
		{"table_magic", noise(tableAt, tableAt+8), "there is no connection table in it"},
		{"table_version", poke(tableAt+8, 2), "connection table of version 2, this fnatd knows 1"},
		{"table_header", noise(tableAt+16, tableAt+48), "the header is damaged"},
		{"clock", noise(tableAt+48, tableAt+56), "its clock is damaged"},
		{"everything", noise(0, len(whole)), "it is no state of fnatd"},
	}
	for _, size := range []int{0, 1, notesAt, tableAt} {
		trials = append(trials, trial{fmt.Sprint("first_bytes_", size), func(f []byte) []byte { return f[:size] }, "are too few: it was cut off"})
	}
	for _, size := range []int{tableAt + 64, tableAt + 4099, registryAt + 12345, len(whole) / 2, len(whole) - 2<<20} {
		trials = append(trials, trial{fmt.Sprint("first_bytes_", size), func(f []byte) []byte { return f[:size] }, "are there"})
	}
	for i := range 10 {
		trials = append(trials, trial{fmt.Sprint("hundred_bits_", i), func(f []byte) []byte {
			for range 100 {
				f[marksAt+r.IntN(len(f)-marksAt)] ^= 1 << r.IntN(8)
			}
			return f
		}, "lost="})
	}
	for _, test := range trials {
		t.Run(test.name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(b.dir, "state"), test.spoil(slices.Clone(whole)), 0o600); err != nil {
				t.Fatal(err)
			}
			b.start(b.web(0))
			b.checkVerdict(t, test.want)
			if answer := b.tell("stats"); !strings.Contains(answer, "connections") {
				t.Errorf("fnatctl stats: %s", answer)
			}
			if err := bounce(b.kept(1, 80)[0]); err != nil {
				t.Errorf("a new connection: %v", err)
			}
			if test.want == "lost=0" {
				b.each(conns, func(i int) error { return bounce(conns[i]) })
			}
			b.stop()
		})
	}
}

// checkVerdict looks for the line that says what has become of the connections.
func (b *bed) checkVerdict(t *testing.T, want string) {
	t.Helper()
	var said []string
	for line := range strings.Lines(b.lb.Log()) {
		if strings.Contains(line, "adopted") {
			said = append(said, line)
		}
	}
	message := `msg="state not adopted: the connection table is empty"`
	if strings.HasPrefix(want, "lost=") {
		message = `msg="adopted the connections of an earlier fnatd`
	}
	if len(said) != 1 || !strings.Contains(said[0], message) || !strings.Contains(said[0], want) {
		t.Errorf("fnatd said %q, want %q with %q, once", said, message, want)
	}
}

// stateFile returns what the bed's state file holds.
func (b *bed) stateFile() []byte {
	b.Helper()
	f, err := os.ReadFile(filepath.Join(b.dir, "state"))
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// find returns where in a state file a connection is: at its client.
func find(t *testing.T, f []byte, c net.Conn) int {
	t.Helper()
	client := c.LocalAddr().(*net.TCPAddr)
	at := bytes.Index(f[shardsAt:], binary.NativeEndian.AppendUint16(slices.Clone(client.IP.To16()), uint16(client.Port)))
	if at < 0 {
		t.Fatalf("connection of %v is not in the state", client)
	}
	return shardsAt + at
}

// poke returns a function that sets a byte.
func poke(at int, to byte) func([]byte) []byte {
	return func(f []byte) []byte {
		f[at] = to
		return f
	}
}
