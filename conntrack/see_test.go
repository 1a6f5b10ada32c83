package conntrack

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Both ways to see find one of the places that have the tag, and say the same of whose
// connection is absent, whatever the buckets hold.
func TestSee(t *testing.T) {
	const shards, buckets, slots = 2, 8, 50
	r := rand.New(rand.NewPCG(3, 4))
	lines := shardLines{buckets: make([]bucket, shards*(buckets+slots)), shard: buckets + slots, index: buckets, slots: slots}
	ways := map[string]func(*Batch, int) uint64{"one_by_one": lines.see}
	if seesTogether {
		ways["together"] = func(b *Batch, n int) uint64 {
			return seeAll(&b.keys[0], &b.homes[0], &b.hints[0], n, &lines)
		}
	}
	tags := []uint64{0, 1, 3, 0x8001, 0xffff} // so few that many are alike
	found, absentees := 0, 0
	for range 2000 {
		for i := range lines.buckets {
			l := &lines.buckets[i]
			*l = bucket{}
			for place := range bucketEntries {
				if tag := tags[r.IntN(len(tags))]; tag != 0 && r.IntN(2) == 0 {
					l.change(place, tag, r.Uint64N(slots+3)) // 0 and the last ones are none
				}
			}
			if r.IntN(2) == 0 {
				l[passedWord] += onePassed * r.Uint64N(3)
			}
		}
		var b Batch
		n := r.IntN(MaxBatch + 1)
		for i := range n {
			b.keys[i] = Key{hash: r.Uint64()&^0xffff_0000 | tags[r.IntN(len(tags))]<<tagBits, shard: r.Uint32N(shards)}
			b.homes[i] = lines.home(b.keys[i].shard, b.keys[i].hash)
		}
		for name, see := range ways {
			for i := range b.hints {
				b.hints[i] = 99
			}
			absent := see(&b, n)
			for i := range n {
				k, l := &b.keys[i], &lines.buckets[b.homes[i]]
				var right []uint32
				any := false
				for place := range bucketEntries {
					if l[place/4]>>(place%4*tagBits)&0xffff == tagOf(k.hash) {
						any = true
						at, ok := lines.conn(k.shard, l.slot(place))
						if !ok {
							at = 0
						}
						right = append(right, at)
					}
				}
				if !any {
					right = []uint32{0}
				}
				if !slices.Contains(right, b.hints[i]) {
					t.Fatalf("%s: %d of %d: got hint %d, want one of %v", name, i, n, b.hints[i], right)
				}
				if b.hints[i] != 0 {
					found++
				}
				want := !any && l.passed() == 0
				if want {
					absentees++
				}
				if got := absent>>i&1 != 0; got != want {
					t.Fatalf("%s: %d of %d: got absent %v, want %v", name, i, n, got, want)
				}
			}
			if n < MaxBatch && (b.hints[n] != 99 || absent>>n != 0) {
				t.Fatalf("%s: more than %d were looked for", name, n)
			}
		}
	}
	if found < 1000 || absentees < 1000 {
		t.Errorf("%d were found and %d absent, too few to prove anything", found, absentees)
	}
}
