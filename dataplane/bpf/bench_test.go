package bpf

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// linuxOptions are those of a Linux client's SYN.
var linuxOptions = []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}

// BenchmarkProgram runs the program over one frame again and again. The kernel does
// not restore what it repeats, and an answered SYN is none any more, so a program of
// our own writes the frame anew and calls the one under test. What that costs by
// itself is told by the case nothing, and is to be subtracted from the others.
func BenchmarkProgram(b *testing.B) {
	syn4 := packettest.TCP{Src: endpoint("198.51.100.7:40000"), Dst: tcp4.Virtual, Flags: packet.SYN, Options: linuxOptions}
	syn6 := packettest.TCP{Src: endpoint("[2001:db8:7::1]:40000"), Dst: tcp6.Virtual, Flags: packet.SYN, Options: linuxOptions}
	bare, ack, ack6, ssh := syn4, syn4, syn6, syn4
	bare.Options, ack.Flags, ack6.Flags, ssh.Dst.Port = nil, packet.ACK, packet.ACK, 22
	answer := Guard{Offers: both(full), Answer: true}
	limited := Guard{Offers: both(full), Answer: true, Limit: math.MaxUint16}
	for _, bb := range []struct {
		name    string
		guard   Guard
		frame   packettest.TCP
		verdict uint32
		known   byte // the count of each flow
	}{
		{name: "nothing", guard: answer, frame: syn4, verdict: xdpPass},
		{name: "syn4", guard: answer, frame: syn4, verdict: xdpTX},
		{name: "syn6", guard: answer, frame: syn6, verdict: xdpTX},
		{name: "syn4_without_options", guard: answer, frame: bare, verdict: xdpTX},
		{name: "syn4_of_limited_sources", guard: limited, frame: syn4, verdict: xdpTX},
		{name: "syn4_shed", guard: Guard{}, frame: syn4, verdict: xdpDrop},
		{name: "ack_to_guarded_service", guard: answer, frame: ack, verdict: xdpRedirect},
		{name: "ack_of_known_flow", guard: Guard{Known: true}, frame: ack, verdict: xdpRedirect, known: 1},
		{name: "ack6_of_known_flow", guard: Guard{Known: true}, frame: ack6, verdict: xdpRedirect, known: 1},
		{name: "bad_ack", guard: Guard{Known: true}, frame: ack, verdict: xdpDrop},
		{name: "bad_ack6", guard: Guard{Known: true}, frame: ack6, verdict: xdpDrop},
		{name: "ssh_to_vip", guard: answer, frame: ssh, verdict: xdpPass},
	} {
		b.Run(bb.name, func(b *testing.B) {
			r := newGuardedRig(b, bb.guard)
			counts, lines, err := r.CountFlows(flowHash, 1<<22) // of a million connections
			must(b, err)
			for i := range counts {
				counts[i] = bb.known
				lines[i/64] += bb.known
			}
			prog := r.objs.FnatdXdp
			if bb.name == "nothing" {
				prog = somebodys(b)
			}
			frame := bb.frame.Frame().Bytes()
			again := restoring(b, frame, prog)
			b.ResetTimer()
			// What the budget admits, or is a sample, comes first.
			verdict, each, err := again.Benchmark(frame, b.N+2*synBudget, nil)
			must(b, err)
			b.ReportMetric(float64(each), "ns/op")
			if verdict != bb.verdict {
				b.Errorf("verdict %d, want %d", verdict, bb.verdict)
			}
		})
	}
}

// restoring returns a program that makes of whatever it gets the frame, which is a TCP
// segment without VLAN tags from some random source, and calls prog with it.
func restoring(t testing.TB, frame []byte, prog *ebpf.Program) *ebpf.Program {
	t.Helper()
	calls, err := ebpf.NewMap(&ebpf.MapSpec{
		Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1,
		Contents: []ebpf.MapKV{{Key: uint32(0), Value: prog}},
	})
	must(t, err)
	t.Cleanup(func() { calls.Close() })
	const data, dataEnd, drop = 0, 4, 1
	source := int16(14 + 12) // IPv4, the last word of the address
	if frame[12] == 0x86 {
		source = 14 + 8 + 4 // IPv6, the second
	}
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R3, asm.R6, data, asm.Word),
		asm.LoadMem(asm.R2, asm.R6, dataEnd, asm.Word),
		asm.Sub.Reg(asm.R3, asm.R2),
		asm.Add.Imm(asm.R3, int32(len(frame))),
		asm.Mov.Reg(asm.R2, asm.R3),
		asm.JEq.Imm(asm.R2, 0, "whole"),
		asm.FnXdpAdjustTail.Call(),
		asm.FnGetPrandomU32.Call().WithSymbol("whole"),
		asm.LoadMem(asm.R2, asm.R6, data, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, dataEnd, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, int32(len(frame))),
		asm.JGT.Reg(asm.R4, asm.R3, "cut"),
	}
	at := 0
	for ; at+8 <= len(frame); at += 8 {
		code = append(code,
			asm.LoadImm(asm.R1, int64(binary.LittleEndian.Uint64(frame[at:])), asm.DWord),
			asm.StoreMem(asm.R2, int16(at), asm.R1, asm.DWord))
	}
	for ; at < len(frame); at++ {
		code = append(code, asm.StoreImm(asm.R2, int16(at), int64(frame[at]), asm.Byte))
	}
	code = append(code,
		asm.StoreMem(asm.R2, source, asm.R0, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, calls.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, drop).WithSymbol("cut"),
		asm.Return(),
	)
	again, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "MIT", Instructions: code, // as bpf2go says of prog
	})
	must(t, err)
	t.Cleanup(func() { again.Close() })
	return again
}

// BenchmarkSYNBudget is what a worker pays for each batch.
func BenchmarkSYNBudget(b *testing.B) {
	r := newGuardedRig(b, Guard{})
	budget, err := r.SYNBudget(loopback(b), 0, 2048)
	must(b, err)
	for name, syns := range map[string]int{"without_syns": 0, "with_syns": 3} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				budget.Received(64, syns)
			}
		})
	}
}
