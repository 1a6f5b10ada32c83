package bpf

import (
	"strings"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/synproxy"
)

// plainSYN returns a SYN without options to a service.
func plainSYN(src string, to ServiceKey) packettest.TCP {
	return packettest.TCP{Src: endpoint(src), Dst: to.Virtual, Flags: packet.SYN}
}

// runs runs the program over n copies of a frame and returns how many got a verdict.
func (r *guardedRig) runs(t *testing.T, n int, frame []byte, verdict uint32) (got int) {
	t.Helper()
	for range n {
		if v, _ := r.pass(t, frame); v == verdict {
			got++
		}
	}
	return got
}

const (
	synBudget   = 128 // SYN_BUDGET
	againBudget = 384 // AGAIN_BUDGET
)

// What is over the budget is shed, nothing else is, and what user space has done
// with makes room.
func TestSYNBudget(t *testing.T) {
	r := newGuardedRig(t, Guard{})
	b, err := r.SYNBudget(loopback(t), 0, 2048)
	must(t, err)
	syn := plainSYN("198.51.100.7:40000", tcp4).Frame().Bytes()
	syn6 := plainSYN("[2001:db8:7::1]:40000", tcp6).Frame().Bytes()
	ack := plainSYN("198.51.100.7:40000", tcp4)
	ack.Flags = packet.ACK
	want := func(redirected, shed int) {
		t.Helper()
		if got := r.runs(t, redirected+shed, syn, xdpRedirect); got != redirected {
			t.Fatalf("%d of %d SYNs were redirected, want %d", got, redirected+shed, redirected)
		}
	}
	b.Received(0, 0)
	want(synBudget-1, 0)
	r.run(t, syn6, xdpRedirect, Service) // one budget for all services of a queue
	want(0, 50)
	r.run(t, syn, xdpDrop, Shed)
	r.run(t, syn6, xdpDrop, Shed)
	r.run(t, ack.Frame().Bytes(), xdpRedirect, Service)
	r.run(t, join(eth(0x800), ip4("192.0.2.2", 17, 0), to(53)), xdpRedirect, Service)
	if n, _ := r.GuardCounts(tcp4); n != (GuardCounts{SYNs: synBudget + 50, Shed: 51}) {
		t.Errorf("counted %+v", n)
	}

	b.Received(64, 60)
	want(60, 10)
	b.Received(64, 0)
	want(0, 10)
	b.Received(0, 0) // all others were lost on the way
	want(synBudget, 10)
}

// What was lost on the way frees its share also of a ring that is never empty.
func TestSYNBudgetOfABusyRing(t *testing.T) {
	r := newGuardedRig(t, Guard{})
	const ring = 128
	b, err := r.SYNBudget(loopback(t), 0, ring)
	must(t, err)
	syn := plainSYN("198.51.100.7:40000", tcp4).Frame().Bytes()
	if got := r.runs(t, synBudget+1, syn, xdpRedirect); got != synBudget {
		t.Fatalf("%d SYNs were redirected, want %d", got, synBudget)
	}
	received := 0
	for ; r.runs(t, 1, syn, xdpRedirect) == 0; received += 32 {
		b.Received(32, 0)
		if received > 3*ring {
			t.Fatalf("%d others received, and SYNs are still shed", received)
		}
	}
	if received < ring {
		t.Errorf("SYNs were forgotten after %d others, when they might still be in the ring of %d", received, ring)
	}
}

// A worker that finds a ring empty while the kernel has not shown yet what it put
// there gets ahead of the count, and makes that good at the next empty ring.
func TestSYNBudgetAheadOfTheCount(t *testing.T) {
	r := newGuardedRig(t, Guard{})
	b, err := r.SYNBudget(loopback(t), 0, 2048)
	must(t, err)
	syn := plainSYN("198.51.100.7:40000", tcp4).Frame().Bytes()
	r.runs(t, 40, syn, xdpRedirect)
	b.Received(64, 0)
	b.Received(0, 0)
	b.Received(40, 40)
	if got := r.runs(t, 2*synBudget, syn, xdpRedirect); got != synBudget+40 {
		t.Errorf("%d SYNs were redirected, want %d", got, synBudget+40)
	}
	b.Received(0, 0)
	if got := r.runs(t, 2*synBudget, syn, xdpRedirect); got != 0 {
		t.Errorf("%d SYNs were redirected, want none: the ring was last seen empty before", got)
	}
	b.Received(0, 0)
	if got := r.runs(t, 2*synBudget, syn, xdpRedirect); got != synBudget {
		t.Errorf("%d SYNs were redirected, want %d", got, synBudget)
	}
}

