package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/asavie/xdp"

	"github.com/fnatd/fnatd/dataplane/xsk"
	"github.com/fnatd/fnatd/tests/bench/traffic"
)

// A reflector forwards frames without looking at them: what AF_XDP costs, and
// nothing else. It is a program of its own in the balancer's namespace, the way
// fnatd is.
func reflector(rings string, oneArm bool) contender {
	name := "AF_XDP reflector"
	if rings == "asavie" {
		name += ", asavie/xdp"
	}
	return contender{name: name, oneArm: oneArm, start: startReflector(rings)}
}

// bareAFXDP and bareXDP return contenders that answer SYNs without a cookie: what of
// a rate is the rig's.
func bareAFXDP() contender {
	return contender{name: "bare AF_XDP", bare: true, start: startReflector("bounce")}
}

func bareXDP() contender {
	return contender{name: "bare XDP_TX", xdp: true, bare: true, start: func(b *bed) error {
		link, err := b.kit.Bounce(b.Balancer, "wan0")
		if err != nil {
			return err
		}
		b.atClose(link.Close)
		return nil
	}}
}

// startReflector returns what starts the program with these rings.
func startReflector(rings string) func(*bed) error {
	return func(b *bed) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		p, err := b.onCore(self, "reflect", rings)
		if err != nil {
			return err
		}
		for deadline := time.Now().Add(startTime); time.Now().Before(deadline); {
			if strings.Contains(p.Output(), ready) {
				return nil
			}
			select {
			case <-p.Done():
				return fmt.Errorf("reflector ended: %w\n%s", p.Wait(), p.Output())
			case <-time.After(20 * time.Millisecond):
			}
		}
		return fmt.Errorf("reflector does not start:\n%s", p.Output())
	}
}

// ready is what a reflector says when it forwards.
const ready = "reflecting"

// reflect is the program.
func reflect(rings string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	unpin, err := traffic.Pin(balancerCPU)
	if err != nil {
		return err
	}
	defer unpin()
	kit, err := traffic.Load()
	if err != nil {
		return err
	}
	defer kit.Close()
	wan, err := net.InterfaceByName("wan0")
	if err != nil {
		return err
	}
	switch rings {
	case "bounce":
		return bounceSYNs(ctx, kit, wan.Index)
	case "asavie":
		return reflectAsavie(ctx, kit, wan.Index)
	}
	lan, err := net.InterfaceByName("lan0")
	if err != nil {
		return err
	}
	return reflectOwn(ctx, kit, wan.Index, lan.Index)
}

// batchSize is how many frames fnatd sends at once: four of its batches.
const batchSize = 256

// redirected has what comes by an interface go to a socket of dataplane/xsk, while run runs.
func redirected(kit *traffic.Kit, ifindex int, run func(*xsk.UMEM, *xsk.Socket) error) (err error) {
	umem, err := xsk.NewUMEM(xsk.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, umem.Close()) }()
	s, err := xsk.Open(umem, ifindex, 0, xsk.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	link, err := kit.Redirect(ifindex, s.FD())
	if err != nil {
		return err
	}
	defer link.Close()
	return run(umem, s)
}

// reflectOwn carries what comes by wan to lan, with dataplane/xsk.
func reflectOwn(ctx context.Context, kit *traffic.Kit, wan, lan int) error {
	return redirected(kit, wan, func(umem *xsk.UMEM, in *xsk.Socket) error {
		out, err := xsk.Open(umem, lan, 0, xsk.Options{})
		if err != nil {
			return err
		}
		defer out.Close()
		fmt.Println(ready)
		var d [batchSize]xsk.Desc
		for ctx.Err() == nil {
			out.Complete()
			n := in.Recv(d[:])
			in.Refill()
			for _, desc := range d[:n] {
				swapMACs(umem.Chunk(desc.Addr)[umem.Offset(desc.Addr):])
			}
			sent := out.Send(d[:n])
			out.Kick()
			for _, desc := range d[sent:n] {
				umem.Free(desc.Addr)
			}
		}
		return nil
	})
}

// reflectAsavie sends back what comes by an interface, as asavie/xdp's own example
// does. It cannot send by another one.
func reflectAsavie(ctx context.Context, kit *traffic.Kit, ifindex int) error {
	s, err := xdp.NewSocket(ifindex, 0, &xdp.SocketOptions{
		NumFrames: 4096, FrameSize: 2048, FillRingNumDescs: 2048, CompletionRingNumDescs: 2048,
		RxRingNumDescs: 2048, TxRingNumDescs: 2048,
	})
	if err != nil {
		return err
	}
	link, err := kit.Redirect(ifindex, s.FD())
	if err != nil {
		return err
	}
	defer link.Close()
	fmt.Println(ready)
	for ctx.Err() == nil {
		if n := s.NumFreeFillSlots(); n > 0 {
			s.Fill(s.GetDescs(n))
		}
		if n := s.NumCompleted(); n > 0 {
			s.Complete(n)
		}
		n := s.NumReceived()
		if n == 0 {
			continue
		}
		descs := s.Receive(min(n, 64)) // it has one call send at most 32
		for _, desc := range descs {
			swapMACs(s.GetFrame(desc))
		}
		s.Transmit(descs)
	}
	return nil
}

// bounceSYNs sends SYNs back as SYN-ACKs by dataplane/xsk, and drops all else: what an
// answer from user space costs but for thinking of one.
func bounceSYNs(ctx context.Context, kit *traffic.Kit, ifindex int) error {
	return redirected(kit, ifindex, func(umem *xsk.UMEM, s *xsk.Socket) error {
		fmt.Println(ready)
		var d [batchSize]xsk.Desc
		for ctx.Err() == nil {
			s.Complete()
			n := s.Recv(d[:])
			s.Refill()
			syns := d[:0]
			for _, desc := range d[:n] {
				if bounceSYN(umem.Chunk(desc.Addr)[umem.Offset(desc.Addr):][:desc.Len]) {
					syns = append(syns, desc)
				} else {
					umem.Free(desc.Addr)
				}
			}
			sent := s.Send(syns)
			s.Kick()
			for _, desc := range syns[sent:] {
				umem.Free(desc.Addr)
			}
		}
		return nil
	})
}

// bounceSYN makes a SYN over IPv4 a SYN-ACK of sorts: ends exchanged, ACK set, and
// nothing else right. It reports false for any other frame.
func bounceSYN(frame []byte) bool {
	const (
		addrs, ports, flags = 14 + 12, 14 + 20, 14 + 20 + 13
		syn, ack            = 0x02, 0x10
	)
	if len(frame) <= flags || frame[flags]&(syn|ack) != syn {
		return false
	}
	swapMACs(frame)
	for _, f := range [][]byte{frame[addrs : addrs+8], frame[ports : ports+4]} {
		for i, half := 0, len(f)/2; i < half; i++ {
			f[i], f[half+i] = f[half+i], f[i]
		}
	}
	frame[flags] |= ack
	return true
}

func swapMACs(frame []byte) {
	var mac [6]byte
	copy(mac[:], frame[:6])
	copy(frame[:6], frame[6:12])
	copy(frame[6:12], mac[:])
}
