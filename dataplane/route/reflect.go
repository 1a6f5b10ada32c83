package route

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/fnatd/fnatd/internal/packet"
)

// reflected holds the hops that Reflect has made. Ids are given out once, so a
// reader needs no lock: who has an id finds its hop.
type reflected struct {
	ids  atomic.Pointer[map[reflectKey]HopID] // replaced, never changed
	hops [maxReflected]atomic.Pointer[Hop]

	mu    sync.Mutex // of writers
	keys  []reflectKey
	links []link
}

type reflectKey struct {
	port  int
	mac   [6]byte
	vlans packet.VLANs
}

func newReflected() *reflected {
	r := &reflected{}
	r.ids.Store(&map[reflectKey]HopID{})
	return r
}

// Reflect returns the hop that sends frames back through a port, and in the same
// VLANs, to the station that a frame came from. The id is good for the life of the Resolver, over all
// generations. It is 0 if mac is no station's address, or if the 1024 that may be
// reflected are given out: look up the route then. Reflect allocates only for a
// station it has not seen before.
func (r *Resolver) Reflect(port int, mac [6]byte, vlans packet.VLANs) HopID {
	return r.reflected.hop(reflectKey{port, mac, vlans})
}

func (r *reflected) hop(k reflectKey) HopID {
	ids := *r.ids.Load()
	if id, ok := ids[k]; ok {
		return id
	}
	// The lowest bit of the first byte is set in group addresses (IEEE 802).
	if len(ids) == maxReflected || k.mac[0]&1 != 0 || k.mac == ([6]byte{}) {
		return 0
	}
	return r.add(k)
}

// add makes the hop of k.
func (r *reflected) add(k reflectKey) HopID {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := *r.ids.Load()
	if id, ok := ids[k]; ok {
		return id
	}
	if len(ids) == maxReflected {
		return 0
	}
	id := firstReflected + HopID(len(ids))
	r.hops[id-firstReflected].Store(k.hop(r.links))
	r.keys = append(r.keys, k)
	ids = maps.Clone(ids)
	ids[k] = id
	r.ids.Store(&ids)
	return id
}

// follow makes the hops anew after links have changed.
func (r *reflected) follow(links []link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links = links
	for i, k := range r.keys {
		r.hops[i].Store(k.hop(links))
	}
}

// hop makes the hop of k. A VLAN that the kernel has no interface for is like the
// port that it came by.
func (k reflectKey) hop(links []link) *Hop {
	l := &links[k.port]
	for i := range links {
		if links[i].port == int32(k.port) && links[i].vlans == k.vlans {
			l = &links[i]
		}
	}
	h := &Hop{Dst: k.mac, Src: l.mac, VLANs: k.vlans, Port: k.port, MTU: l.mtu, Resolved: l.index != 0}
	h.setPlainMTU()
	return h
}
