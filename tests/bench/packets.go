package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/tests/bench/traffic"
)

var packetColumns = []column{
	{"carried", "packets/s", thousands},
	{"of offered", "", thousands},
}

const packetNote = `UDP frames of 60 bytes (64 with the check sequence), sources at random among so many flows, as many as the
generator can send from CPU 0. What is carried is counted at the other end of the balancer's wire. The balancer has
CPU 1; frames for AF_XDP are received on CPU 0. asavie/xdp cannot send by another interface than it receives by, so
its reflector sends back.`

// packetContenders are who carry datagrams.
func packetContenders() []contender {
	return []contender{
		reflector("own", false), reflector("asavie", true),
		nft(), fnatd("fnatd", "", false),
	}
}

// runPackets measures how many of the smallest packets each contender carries.
func (r *run) runPackets() error {
	t := r.report.table("Packets a second", packetNote, packetColumns...)
	return r.rounds(t, packetContenders(), func(c contender) error {
		for _, flows := range []int{1, 1000, 100_000} {
			sent, carried, err := r.carried(c, flows)
			if err != nil {
				return fmt.Errorf("%d flows: %w", flows, err)
			}
			t.row(fmt.Sprintf("%d flows", flows), c.name).add(carried, sent)
		}
		return nil
	})
}

// carried overloads one contender.
func (r *run) carried(c contender, flows int) (sent, carried float64, err error) {
	b, err := r.bedOf(c)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if c.kernel {
		if err := b.receiveThreaded(); err != nil {
			return 0, 0, err
		}
	}
	// The switch's end of the wire, ahead of its bridge; or the client's.
	at, ifname := b.Switch, "lb"
	if c.oneArm {
		at, ifname = b.Client, "eth0"
	}
	sink, err := b.kit.Sink(at, ifname, false)
	if err != nil {
		return 0, 0, err
	}
	b.atClose(sink.Close)
	pattern, err := b.udpPattern(flows)
	if err != nil {
		return 0, 0, err
	}
	b.background(func(ctx context.Context) error {
		return b.kit.Generate(ctx, b.Client, "eth0", loadCPU, pattern)
	})
	// New flows come first, and they cost more.
	if err := b.sleep(settle + time.Duration(flows)*20*time.Microsecond); err != nil {
		return 0, 0, err
	}
	n, seconds, err := b.counted(r.time)
	return float64(n.Sent) / seconds, float64(n.UDP) / seconds, err
}

// udpPattern is as many of the smallest datagrams as go, of so many flows.
func (b *bed) udpPattern(flows int) (*traffic.Pattern, error) {
	l, err := b.link(b.Client, "eth0", b.Balancer, "wan0")
	if err != nil {
		return nil, err
	}
	return &traffic.Pattern{
		Frame: packettest.UDP{
			Link: l, Src: packet.Endpoint{Addr: packet.AddrFrom4(make([]byte, 4))},
			Dst: packet.EndpointFrom(vip(packetPort)), Payload: make([]byte, 18),
		}.Frame(),
		Sources: flood, Flows: flows,
	}, nil
}

// counted returns what the generator and the sinks count in some time.
func (b *bed) counted(length time.Duration) (n traffic.Counts, seconds float64, err error) {
	before, err := b.kit.Counts()
	if err != nil {
		return n, 0, err
	}
	begin := time.Now()
	if err := b.sleep(length); err != nil {
		return n, 0, err
	}
	now, err := b.kit.Counts()
	return now.Minus(before), time.Since(begin).Seconds(), err
}
