package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/tests/bench/load"
	"github.com/fnatd/fnatd/tests/bench/traffic"
)

// The legitimate clients beside the flood.
const (
	clientRate     = 200 // connections a second
	clientPatience = 3 * time.Second
)

var floodColumns = []column{
	{"offered", "SYN/s", thousands},
	{"answered", "SYN-ACK/s", thousands},
	{"of what goes", "%", percent},
	{"other answers", "/s", thousands},
	{"clients served", "%", percent},
	{"handshake p50", "ms", millis},
	{"p99", "ms", millis},
	{"exchange p50", "ms", millis},
	{"p99", "ms", millis},
	{"memory grown", "KiB", kibibytes},
	{"connections", "", thousands},
}

// Places of columns.
const (
	answered   = 1
	ofWhatGoes = 2
)

const floodNote = `SYNs of 74 bytes with random source, port and sequence number, and beside them 200 connections a second of real
clients: connect, 64 bytes, 128 bytes back; given up after 3 s. The generator and the clients have CPU 0,
which also takes all answers, the balancer's work and the servers CPU 1; frames for AF_XDP and XDP are received on
CPU 0, which so makes all that XDP answers, answers it and takes it back. What goes, on this rig, is
what the bare ones send back, who exchange the ends of a SYN, set ACK, and drop all else: by AF_XDP, which
is also what nft is measured by, or by XDP_TX. They serve no client. Memory is that of the process, or the kernel's slabs;
connections are those of the clients, and what is left of them, a while after their end.`

// floodContenders are who answers SYNs.
func floodContenders() []contender {
	return []contender{
		bareAFXDP(),
		bareXDP(),
		nftSynproxy(),
		fnatd("fnatd userspace", `synproxy = { answer = "userspace" }`, false),
		fnatd("fnatd xdp", `synproxy = { answer = "xdp" }`, true),
	}
}

// runFlood measures how each contender stands each rate, 0 being none and a
// negative one all that the generator can.
func (r *run) runFlood() error {
	goes := map[string]float64{} // answered by the bare ones, by setting and way; they come first
	t := r.report.table("SYN flood", floodNote, floodColumns...)
	return r.rounds(t, floodContenders(), func(c contender) error {
		for _, rate := range r.rates {
			setting := "all there is"
			if rate >= 0 {
				setting = thousands(rate) + " SYN/s"
			}
			if r.badACKs > 0 && rate != 0 {
				setting += fmt.Sprintf(" + %.0f %% bad ACKs", 100*r.badACKs)
			}
			row := t.row(setting, c.name)
			values, err := r.flooded(c, rate)
			if err != nil {
				return fmt.Errorf("%s: %w", setting, err)
			}
			way := fmt.Sprint(setting, c.xdp)
			if c.bare {
				goes[way] = values[answered]
			}
			if goes[way] > 0 { // else that one was not wanted
				values[ofWhatGoes] = values[answered] / goes[way]
			}
			row.add(values...)
		}
		return nil
	})
}

// flooded measures one contender under one rate.
func (r *run) flooded(c contender, rate float64) (values []float64, err error) {
	b, err := r.bedOf(c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.serve(balancerCPU); err != nil {
		return nil, err
	}
	if c.kernel {
		if err := b.receiveThreaded(); err != nil {
			return nil, err
		}
	}
	sink, err := b.kit.Sink(b.Client, "eth0", c.xdp)
	if err != nil {
		return nil, err
	}
	b.atClose(sink.Close)
	// What a processor sends to an idle interface it also receives there, and goes on
	// receiving while the generator sends. So real clients answer from the generator's,
	// and the balancer's does nothing for them.
	if err := b.steer(b.Client, "eth0", loadCPU); err != nil {
		return nil, err
	}
	pattern, err := b.synPattern(rate, r.badACKs)
	if err != nil {
		return nil, err
	}
	if rate != 0 {
		b.background(func(ctx context.Context) error {
			return b.kit.Generate(ctx, b.Client, "eth0", loadCPU, pattern)
		})
	}
	if err := b.sleep(settle); err != nil {
		return nil, err
	}
	before, err := b.memory()
	if err != nil {
		return nil, err
	}

	clients := make(chan result[*load.ShortResult], 1)
	go func() {
		clients <- resultOf((&load.Short{
			Target: vip(load.ShortPort), Sources: sources(), InFlight: 1 << 12,
			Rate: clientRate, Patience: clientPatience, Time: r.time,
		}).Run(b.ctx, b.Client, loadCPU))
	}()
	n, seconds, err := b.counted(r.time)
	got := <-clients
	after, err2 := b.memory()
	conns, err3 := b.connections()
	if err := errors.Join(err, got.err, err2, err3); err != nil {
		return nil, err
	}
	s := got.value
	return []float64{
		float64(n.Sent) / seconds, float64(n.SYNACK) / seconds, 0, float64(n.Reset+n.OtherTCP) / seconds,
		float64(s.Done) / float64(max(s.Begun, 1)),
		s.Handshakes.Quantile(0.5).Seconds(), s.Handshakes.Quantile(0.99).Seconds(),
		s.Exchanges.Quantile(0.5).Seconds(), s.Exchanges.Quantile(0.99).Seconds(),
		after - before, conns,
	}, nil
}

// settle is what a contender has to get used to the load, before it is measured.
const settle = 500 * time.Millisecond

// synPattern is a flood of SYNs as Linux sends them, and, as a share of all, of
// bare ACKs with random numbers.
func (b *bed) synPattern(rate, acks float64) (*traffic.Pattern, error) {
	l, err := b.link(b.Client, "eth0", b.Balancer, "wan0")
	if err != nil {
		return nil, err
	}
	segment := packettest.TCP{
		Link: l, Dst: packet.EndpointFrom(vip(load.ShortPort)), Window: 64240,
		Src: packet.Endpoint{Addr: packet.AddrFrom4(make([]byte, 4))},
	}
	syn, ack := segment, segment
	syn.Flags, syn.Options = packet.SYN, linuxSYN
	ack.Flags, ack.Options = packet.ACK, linuxACK
	return &traffic.Pattern{
		Frame: syn.Frame(), Side: ack.Frame(), SideShare: acks,
		Numbered: true, Sources: flood, Rate: max(rate, 0) / (1 - acks),
	}, nil
}

// The options of Linux's segments (RFC 9293, RFC 7323, RFC 2018). NOPs make the
// ACK as long as the SYN, as the generator wants.
var (
	linuxSYN = []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 1, 2, 3, 0, 0, 0, 0, 1, 3, 3, 7}
	linuxACK = []byte{1, 1, 8, 10, 0, 1, 2, 3, 0, 4, 5, 6, 1, 1, 1, 1, 1, 1, 1, 1}
)

// link returns the Ethernet header of what one end sends to another.
func (b *bed) link(from *netns.Host, fromName string, to *netns.Host, toName string) (l packettest.Link, err error) {
	src, err := from.MAC(fromName)
	if err != nil {
		return l, err
	}
	dst, err := to.MAC(toName)
	if err != nil {
		return l, err
	}
	copy(l.SrcMAC[:], src)
	copy(l.DstMAC[:], dst)
	return l, nil
}
