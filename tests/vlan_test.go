package tests

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/tests/harness"
)

// A wire is the client's end of its cable. It needs no VLAN interface: what is
// sent has its tags in it, and of what is received the kernel has put the outer
// one aside.
type wire struct {
	*bed
	fd int
}

func (b *bed) wire() wire {
	b.Helper()
	index, err := b.Client.Index("eth0")
	if err != nil {
		b.Fatal(err)
	}
	w := wire{b, -1}
	all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL})
	if err := b.Client.Do(func() (err error) {
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
		return err
	}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(w.fd) })
	timeout := unix.NsecToTimeval(int64(patience))
	for _, err := range []error{
		unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}),
		unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
	} {
		if err != nil {
			b.Fatal(err)
		}
	}
	return w
}

// receive returns the next frame for which want holds, with all its tags in it.
func (w wire) receive(want func(*packet.Packet) bool) *packet.Packet {
	w.Helper()
	buf, oob := make([]byte, 1<<16), make([]byte, 256)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		n, oobn, _, _, err := unix.Recvmsg(w.fd, buf, oob, 0)
		if err != nil {
			w.Fatal(err)
		}
		frame := append([]byte{}, buf[:n]...)
		messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for _, m := range messages {
			aux := m.Data // struct tpacket_auxdata
			if m.Header.Type != unix.PACKET_AUXDATA || binary.NativeEndian.Uint32(aux)&unix.TP_STATUS_VLAN_VALID == 0 {
				continue
			}
			tag := binary.BigEndian.AppendUint16(nil, binary.NativeEndian.Uint16(aux[18:]))
			tag = binary.BigEndian.AppendUint16(tag, binary.NativeEndian.Uint16(aux[16:]))
			frame = append(append(append([]byte{}, frame[:12]...), tag...), frame[12:]...)
		}
		f, p := packettest.NewFrame(frame), new(packet.Packet)
		if p.Parse(f.Buf, f.Start, f.End) == packet.Kept && want(p) {
			return p
		}
	}
	w.Fatal("no such frame came")
	return nil
}

// TestTaggedClient has a client in VLANs ask: the answer is in the same.
func TestTaggedClient(t *testing.T) {
	b := newBed(t, matrix[0], 1)
	b.echo()
	b.startWith("reflect_client_mac = true", b.echoes()...)
	w := b.wire()
	client, err := b.Client.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	balancer, err := b.Balancer.MAC("wan0")
	if err != nil {
		t.Fatal(err)
	}
	virtual := packet.EndpointFrom(b.vip(7))
	for i, c := range []struct {
		name string
		tags []uint16
	}{{"untagged", nil}, {"802.1Q", []uint16{5}}, {"QinQ", []uint16{6, 5}}, {"back_to_one", []uint16{5}}} {
		t.Run(c.name, func(t *testing.T) {
			query := packettest.UDP{
				Link: packettest.Link{SrcMAC: [6]byte(client), DstMAC: [6]byte(balancer), VLAN: c.tags},
				Src:  packet.Endpoint{Addr: packet.AddrFromNetip(b.clientAddr()), Port: 40000}, Dst: virtual,
				Payload: fmt.Appendf(nil, "query %d", i),
			}
			frame := query.Frame()
			if _, err := unix.Write(w.fd, frame.Bytes()); err != nil {
				t.Fatal(err)
			}
			answer := w.receive(func(p *packet.Packet) bool {
				return p.Flow.Source() == virtual && strings.HasPrefix(string(p.Buf[p.Payload:p.End]), string(query.Payload))
			})
			if got, want := answer.Ethernet().VLANs(), frame.Parse(t).Ethernet().VLANs(); got != want {
				t.Errorf("the answer's VLANs: got %v, want %v", got, want)
			}
		})
	}
}

func TestVLANThatIsNotThere(t *testing.T) {
	b := newBed(t, matrix[0], 1)
	lb, err := harness.Start(b.Rig, bin+"/fnatd", b.dir, harness.Config(b.Rig, b.dir, `vlans = ["wan0.5"]`, b.echoes()...))
	if err == nil {
		lb.Stop()
		t.Fatal("fnatd runs")
	}
	const want = `interface "wan0.5" of vlans in [dataplane]: not a VLAN interface on wan0 or lan0`
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want it to contain %q", err, want)
	}
	b.checkClean()
}
