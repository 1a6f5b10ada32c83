package route

import "slices"

// ids gives numbers to the keys of hops and finds them, by open addressing with linear
// probing: two look-ups are a part of each new connection, and in a Go map they took
// three times as long. The zero ids has none.
type ids struct {
	keys  []hopKey // by HopID; the first is of none
	slots []HopID  // a power of two, at least four times the keys: the first nearly always decides; 0 is empty
}

// find returns the id of k, or 0.
func (x *ids) find(k *hopKey) HopID {
	mask := uint64(len(x.slots) - 1)
	for at := k.hash() & mask; ; at = (at + 1) & mask {
		if id := x.slots[at]; id == 0 || x.keys[id] == *k {
			return id
		}
	}
}

// intern returns the id of k, a new one if it has none, or 0 if all are given out.
func (x *ids) intern(k hopKey) HopID {
	if 4*(len(x.keys)+1) > len(x.slots) {
		x.grow()
	}
	if id := x.find(&k); id != 0 {
		return id
	}
	if len(x.keys) >= int(firstReflected) {
		return 0
	}
	x.keys = append(x.keys, k)
	return x.enter(HopID(len(x.keys) - 1))
}

// enter puts an id, whose key has none yet, into an empty slot.
func (x *ids) enter(id HopID) HopID {
	mask := uint64(len(x.slots) - 1)
	at := x.keys[id].hash() & mask
	for x.slots[at] != 0 {
		at = (at + 1) & mask
	}
	x.slots[at] = id
	return id
}

func (x *ids) grow() {
	if len(x.keys) == 0 {
		x.keys = make([]hopKey, 1)
	}
	x.slots = make([]HopID, max(16, 2*len(x.slots)))
	for id := 1; id < len(x.keys); id++ {
		x.enter(HopID(id))
	}
}

func (x *ids) clone() ids { return ids{slices.Clone(x.keys), slices.Clone(x.slots)} }

// hash needs no secret: hops are neighbours, of whom the kernel keeps no more than its
// own table has room for.
func (k *hopKey) hash() uint64 {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	a := keyOf(&k.addr)
	h := (a.hi*odd ^ a.lo) * odd
	return (h ^ h>>32 ^ uint64(k.link)<<32 ^ uint64(k.mtu)) * odd >> 32
}
