package tests

import (
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// proofTime is for how long the XDP program lets through what may be of a connection
// that is being made; and a little more.
const proofTime = 600 * time.Millisecond

// badACKsEndInXDP has the XDP program tell forged segments from those of connections:
// of before it could, of before fnatd was killed, and of before another one took over.
func badACKsEndInXDP(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.meet()
	b.start(b.web(0))
	r := b.rawClient()
	var pairs []*pair
	another := func() *pair {
		p := b.connect(accepted)
		pairs = append(pairs, p)
		return p
	}
	const forged = 100
	var guessed uint64 // forged segments that are right by chance
	check := func() {
		b.Helper()
		another()
		b.eventually("connections are counted", func() bool { return b.guardStats().BadACKs == "xdp" })
		p := another()
		p.send(p.client, p.server, megabyte) // right behind the handshake
		time.Sleep(proofTime)
		for _, p := range pairs {
			p.exchange()
		}
		count := func(event string) uint64 {
			g := b.guardStats()
			return g.Count(event)
		}
		dropped, bad, good := count("bad_ack_in_xdp"), count("bad_ack"), count("good_ack")
		for range forged {
			r.src.Port++
			r.send(packettest.TCP{Flags: packet.ACK, Seq: 4711, Ack: 815})
		}
		b.eventually("the forged segments are dropped", func() bool {
			guessed = count("good_ack") - good
			return count("bad_ack")-bad == forged-guessed
		})
		b.forget(accepted, guessed)
		if n := count("bad_ack_in_xdp") - dropped; n < forged/2 { // less what is left to the worker on purpose
			b.Errorf("%d of %d were dropped in XDP", n, forged)
		}
	}
	check()
	if n := b.drops("bad_cookie"); n != forged-guessed {
		b.Errorf("%d drops are counted as bad_cookie, want %d", n, forged-guessed)
	}
	b.kill()
	b.start(b.web(0))
	check()
	if _, err := b.lb.Upgrade(""); err != nil {
		b.Fatal(err)
	}
	check()
}
