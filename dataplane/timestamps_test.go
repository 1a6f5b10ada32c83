package dataplane

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

func timestamps(val, ecr uint32) string {
	b := binary.BigEndian.AppendUint32([]byte("\x01\x01\x08\x0a"), val)
	return string(binary.BigEndian.AppendUint32(b, ecr))
}

func TestTimestamps(t *testing.T) {
	open := func(w *world, clock uint32) *packet.Packet {
		t.Helper()
		k := talk{client: client, virtual: vip, seq: 100}
		return w.pass(wan, k.fromClient(packet.SYN, timestamps(clock, 0), ""))
	}
	t.Run("are_shifted_and_their_echo_back", func(t *testing.T) {
		w := newWorld(t, tcpService)
		const clock = 5_000
		syn := open(w, clock)
		shown, _, ok := syn.Timestamps()
		if !ok {
			t.Fatal("the SYN has lost its timestamps")
		}
		real := func(flags packet.TCPFlags) *packet.Packet {
			return w.pass(lan, packettest.TCP{
				Src: syn.Flow.Destination(), Dst: syn.Flow.Source(), Flags: flags, Seq: 7, Ack: syn.TCP().Seq() + 1,
				Options: []byte(timestamps(99, shown)),
			}.Frame())
		}
		if val, ecr, _ := real(packet.SYN | packet.ACK).Timestamps(); val != 99 || ecr != clock {
			t.Errorf("SYN-ACK at the client: got %d and an echo of %d, want 99 and %d", val, ecr, clock)
		}
		k := talk{client: client, virtual: vip, seq: 101, ack: 8}
		p := w.pass(wan, k.fromClient(packet.ACK, timestamps(clock+10, 99), ""))
		if val, ecr, _ := p.Timestamps(); val != shown+10 || ecr != 99 {
			t.Errorf("ACK at the server: got %d and an echo of %d, want %d and 99", val, ecr, shown+10)
		}
	})
	t.Run("grow_for_a_local_port_whoever_uses_it", func(t *testing.T) {
		w := newWorld(t, tcpService, onePort)
		first, _, _ := open(w, 4_000_000_000).Timestamps()
		w.wait(31 * time.Second) // SYN_RECV ends, the port is free
		other := client
		for shard := w.shardOf(client); w.shardOf(other) != shard || other == client; other.Port++ {
		}
		k := talk{client: other, virtual: vip}
		second, _, _ := w.pass(wan, k.fromClient(packet.SYN, timestamps(1, 0), "")).Timestamps()
		if !packet.SeqLess(first, second) {
			t.Errorf("got %d after %d, want it later", second, first)
		}
	})
	t.Run("are_taken_off_the_syn_if_told_so", func(t *testing.T) {
		w := newWorld(t, strings.Replace(tcpService, `client_address`, "timestamps = \"strip\"\nclient_address", 1))
		if diff := cmp.Diff(strings.Repeat("\x01", 12), string(open(w, 5).TCP().Options())); diff != "" {
			t.Errorf("options (-want +got):\n%s", diff)
		}
	})
}
