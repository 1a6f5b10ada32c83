// Package traffic makes and counts the frames of the benchmarks in the kernel,
// where it costs least: a BPF program that BPF_PROG_RUN runs on live frames is the
// generator, others are the sinks. A generator of sockets would measure itself.
package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packettest"
)

// Our choices.
const (
	// A call of BPF_PROG_RUN sleeps 20 ms before its first frame, so it is made for
	// many: a second's, nearly, at full rate.
	repeat = 1 << 22
	batch  = 128 // frames that the kernel keeps on the way at a time: half of what the ring of a veth holds

	// What the pacer could not send in so long is left out, not made up for.
	maxLag = time.Millisecond

	liveFrames = 2 // BPF_F_TEST_XDP_LIVE_FRAMES of linux/bpf.h
	timeShift  = 8 // TIME_SHIFT of traffic.c
)

// A Pattern says what a Generator sends. The frames' own sources and numbers are
// zero, as the generator fills them in.
type Pattern struct {
	Frame     packettest.Frame
	Side      packettest.Frame // of the same length; sent beside Frame
	SideShare float64          // of all frames; 0 to 1
	Numbered  bool             // TCP: sequence and acknowledgement numbers are random
	Sources   netip.Prefix     // IPv4
	Flows     int              // that are taken in turn, at random; 0 is a new one each time
	Rate      float64          // frames a second; 0 is as many as go
}

// A Kit is the programs, loaded, with one set of variables and counters: for one
// generator.
type Kit struct{ objs trafficObjects }

// Load loads the programs.
func Load() (*Kit, error) {
	k := &Kit{}
	if err := loadTrafficObjects(&k.objs, nil); err != nil {
		return nil, fmt.Errorf("traffic programs: load: %w", err)
	}
	return k, nil
}

// Close unloads the programs. What Sink and Pass have attached stays until it is
// closed itself.
func (k *Kit) Close() error { return k.objs.Close() }

// Set makes p the pattern of Generate, which must not be running.
func (k *Kit) Set(p *Pattern) error {
	interval := uint64(0)
	if p.Rate > 0 {
		interval = uint64(float64(time.Second<<timeShift) / p.Rate)
	}
	main, side := newKind(p.Frame, p.Numbered), trafficKind{}
	if p.SideShare > 0 {
		side = newKind(p.Side, p.Numbered)
	}
	base := p.Sources.Masked().Addr().As4()
	v := &k.objs.trafficVariables
	return errors.Join(
		v.MainKind.Set(main), v.SideKind.Set(side),
		v.SideShare.Set(uint32(p.SideShare*(1<<16))),
		v.SourceBase.Set(binary.BigEndian.Uint32(base[:])),
		v.SourceMask.Set(uint32(1<<(32-p.Sources.Bits())-1)),
		v.Flows.Set(uint32(p.Flows)),
		v.Interval.Set(interval),
		v.Burst.Set(uint64(maxLag<<timeShift)),
		v.Due.Set(uint64(0)),
		v.Seed.Set(uint64(time.Now().UnixNano())|1),
	)
}

// newKind returns a frame as the generator keeps it. Sums do not mind byte order
// as long as it is one (RFC 1071, section 2), so they are read as BPF reads words.
func newKind(f packettest.Frame, numbered bool) (k trafficKind) {
	b := f.Bytes()
	for i := range k.Words {
		var word [8]byte
		copy(word[:], b[min(8*i, len(b)):])
		k.Words[i] = binary.NativeEndian.Uint64(word[:])
	}
	l4Sum := ethernet + ipv4 + 6 // of UDP
	if numbered {
		k.Numbered = 1
		l4Sum = ethernet + ipv4 + 16 // of TCP
	}
	k.IpSum = uint32(^binary.NativeEndian.Uint16(b[ethernet+10:]))
	k.L4Sum = uint32(^binary.NativeEndian.Uint16(b[l4Sum:]))
	return k
}

// Lengths of headers, bytes.
const (
	ethernet = 14
	ipv4     = 20
)

// Generate sends what Set has ordered out of an interface of h, on one processor,
// until the context ends.
func (k *Kit) Generate(ctx context.Context, h *netns.Host, ifname string, cpu int, p *Pattern) error {
	index, err := h.Index(ifname)
	if err != nil {
		return err
	}
	if err := k.Set(p); err != nil {
		return fmt.Errorf("generator: %w", err)
	}
	return h.Do(func() error {
		if err := k.objs.Way.Put(uint32(0), uint32(index)); err != nil { // an index of this namespace
			return fmt.Errorf("generator: interface %q: %w", ifname, err)
		}
		unpin, err := Pin(cpu)
		if err != nil {
			return err
		}
		defer unpin()
		for ctx.Err() == nil {
			_, err := k.objs.Generate.Run(&ebpf.RunOptions{
				Data: p.Frame.Bytes(), Repeat: repeat, Flags: liveFrames, BatchSize: batch,
			})
			if err != nil {
				return fmt.Errorf("generator: %w (it takes Linux 5.18)", err)
			}
		}
		return nil
	})
}