func TestSYNBudgetAllocatesNothing(t *testing.T) {
	r := newGuardedRig(t, Guard{})
	b, err := r.SYNBudget(loopback(t), 0, 64)
	must(t, err)
	if n := testing.AllocsPerRun(1000, func() { b.Received(7, 1); b.Received(0, 0) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSYNBudgetOfAnotherQueue(t *testing.T) {
	r := newGuardedRig(t, Guard{})
	if _, err := r.SYNBudget(loopback(t), r.maxQueues(), 64); err == nil {
		t.Error("an impossible queue has a budget")
	}
	other, err := r.SYNBudget(loopback(t), 1, 64)
	must(t, err)
	syn := plainSYN("198.51.100.7:40000", tcp4).Frame().Bytes()
	r.runs(t, synBudget, syn, xdpRedirect)
	other.Received(0, 0)
	r.run(t, syn, xdpDrop, Shed)
}

// A source may send so many SYNs at once, then so many a second; others do not feel it.
func TestLimit(t *testing.T) {
	const limit = 5
	r := newGuardedRig(t, Guard{Offers: both(full), Answer: true, Limit: limit})
	for _, test := range []struct {
		name              string
		to                ServiceKey
		src, same, others string
	}{
		{"ipv4", tcp4, "198.51.100.7:40000", "198.51.100.7:40001", "198.51.100.8:40000"},
		{"ipv6", tcp6, "[2001:db8:7:1::1]:40000", "[2001:db8:7:1:a:b:c:d]:1", "[2001:db8:7:2::1]:40000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			start := time.Now()
			got := r.runs(t, 10*limit, plainSYN(test.src, test.to).Frame().Bytes(), xdpTX)
			got += r.runs(t, 10*limit, plainSYN(test.same, test.to).Frame().Bytes(), xdpTX)
			if most := limit + int(time.Since(start)*limit/time.Second) + 1; got < limit || got > most {
				t.Errorf("%d SYNs of one source were answered, want %d to %d", got, limit, most)
			}
			if got := r.runs(t, limit, plainSYN(test.others, test.to).Frame().Bytes(), xdpTX); got != limit {
				t.Errorf("%d SYNs of another source were answered, want %d", got, limit)
			}
			n, err := r.GuardCounts(test.to)
			must(t, err)
			if n.Limited == 0 || n.Answered+n.Limited != n.SYNs {
				t.Errorf("counted %+v", n)
			}
			for deadline := time.Now().Add(10 * time.Second); ; {
				if r.runs(t, 1, plainSYN(test.src, test.to).Frame().Bytes(), xdpTX) == 1 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the source is never heard again")
				}
			}
		})
	}
	// Another guard has limits of its own.
	must(t, r.SetServices(map[ServiceKey]*Guard{tcp4: {Limit: 1}, {packet.ProtoTCP, endpoint("192.0.2.9:80")}: {Limit: 1}}))
	for _, to := range []string{"192.0.2.1:80", "192.0.2.9:80"} {
		syn := plainSYN("198.51.100.77:40000", ServiceKey{packet.ProtoTCP, endpoint(to)}).Frame().Bytes()
		r.run(t, syn, xdpRedirect, Service)
	}
	r.run(t, plainSYN("198.51.100.77:40000", tcp4).Frame().Bytes(), xdpDrop, Limited)
}

// A guard keeps its counters as long as it is there, and begins with none.
func TestGuardKeepsItsCounters(t *testing.T) {
	g := &Guard{Offers: both(full), Answer: true}
	r := newGuardedRig(t, *g)
	key := func(i int) ServiceKey {
		k := tcp4
		k.Virtual.Port = uint16(1000 + i)
		return k
	}
	send := func(n int, to ServiceKey) {
		r.runs(t, n, plainSYN("198.51.100.7:40000", to).Frame().Bytes(), xdpTX)
	}
	want := func(to ServiceKey, syns uint64) {
		t.Helper()
		if n, err := r.GuardCounts(to); err != nil || n.SYNs != syns || n.Answered != syns {
			t.Errorf("%s: counted %+v, %v, want %d", to.Virtual, n, err, syns)
		}
	}
	must(t, r.SetServices(map[ServiceKey]*Guard{key(0): g, key(1): g}))
	send(3, key(0))
	send(5, key(1))
	must(t, r.SetServices(map[ServiceKey]*Guard{key(1): {Offers: both(full), Answer: true, Limit: 1000}, key(2): g}))
	want(key(0), 0)
	want(key(1), 5)
	want(key(2), 0)
	send(1, key(1))
	send(2, key(2))
	want(key(1), 6)
	want(key(2), 2)
	must(t, r.SetGuard(key(2), &Guard{Offers: both(full), Answer: true, Limit: 7}))
	want(key(2), 2)

	// A service that is there without a guard, or comes back, has nothing to tell.
	must(t, r.SetServices(map[ServiceKey]*Guard{key(1): nil, key(2): g}))
	want(key(1), 0)
	must(t, r.SetServices(map[ServiceKey]*Guard{key(1): g, key(2): g}))
	want(key(1), 0)
	want(key(2), 2)
	must(t, r.SetServices(map[ServiceKey]*Guard{key(2): g}))

	// All slots are found again, and none counts what its last owner did.
	room := int(r.objs.Guards.MaxEntries()) - 1
	for round := range 3 {
		all := map[ServiceKey]*Guard{key(2): g}
		for i := range room - 1 {
			all[key(10_000+round*room+i)] = g
		}
		must(t, r.SetServices(all))
		for k := range all {
			if n, err := r.GuardCounts(k); err != nil || k != key(2) && n != (GuardCounts{}) {
				t.Fatalf("round %d: %s begins with %+v, %v", round, k.Virtual, n, err)
			}
		}
		for k := range all {
			send(1, k)
		}
		must(t, r.SetServices(map[ServiceKey]*Guard{key(2): g}))
	}
	want(key(2), 5)
}

// A guarded service is found without the hash of services, if the place of its first look
// was idle, and is a service as long as it is among those and no longer.
func TestFirstLook(t *testing.T) {
	g := &Guard{Offers: both(full), Answer: true}
	r := newGuardedRig(t, *g)
	syn4, syn6 := plainSYN("198.51.100.7:40000", tcp4), plainSYN("[2001:db8:7::1]:40000", tcp6)
	without := func(key ServiceKey, f func()) { // the hash
		slot := r.services.have[key.bpf()]
		must(t, r.objs.Services.Delete(key.bpf()))
		f()
		must(t, r.objs.Services.Put(key.bpf(), slot))
	}
	without(tcp4, func() { r.run(t, syn4.Frame().Bytes(), xdpTX, Answered) })
	without(tcp6, func() { r.run(t, syn6.Frame().Bytes(), xdpTX, Answered) })

	// Of two with the same first look, one is found by the hash alone.
	second := tcp4
	for second.Virtual.Port++; firstLook(second) != firstLook(tcp4); second.Virtual.Port++ {
	}
	must(t, r.SetServices(map[ServiceKey]*Guard{tcp4: g, second: g}))
	other := plainSYN("198.51.100.7:40000", second).Frame().Bytes()
	r.run(t, other, xdpTX, Answered)
	without(second, func() { r.run(t, other, xdpPass, Passed) })
	without(tcp4, func() { r.run(t, syn4.Frame().Bytes(), xdpTX, Answered) })

	must(t, r.SetServices(map[ServiceKey]*Guard{tcp4: nil, second: g}))
	r.run(t, syn4.Frame().Bytes(), xdpRedirect, Service)
	must(t, r.SetServices(map[ServiceKey]*Guard{second: g}))
	r.run(t, syn4.Frame().Bytes(), xdpPass, Passed)
	must(t, r.SetServices(map[ServiceKey]*Guard{tcp4: g}))
	r.run(t, other, xdpPass, Passed)
	without(tcp4, func() { r.run(t, syn4.Frame().Bytes(), xdpTX, Answered) })
}

// Services that could not be set are none, also if one of them got a guard.
func TestFirstLookOfNoService(t *testing.T) {
	g := &Guard{Offers: both(full), Answer: true}
	r := newGuardedRig(t, *g)
	must(t, r.SetServices(nil))
	r.objs.Services.Close()
	if err := r.SetServices(map[ServiceKey]*Guard{tcp4: g}); err == nil {
		t.Fatal("no error")
	}
	r.run(t, plainSYN("198.51.100.7:40000", tcp4).Frame().Bytes(), xdpPass, Passed)
}

func TestGuardErrors(t *testing.T) {
	r := newGuardedRig(t, Guard{})
	full := make(map[ServiceKey]*Guard)
	for i := range r.objs.Guards.MaxEntries() {
		full[ServiceKey{packet.ProtoTCP, packet.Endpoint{Addr: tcp4.Virtual.Addr, Port: uint16(i + 1)}}] = &Guard{}
	}
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"udp", r.SetServices(map[ServiceKey]*Guard{udp4: {}}), "xdp program: guard of 192.0.2.2:53: only TCP has SYNs"},
		{"none", r.SetGuard(udp4, &Guard{}), "xdp program: guard of 192.0.2.2:53: the service has none"},
		{"too_many", r.SetServices(full), ": the program has room for 4095 guards"},
	} {
		if test.err == nil || !strings.HasSuffix(test.err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.name, test.err, test.want)
		}
	}
	// A failed change leaves what was there.
	r.run(t, plainSYN("198.51.100.7:40000", tcp4).Frame().Bytes(), xdpRedirect, Service)
	must(t, r.SetServices(plain(tcp4)))
}

