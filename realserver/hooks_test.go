package realserver

import (
	"errors"
	"io"
	"math"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/cgroup"
	"github.com/fnatd/fnatd/internal/netns"
)

// BenchmarkDatagram tells what a datagram to a server and its answer cost more with
// programs attached, in nanoseconds: with empty ones, which is what the kernel takes for
// its hooks and no program can do without, and with those of fnatrs in their place.
// Both ends are in one thread. Each slice with programs is held against those before and
// after it, which are without.
//
//	none-ns              a datagram and its answer, with nothing attached
//	elsewhere-ns         more with empty programs for recvmsg and sendmsg in another cgroup
//	recvmsg-, sendmsg-, ingress-ns
//	                     with an empty program there
//	empty-ns             with empty programs for recvmsg and sendmsg
//	empty6-ns            with those of their IPv6 forms, which these sockets do not use
//	unnoted-, noted-ns   with fnatrs's for recvmsg and sendmsg, the client unknown and known
//	syn-ns               with the one that reads SYNs at ingress
//
// -v shows between which the median is with 95 % certainty.
//
//	nice -n -10 go test ./realserver -run '^$' -bench Datagram -benchtime 60x -v
func BenchmarkDatagram(b *testing.B) {
	const local, server, client = "10.0.1.10:1024", "10.0.2.11:53", "198.51.100.7:40000"
	noted, unnoted := loadForTest(b), loadForTest(b)
	noted.run(b, "fnatrs_ingress", announced(local, server, client, 0))
	d := newDatagrams(b, local, server)
	recvmsg, sendmsg := ebpf.AttachCGroupUDP4Recvmsg, ebpf.AttachCGroupUDP4Sendmsg
	recvmsg6, sendmsg6 := ebpf.AttachCGroupUDP6Recvmsg, ebpf.AttachCGroupUDP6Sendmsg
	ours := func(p *programs) map[ebpf.AttachType]*ebpf.Program {
		return map[ebpf.AttachType]*ebpf.Program{recvmsg: p.loaded["fnatrs_recv4"], sendmsg: p.loaded["fnatrs_send4"]}
	}
	states := []struct {
		name   string
		cgroup string
		hooks  map[ebpf.AttachType]*ebpf.Program
		sees   string // the server
	}{
		{"elsewhere", d.others.Path, empty(b, recvmsg, sendmsg), local},
		{"recvmsg", d.cgroup.Path, empty(b, recvmsg), local},
		{"sendmsg", d.cgroup.Path, empty(b, sendmsg), local},
		{"ingress", d.cgroup.Path, empty(b, ebpf.AttachCGroupInetIngress), local},
		{"empty", d.cgroup.Path, empty(b, recvmsg, sendmsg), local},
		{"empty6", d.cgroup.Path, empty(b, recvmsg6, sendmsg6), local},
		{"unnoted", d.cgroup.Path, ours(unnoted), local},
		{"noted", d.cgroup.Path, ours(noted), client},
		{"syn", d.cgroup.Path, map[ebpf.AttachType]*ebpf.Program{ebpf.AttachCGroupInetIngress: noted.loaded["fnatrs_syn"]}, local},
	}
	runtime.LockOSThread() // for good, so that the thread ends with this: to one processor, which others seldom use
	var one unix.CPUSet
	one.Set(runtime.NumCPU() - 1)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		b.Fatal(err)
	}
	var none []float64
	more := make([][]float64, len(states))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	before := d.slice(local)
	for n := 0; b.Loop(); n++ {
		runtime.GC()
		for i := range states {
			i = (i + n) % len(states)
			s := states[i]
			var attached []io.Closer
			for hook, prog := range s.hooks {
				c, err := inCgroup(hook)(&Options{Cgroup: s.cgroup}, prog)
				if err != nil {
					b.Fatal(err)
				}
				attached = append(attached, c...)
			}
			with := d.slice(s.sees)
			for _, c := range attached {
				if err := c.Close(); err != nil {
					b.Fatal(err)
				}
			}
			after := d.slice(local)
			more[i] = append(more[i], with-(before+after)/2)
			none = append(none, after)
			before = after
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(d.report("none", none), "none-ns")
	for i, s := range states {
		b.ReportMetric(d.report(s.name, more[i]), s.name+"-ns")
	}
}

// empty returns a program that does nothing for each hook.
func empty(b *testing.B, hooks ...ebpf.AttachType) map[ebpf.AttachType]*ebpf.Program {
	b.Helper()
	all := map[ebpf.AttachType]*ebpf.Program{}
	for _, hook := range hooks {
		spec := &ebpf.ProgramSpec{
			Type: ebpf.CGroupSockAddr, AttachType: hook, License: "Dual BSD/GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
		}
		if hook == ebpf.AttachCGroupInetIngress {
			spec.Type = ebpf.CGroupSKB
		}
		p, err := ebpf.NewProgram(spec)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { p.Close() })
		all[hook] = p
	}
	return all
}