// Pin binds the calling goroutine, and its thread with it, to a processor until
// unpin is called.
func Pin(cpu int) (unpin func(), err error) {
	runtime.LockOSThread()
	var before, one unix.CPUSet
	one.Set(cpu)
	if err := errors.Join(unix.SchedGetaffinity(0, &before), unix.SchedSetaffinity(0, &one)); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("processor %d: %w", cpu, err)
	}
	return func() {
		if unix.SchedSetaffinity(0, &before) == nil {
			runtime.UnlockOSThread() // else the thread dies with its goroutine
		}
	}, nil
}

// Sink makes an interface of h count and drop what comes back of Generate's
// frames. With xdp it does so for frames that XDP has sent, which otherwise are
// lost; for others it then costs a copy more.
func (k *Kit) Sink(h *netns.Host, ifname string, xdp bool) (link.Link, error) {
	if xdp {
		return k.attachXDP(h, ifname, k.objs.SinkXdp)
	}
	return k.attach(h, ifname, func(index int) (link.Link, error) {
		return link.AttachTCX(link.TCXOptions{Program: k.objs.SinkTc, Interface: index, Attach: ebpf.AttachTCXIngress})
	})
}

// Pass makes a veth end take frames that XDP sends to it up to the kernel.
func (k *Kit) Pass(h *netns.Host, ifname string) (link.Link, error) {
	return k.attachXDP(h, ifname, k.objs.Pass)
}

// Redirect makes the interface, of this thread's namespace and with one queue, hand
// every frame to an AF_XDP socket.
func (k *Kit) Redirect(ifindex, socket int) (link.Link, error) {
	if err := k.objs.Xsks.Put(uint32(0), uint32(socket)); err != nil {
		return nil, fmt.Errorf("redirect: %w", err)
	}
	return link.AttachXDP(link.XDPOptions{Program: k.objs.Redirect, Interface: ifindex, Flags: link.XDPDriverMode})
}

// Bounce makes an interface send SYNs back as SYN-ACKs, with nothing changed that
// needs not be for Sink to count them, and drop other TCP segments.
func (k *Kit) Bounce(h *netns.Host, ifname string) (link.Link, error) {
	return k.attachXDP(h, ifname, k.objs.Bounce)
}

func (k *Kit) attachXDP(h *netns.Host, ifname string, prog *ebpf.Program) (link.Link, error) {
	return k.attach(h, ifname, func(index int) (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: prog, Interface: index, Flags: link.XDPDriverMode})
	})
}

func (k *Kit) attach(h *netns.Host, ifname string, attach func(index int) (link.Link, error)) (l link.Link, err error) {
	index, err := h.Index(ifname)
	if err != nil {
		return nil, err
	}
	err = h.Do(func() error {
		l, err = attach(index)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: attach to %q: %w", h.Name, ifname, err)
	}
	return l, nil
}

// Counts are the totals of a Kit since it was loaded.
type Counts struct {
	Sent, SentBeside             uint64 // by Generate, of either frame
	UDP, SYNACK, Reset, OtherTCP uint64 // by the sinks
}

// Minus returns what was counted since before.
func (c Counts) Minus(before Counts) Counts {
	return Counts{
		c.Sent - before.Sent, c.SentBeside - before.SentBeside,
		c.UDP - before.UDP, c.SYNACK - before.SYNACK, c.Reset - before.Reset, c.OtherTCP - before.OtherTCP,
	}
}

// Counts returns the totals.
func (k *Kit) Counts() (c Counts, err error) {
	errs := []error{
		k.objs.SentMain.Get(&c.Sent), k.objs.SentSide.Get(&c.SentBeside),
		k.count(trafficCounterCOUNTER_UDP, &c.UDP),
		k.count(trafficCounterCOUNTER_SYN_ACK, &c.SYNACK),
		k.count(trafficCounterCOUNTER_RST, &c.Reset),
		k.count(trafficCounterCOUNTER_OTHER_TCP, &c.OtherTCP),
	}
	return c, errors.Join(errs...)
}

func (k *Kit) count(which trafficCounter, n *uint64) error {
	var perCPU []uint64
	if err := k.objs.Counts.Lookup(uint32(which), &perCPU); err != nil {
		return err
	}
	for _, one := range perCPU {
		*n += one
	}
	return nil
}
