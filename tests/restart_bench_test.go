package tests

import (
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/state"
	"github.com/fnatd/fnatd/tests/harness"
)

// BenchmarkRestart kills fnatd with so many connections in its table, starts it again,
// and shows how long after that the first datagram of an old flow passes, of which
// there are a thousand a second. Its state lies in memory, as it should, in pages of
// 4 KiB or, as the tmpfs is mounted, in huge ones.
func BenchmarkRestart(b *testing.B) {
	for _, test := range []struct {
		name        string
		connections int
		huge        string // option of tmpfs
	}{
		{"empty", 0, "never"},
		{"million", 1_000_000, "never"},
		{"million_in_huge_pages", 1_000_000, "within_size"},
	} {
		b.Run(test.name, func(b *testing.B) { benchmarkRestart(b, test.connections, test.huge) })
	}
}

func benchmarkRestart(b *testing.B, connections int, huge string) {
	rig, probe, start := crowded(b, connections, huge)
	lb := start()
	defer func() {
		if err := lb.Stop(); err != nil {
			b.Error(err)
		}
	}()
	w := watch(b, rig, probe)
	w.next(b, time.Now())
	var times, adoptions []time.Duration
	for b.Loop() {
		time.Sleep(200 * time.Millisecond)
		lb.Kill()
		began := time.Now()
		lb = start()
		times = append(times, w.next(b, began).Sub(began))
		m := adopted.FindStringSubmatch(lb.Log())
		if m == nil || m[3] != "0" {
			b.Fatalf("not all was adopted:\n%s", lb.Log())
		}
		_, took, _ := strings.Cut(lb.Log(), " took=")
		took, _, _ = strings.Cut(took, "\n")
		d, err := time.ParseDuration(took)
		if err != nil {
			b.Fatal(err)
		}
		adoptions = append(adoptions, d)
	}
	slices.Sort(times)
	slices.Sort(adoptions)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(times[len(times)/2]), "ms-median")
	b.ReportMetric(ms(times[0]), "ms-least")
	b.ReportMetric(ms(slices.Max(times)), "ms-longest")
	b.ReportMetric(ms(adoptions[len(adoptions)/2]), "ms-adoption")
}

// crowded returns how to start fnatd on a rig with so many connections in its table, and
// a service besides, for a flow to be watched.
func crowded(b *testing.B, connections int, huge string) (rig *netns.Rig, probe harness.Service, start func() *harness.Fnatd) {
	rig = netns.ForTest(b, netns.Topology{Servers: 1})
	dir := b.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "huge="+huge); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	probe = harness.Service{
		Name: "probe", Protocol: "udp", Virtual: netip.AddrPortFrom(netns.VIP(0), 7), Keys: `client_address = "none"`,
		Servers: []harness.Server{{Real: netip.AddrPortFrom(netns.ServerAddr(0), 7)}},
	}
	crowd := harness.Service{Name: "crowd", Virtual: netip.AddrPortFrom(netns.VIP(0), 80)}
	for i := range 16 { // two local addresses have no more ports towards one
		crowd.Servers = append(crowd.Servers, harness.Server{Real: netip.AddrPortFrom(netns.ServerAddr(0), uint16(8000+i))})
	}
	config := strings.Replace(harness.Config(rig, dir, "", probe, crowd), "100_000", "1_100_000", 1)
	start = func() *harness.Fnatd {
		lb, err := harness.Start(rig, bin+"/fnatd", dir, config)
		if err != nil {
			b.Fatal(err)
		}
		return lb
	}
	start().Kill()
	crowdIn(b, filepath.Join(dir, "state"), crowd, connections)
	return rig, probe, start
}

// crowdIn puts established connections of a service into the state that a fnatd has left.
func crowdIn(b *testing.B, path string, to harness.Service, n int) {
	f, err := state.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	table, _, err := conntrack.Adopt(f.Table())
	if err != nil {
		b.Fatal(err)
	}
	var bindings []conntrack.BindingID
	for _, server := range to.Servers {
		id, err := table.Bind(conntrack.Binding{Proto: packet.ProtoTCP, Virtual: packet.EndpointFrom(to.Virtual), Real: packet.EndpointFrom(server.Real)})
		if err != nil {
			b.Fatal(err)
		}
		bindings = append(bindings, id)
	}
	var locals []conntrack.LocalID
	for i := range 2 {
		id, err := table.AddLocal(conntrack.Local{Addr: packet.AddrFromNetip(netns.LIP(i)), PortMin: 1024, PortMax: 65535})
		if err != nil {
			b.Fatal(err)
		}
		locals = append(locals, id)
	}
	now := table.Clock()
	for i := range n {
		client := packet.AddrFrom4([]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		flow := packet.Flow{
			Src: client, SrcPort: uint16(1024 + i%50_000), Dst: packet.AddrFromNetip(to.Virtual.Addr()), DstPort: to.Virtual.Port(), Proto: packet.ProtoTCP,
		}
		if _, _, ok := table.Reserve(); !ok {
			b.Fatal("the table is full")
		}
		key := table.InboundKey(&flow)
		shard := table.Lock(key)
		c, why := shard.Insert(key, &flow, bindings[i%len(bindings)], locals, nil, now)
		if why != packet.Kept {
			b.Fatal(why)
		}
		shard.SetState(c, conntrack.Established, 3_600_000, now)
		shard.Unlock()
	}
}

// A watcher sees the datagrams of one flow arrive that is sent a thousand times a second.
type watcher struct {
	mu   sync.Mutex
	from string      // of the first
	at   []time.Time // of each, its arrival
	err  string
}

func watch(b *testing.B, rig *netns.Rig, to harness.Service) *watcher {
	c, err := rig.Servers[0].ListenPacket("udp", to.Servers[0].Real.String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
	if err != nil {
		b.Fatal(err)
	}
	client, err := rig.Client.Dial(b.Context(), "udp", to.Virtual.String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { client.Close() })
	w := &watcher{}
	go w.receive(c.(*net.UDPConn))
	go func() {
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			if _, err := client.Write([]byte("probe")); err != nil && strings.Contains(err.Error(), "closed") {
				tick.Stop()
				return
			}
		}
	}()
	return w
}

func (w *watcher) receive(c *net.UDPConn) {
	buf, control := make([]byte, 64), make([]byte, 256)
	for {
		_, n, _, from, err := c.ReadMsgUDP(buf, control)
		if err != nil {
			return
		}
		w.mu.Lock()
		if w.from == "" {
			w.from = from.String()
		}
		if w.from != from.String() {
			w.err = "another flow: from " + from.String() + ", at first " + w.from
		}
		w.at = append(w.at, time.Unix(0, stamp(control[:n])))
		w.mu.Unlock()
	}
}

// next returns when the first datagram after a moment has arrived.
func (w *watcher) next(b *testing.B, after time.Time) time.Time {
	b.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		w.mu.Lock()
		i, why := slices.IndexFunc(w.at, after.Before), w.err
		if i >= 0 {
			w.at = w.at[i:]
		}
		at := w.at
		w.mu.Unlock()
		if why != "" {
			b.Fatal(why)
		}
		if i >= 0 {
			return at[0]
		}
	}
	b.Fatal("no datagram passes")
	return time.Time{}
}