// The keys that come with an epoch replace those before, and the clock its offset.
func TestSetCookieKeys(t *testing.T) {
	r := newGuardedRig(t, Guard{Offers: both(full), Answer: true})
	secret := synproxy.NewSecret()
	for at := int64(0); at < 300; at += 20 {
		r.offset++
		r.setKeys(t, secret.Keys(time.Unix(at, 0)))
		s := randomSYN()
		r.checkAnswer(t, &s, &full)
	}
}

// No cookie is made with a key that anybody could know.
func TestNoAnswerWithoutKeys(t *testing.T) {
	privateNetns(t)
	p := mustLoad(t, pinDir(t))
	defer openSocket(t, p, loopback(t)).Close()
	must(t, p.SetServices(map[ServiceKey]*Guard{tcp4: {Offers: both(full), Answer: true}}))
	p.run(t, plainSYN("198.51.100.7:40000", tcp4).Frame().Bytes(), xdpRedirect, Service)
}

// While nobody serves the queue nobody would take the ACK: the client shall not
// believe that it is connected.
func TestNoAnswerWhileUnserved(t *testing.T) {
	privateNetns(t)
	p := mustLoad(t, pinDir(t))
	sock := openSocket(t, p, loopback(t))
	keys := synproxy.NewSecret().Keys(time.Now())
	must(t, p.SetCookieKeys(&keys, 0))
	must(t, p.SetServices(map[ServiceKey]*Guard{tcp4: {Offers: both(full), Answer: true}}))
	syn := plainSYN("198.51.100.7:40000", tcp4).Frame().Bytes()
	p.run(t, syn, xdpTX, Answered)
	must(t, sock.Close())
	p.run(t, syn, xdpDrop, Unserved)
	must(t, p.PassAfter(time.Nanosecond))
	p.run(t, syn, xdpPass, Orphaned) // the kernel answers it, or whoever listens there
	if n, err := p.GuardCounts(tcp4); err != nil || n.SYNs != 1 {
		t.Errorf("counted %+v, %v, want one SYN", n, err)
	}
}
