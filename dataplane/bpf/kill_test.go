package bpf

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// victimDir tells this test binary that it is the process to be killed, and where
// it pins its links.
const victimDir = "FNATD_TEST_VICTIM"

// TestVictim is no test: it serves a1 until it is killed.
func TestVictim(t *testing.T) {
	dir := os.Getenv(victimDir)
	if dir == "" {
		return
	}
	l, err := netlink.LinkByName("a1")
	must(t, err)
	p, err := Load(Options{PinDir: dir})
	must(t, err)
	must(t, p.SetServices(plain(tcp4)))
	p.attach(t, l, Native, Native, "native mode was asked for")
	openSocket(t, p, l.Attrs().Index)
	os.Stdout.WriteString("serving\n")
	select {}
}

// killVictim lets a process of ours serve a1 and kills it.
func killVictim(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$")
	cmd.Env = append(os.Environ(), victimDir+"="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start()) // from this locked thread, so into our namespace
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "serving\n" {
		t.Errorf("the victim says %q", line)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
}

var (
	wireMAC  = net.HardwareAddr{2, 0, 0, 0, 0, 0xaa}
	clientIP = net.IPv4(192, 0, 2, 200).To4()
	hostIP   = net.IPv4(192, 0, 2, 1).To4()
)

// syn returns a SYN from the client to a port of the host, checksums and all.
func syn(t *testing.T, hostMAC net.HardwareAddr, port uint16) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: clientIP, DstIP: hostIP}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: layers.TCPPort(port), SYN: true, Seq: 1, Window: 1024}
	must(t, tcp.SetNetworkLayerForChecksum(ip))
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: wireMAC, DstMAC: hostMAC, EthernetType: layers.EthernetTypeIPv4}, ip, tcp))
	return buf.Bytes()
}

// answers sends the frames into the wire one after the other and returns from
// which ports the kernel answered RST, up to the first from the port last.
func answers(t *testing.T, wire int, last uint16, frames ...[]byte) (from []uint16) {
	t.Helper()
	for _, f := range frames {
		_, err := unix.Write(wire, f)
		must(t, err)
	}
	buf := make([]byte, 2048)
	for {
		n, err := unix.Read(wire, buf)
		must(t, err)
		p := gopacket.NewPacket(buf[:n], layers.LayerTypeEthernet, gopacket.Default)
		tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok || !tcp.RST {
			continue
		}
		from = append(from, uint16(tcp.SrcPort))
		if uint16(tcp.SrcPort) == last {
			return from
		}
	}
}

// A killed fnatd leaves its program: what is balanced is dropped, so that the
// kernel resets no connection, and the host stays reachable. The next fnatd takes
// over, and a clean stop gives everything back to the kernel.
func TestKilled(t *testing.T) {
	privateNetns(t)
	dir, host := pinDir(t), veth(t, "a0", "a1")
	must(t, netlink.AddrAdd(host, &netlink.Addr{IPNet: &net.IPNet{IP: hostIP, Mask: net.CIDRMask(24, 32)}}))
	must(t, netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: host.Attrs().Index, State: netlink.NUD_PERMANENT, IP: clientIP, HardwareAddr: wireMAC,
	}))
	wire := tap(t, "a0")
	service, ssh := syn(t, host.Attrs().HardwareAddr, 80), syn(t, host.Attrs().HardwareAddr, 22)

	if got := answers(t, wire, 80, ssh, service); len(got) != 2 {
		t.Fatalf("without fnatd the kernel resets ports %v, want both", got)
	}
	killVictim(t, dir)
	for range 3 {
		if got := answers(t, wire, 22, service, ssh); len(got) != 1 {
			t.Fatalf("after the kill the kernel resets ports %v, want 22 alone", got)
		}
	}

	p := mustLoad(t, dir)
	must(t, p.SetServices(plain(tcp4)))
	p.attach(t, host, Auto, Native, takenOver)
	sock := openSocket(t, p, host.Attrs().Index)
	defer sock.Close()
	if got := answers(t, wire, 22, service, ssh); len(got) != 1 {
		t.Fatalf("after the take-over the kernel resets ports %v, want 22 alone", got)
	}
	counters, err := p.Counters()
	must(t, err)
	if counters[Service] != 1 || counters[Unserved] != 0 {
		t.Errorf("counters after the take-over: %v", counters)
	}
	must(t, p.Close(false))
	if got := answers(t, wire, 80, ssh, service); len(got) != 2 {
		t.Errorf("after a clean stop the kernel resets ports %v, want both", got)
	}
}