// datagrams are a UDP client and a server of a cgroup, in a namespace of their own.
type datagrams struct {
	*testing.B
	cgroup, others *cgroup.Group
	client, server int
}

func newDatagrams(b *testing.B, local, server string) *datagrams {
	b.Helper()
	d := &datagrams{B: b}
	for name, g := range map[string]**cgroup.Group{"fnatrs-bench": &d.cgroup, "fnatrs-others": &d.others} {
		group, err := cgroup.New(name)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { group.Close() })
		*g = group
	}
	rig, err := netns.Bare(netns.Topology{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { rig.Close() })
	host, err := rig.AddHost("server")
	if err != nil {
		b.Fatal(err)
	}
	socket := func(at string) int {
		to := netip.MustParseAddrPort(at)
		if err := host.AddAddress("lo", netip.PrefixFrom(to.Addr(), 32)); err != nil {
			b.Fatal(err)
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err := errors.Join(err, unix.Bind(fd, sockaddr(to))); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	err = host.Do(func() error {
		d.client = socket(local)
		leave, err := d.cgroup.Enter()
		if err != nil {
			return err
		}
		d.server = socket(server)
		return errors.Join(leave(), unix.Connect(d.client, sockaddr(netip.MustParseAddrPort(server))))
	})
	if err != nil {
		b.Fatal(err)
	}
	return d
}

func sockaddr(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// slice sends datagrams that are answered, and returns the nanoseconds of each.
func (d *datagrams) slice(seen string) float64 {
	d.Helper()
	const warm, timed = 100, 3000
	buf := make([]byte, 64)
	var begin time.Time
	for i := range warm + timed {
		if i == warm {
			begin = time.Now()
		}
		_, err := unix.Write(d.client, buf[:32])
		if err != nil {
			d.Fatal(err)
		}
		n, from, err := unix.Recvfrom(d.server, buf, 0)
		if err != nil {
			d.Fatal(err)
		}
		if i == 0 && *from.(*unix.SockaddrInet4) != *sockaddr(netip.MustParseAddrPort(seen)) {
			d.Fatalf("the server sees %+v, want %s", from, seen)
		}
		if err := unix.Sendto(d.server, buf[:n], 0, from); err != nil {
			d.Fatal(err)
		}
		if _, err := unix.Read(d.client, buf); err != nil {
			d.Fatal(err)
		}
	}
	return float64(time.Since(begin)) / timed
}

// report logs a median and its interval, by the sign test, and returns it.
func (d *datagrams) report(name string, all []float64) float64 {
	d.Helper()
	slices.Sort(all)
	n := len(all)
	low := max(0, int((float64(n)-1.96*math.Sqrt(float64(n)))/2))
	d.Logf("%s: %.0f ns (%.0f to %.0f; %d)", name, all[n/2], all[low], all[n-1-low], n)
	return all[n/2]
}
