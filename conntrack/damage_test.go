package conntrack

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/siphash"
)

func TestAdoptDropsWhatDoesNotFit(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(*Shard, *Conn)
		want  Fault
	}{
		{"client", func(s *Shard, c *Conn) { c.Client[15] ^= 1 }, Unlisted},
		{"client port", func(s *Shard, c *Conn) { c.ClientPort ^= 1 }, Unlisted},
		{"local port", func(s *Shard, c *Conn) { c.LocalPort ^= 1 }, Unlisted},
		{"binding", func(s *Shard, c *Conn) { c.bound = 2 }, Unlisted},
		{"binding that there is not", func(s *Shard, c *Conn) { c.bound = 9 }, NoBinding},
		{"binding out of range", func(s *Shard, c *Conn) { c.bound = 1 << 30 }, Damaged},
		{"no binding", func(s *Shard, c *Conn) { c.bound = 0 }, Damaged},
		{"local address", func(s *Shard, c *Conn) { c.Local = 3 }, NoLocal},
		{"state", func(s *Shard, c *Conn) { c.State = 200 }, Damaged},
		{"state of UDP", func(s *Shard, c *Conn) { c.State = UDP }, Damaged},
		{"port of a template", func(s *Shard, c *Conn) { c.State, c.ClientPort = Template, 7 }, Damaged},
		{"local address of a template", func(s *Shard, c *Conn) { c.State, c.ClientPort = Template, 0 }, Damaged},
		{"template", func(s *Shard, c *Conn) { c.State, c.ClientPort, c.Local = Template, 0, 0 }, Unlisted},
		{"family", func(s *Shard, c *Conn) { c.Client[0] = 0x20 }, Damaged},
		{"index", func(s *Shard, c *Conn) { f := s.t.InboundFlow(c); s.index.remove(s.t.hash(&f, inbound), s.slot(c)) }, Unlisted},
		{"registry", func(s *Shard, c *Conn) { s.t.bindings[1].Real.Port++ }, NoBinding},
		{"registry's local address", func(s *Shard, c *Conn) { s.t.locals[1].Addr[15]++ }, NoLocal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tb, mem := tableIn(t, Config{MaxConnections: 100, Shards: 1})
			b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
			mustBind(t, tb, packet.ProtoTCP, virtual, real2)
			c, _ := open(tb, clientN(1), b, []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}, 0)
			with(t, tb, c, tc.spoil)
			if _, found := adopted(t, mem); found.Dropped[tc.want] != 1 || found.Lost() != 1 || found.Kept != 0 {
				t.Errorf("adoption: %+v, want one dropped as %v", *found, tc.want)
			}
		})
	}
}

// All that the index knows of a flow is its home and a tag, so a damaged flow is believed
// if it has those of one of the connection's two entries: at these 27 buckets of 15-bit
// tags once in 440,000 keys. This is such a key. What is kept is a sound table.
func TestAdoptBelievesWhatFitsByChance(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 100, Shards: 1, HashKey: siphash.Key{K0: 382646, K1: 2}})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	other := mustBind(t, tb, packet.ProtoTCP, virtual, real2)
	c, _ := open(tb, clientN(1), b, []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}, 0)
	with(t, tb, c, func(s *Shard, c *Conn) { c.bound = uint32(other) })
	heir, found := adopted(t, mem)
	if found.Kept != 1 || found.Lost() != 0 {
		t.Errorf("adoption: %+v, want the connection kept", *found)
	}
	expireAll(heir, heir.Clock()+1<<19)
	if err := heir.Check(); err != nil {
		t.Error(err)
	}
}

// What follows from a real server's address is mended.
func TestAdoptMendsTheRegistry(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 100, Shards: 1})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	open(tb, clientN(1), b, []LocalID{mustAddLocal(t, tb, "10.0.1.1", 1024, 65535)}, 0)
	want := tb.bindings[b].real
	tb.bindings[b].real ^= 2
	if heir, found := adopted(t, mem); found.Entries != 0 || found.Kept != 1 || heir.bindings[b].real != want {
		t.Errorf("adoption: %+v, want the connection kept", *found)
	}
}

