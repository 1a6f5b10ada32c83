package tests

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	bpflink "github.com/cilium/ebpf/link"

	"github.com/fnatd/fnatd/internal/netns"
)

// attach puts an XDP program on an interface until the test ends. Not every
// kernel has netem; those that fnatd runs on have XDP.
func (b *bed) attach(on *netns.Host, ifname string, instructions ...asm.Instruction) {
	b.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "somebody", Type: ebpf.XDP, License: "GPL", Instructions: instructions})
	if err != nil {
		b.Fatal(err)
	}
	defer prog.Close() // the link holds it
	index, err := on.Index(ifname)
	if err != nil {
		b.Fatal(err)
	}
	err = on.Do(func() error {
		l, err := bpflink.AttachXDP(bpflink.XDPOptions{Program: prog, Interface: index})
		if err == nil {
			b.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

// From linux/bpf.h.
const (
	xdpDrop = 1
	xdpPass = 2
)

// loseOneIn is a program that drops one packet in n, at random.
func loseOneIn(n int32) []asm.Instruction {
	return []asm.Instruction{
		asm.FnGetPrandomU32.Call(),
		asm.Mod.Imm(asm.R0, n),
		asm.JEq.Imm(asm.R0, 0, "lose"),
		asm.Mov.Imm(asm.R0, xdpPass),
		asm.Return(),
		asm.Mov.Imm(asm.R0, xdpDrop).WithSymbol("lose"),
		asm.Return(),
	}
}

// lossyLinks lose packets both ways, so that the ends tell each other by SACK
// (RFC 2018) which have arrived.
func lossyLinks(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	p := b.connect(accepted)
	b.attach(b.Client, "eth0", loseOneIn(50)...)
	b.attach(b.Servers[0], "eth0", loseOneIn(50)...)
	atClient, atServer := b.capture(b.Client), b.capture(b.Servers[0])
	for range 3 {
		p.send(p.client, p.server, megabyte)
		p.send(p.server, p.client, megabyte)
	}
	for _, c := range []*netns.Capture{atClient, atServer} {
		blocks := 0
		arrived := only(segments(b.frames(c)), func(s *segment) bool { return !s.sent })
		for _, s := range arrived {
			for _, edge := range sackEdges(s.options) {
				blocks++
				// What is acknowledged out of order is near what is in order: RFC
				// 2018, section 4, allows it below as well, for a duplicate.
				if d := int32(edge - s.ack); d < -len32(megabyte) || d > len32(megabyte) {
					b.Fatalf("SACK edge %d is %d from the acknowledgement: %v", edge, d, s)
				}
			}
		}
		if blocks == 0 {
			b.Error("no SACK block has arrived, want some for the packets lost")
		}
	}
}

func len32(s string) int32 { return int32(len(s)) }

// sackEdges returns the edges of the blocks in a segment's SACK option (kind 5).
func sackEdges(o []byte) (edges []uint32) {
	for i := 0; i < len(o) && o[i] != 0; {
		switch o[i] {
		case 1:
			i++
		case 5:
			for at := i + 2; at < i+int(o[i+1]); at += 4 {
				edges = append(edges, binary.BigEndian.Uint32(o[at:]))
			}
			fallthrough
		default:
			i += int(o[i+1])
		}
	}
	return edges
}
