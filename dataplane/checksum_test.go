package dataplane

import (
	"encoding/binary"
	"testing"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// fullChecksums is an interface towards the client whose senders leave
// checksums undone.
func fullChecksums(_ *world, c *Config, _ *conntrack.Config) { c.FullChecksums = []bool{wan: true} }

// undo leaves in the transport's checksum field, at offset at of the frame, what
// a local sender behind a veth does: a sum that lacks header and payload.
func undo(f packettest.Frame, at int) packettest.Frame {
	binary.BigEndian.PutUint16(f.Bytes()[at:], 0x1234)
	return f
}

func TestChecksum(t *testing.T) {
	const tcpSum, udpSum = l4 + 16, l4 + 6
	t.Run("full_makes_a_partial_one_right", func(t *testing.T) {
		w := newWorld(t, tcpService+udpService, fullChecksums)
		k := w.connect(client)
		w.pass(wan, undo(k.fromClient(packet.ACK, "", "odd"), tcpSum)) // run checks every sum
		w.put(wan, undo(query(client, "?"), udpSum).Bytes())
		if sent := w.run(); len(sent[lan]) != 2 {
			t.Errorf("sent: got %d frames, want a notice and the datagram", len(sent[lan]))
		}
	})
	t.Run("full_leaves_a_udp_checksum_of_zero", func(t *testing.T) {
		w := newWorld(t, udpService, fullChecksums)
		w.ask(client)
		p := w.pass(wan, packettest.UDP{Src: client, Dst: vipUDP, Payload: []byte("?"), NoSum: true}.Frame())
		if got := p.UDP().Sum(); got != 0 {
			t.Errorf("got %#04x, want 0", got)
		}
	})
	t.Run("of_another_interface_leaves_damage_visible", func(t *testing.T) {
		w := newWorld(t, tcpService, fullChecksums)
		k := w.connect(client)
		w.put(lan, undo(k.fromReal(packet.ACK, "", "x"), tcpSum).Bytes())
		w.worker.poll(w.clock)
		if sent := w.ports[wan].sent; len(sent) != 1 || packettest.VerifySums(sent[0]) == nil {
			t.Errorf("got % x, want one frame that is still damaged", sent)
		}
	})
}