func TestAdoptRefuses(t *testing.T) {
	_, mem := tableIn(t, Config{MaxConnections: 100, Shards: 4})
	for _, tc := range []struct {
		name, want string
		spoil      func(mem []byte) []byte
	}{
		{"nothing", "too few", func(mem []byte) []byte { return nil }},
		{"a few bytes", "too few", func(mem []byte) []byte { return mem[:63] }},
		{"cut off", "are there", func(mem []byte) []byte { return mem[:len(mem)-1] }},
		{"zeros", "no connection table", func(mem []byte) []byte { clear(mem); return mem }},
		{"another version", "of version 2, this fnatd knows 1", func(mem []byte) []byte { mem[8] = 2; return mem }},
		{"capacity", "header is damaged", func(mem []byte) []byte { mem[17] ^= 4; return mem }},
		{"key", "header is damaged", func(mem []byte) []byte { mem[24] ^= 4; return mem }},
		{"clock", "clock is damaged", func(mem []byte) []byte { mem[51] ^= 0x80; return mem }},
		{"checksum", "header is damaged", func(mem []byte) []byte { mem[40] ^= 4; return mem }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mem := tc.spoil(append(memory(len(mem))[:0], mem...))
			before := slices.Clone(mem)
			if _, _, err := Adopt(mem); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if !bytes.Equal(mem, before) {
				t.Error("the memory has changed")
			}
		})
	}
}

// Bits are flipped in 10,000 random places, one after the other and then many at once:
// what is left must be a sound table, and what is far from a bit must be kept.
func TestAdoptSurvivesFlippedBits(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 400, Shards: 2})
	populate(t, tb, 350)
	live := tb.Stats().Connections + tb.Stats().Templates
	r := rand.New(rand.NewPCG(3, 4))
	front := headerBytes + 2*markBytes + 8*bindingBytes
	shards := headerBytes + 2*markBytes + maxBindings*bindingBytes + maxLocals*localBytes
	trial := append(memory(len(mem))[:0], mem...)
	for _, test := range []struct{ flips, trials int }{{1, 10_000}, {19, 500}} {
		refused := 0
		for i := range test.trials {
			var at [19]int
			for f := range test.flips {
				switch r.IntN(4) {
				case 0:
					at[f] = r.IntN(front)
				case 1: // most of it is the registry, and empty
					at[f] = r.IntN(len(mem))
				default:
					at[f] = shards + r.IntN(len(mem)-shards)
				}
				trial[at[f]] ^= 1 << r.IntN(8)
			}
			heir, found, err := Adopt(trial)
			if err != nil {
				refused++
			} else {
				if err := heir.Check(); err != nil {
					t.Fatalf("trial %d: %v", i, err)
				}
				if test.flips == 1 && found.Entries == 0 && found.Lost() > 1 {
					t.Fatalf("trial %d: one bit cost %d connections: %+v", i, found.Lost(), *found)
				}
				if found.Kept > live+test.flips {
					t.Fatalf("trial %d: %d connections kept of %d", i, found.Kept, live)
				}
				expireAll(heir, heir.Clock()+1<<19)
				if err := heir.Check(); err != nil {
					t.Fatalf("trial %d, after expiry: %v", i, err)
				}
			}
			// A copy of the empty registry would take most of the time.
			copy(trial[:front], mem)
			copy(trial[shards:], mem[shards:])
			for _, at := range at {
				trial[at] = mem[at]
			}
		}
		if refused == 0 || refused > test.trials/2 {
			t.Errorf("%d of %d trials were refused for their header", refused, test.trials)
		}
	}
}

func TestAdoptSurvivesNoise(t *testing.T) {
	tb, mem := tableIn(t, Config{MaxConnections: 400, Shards: 2})
	populate(t, tb, 350)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 50 {
		trial := append(memory(len(mem))[:0], mem...)
		from := cacheLine + r.IntN(len(trial)-cacheLine)
		if i == 0 {
			from = cacheLine
		}
		to := from + r.IntN(len(trial)-from+1)
		for at := from; at < to; at++ {
			trial[at] = byte(r.Uint32())
		}
		heir, _ := adopted(t, trial)
		expireAll(heir, heir.Clock()+1<<19)
		if err := heir.Check(); err != nil {
			t.Fatal(err)
		}
	}
}
