package dataplane

import (
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

func TestLastDrop(t *testing.T) {
	stray := func(port uint16) packettest.TCP {
		return packettest.TCP{Src: packet.Endpoint{Addr: client.Addr, Port: port}, Dst: vip, Flags: packet.ACK}
	}
	flow := func(port uint16) packet.Flow {
		return packet.Flow{Src: client.Addr, SrcPort: port, Dst: vip.Addr, DstPort: vip.Port, Proto: packet.ProtoTCP}
	}
	t.Run("of_any_of_the_flows", func(t *testing.T) {
		w := newWorld(t, tcpService)
		w.refuse(wan, stray(1).Frame().Bytes(), packet.NoConn)
		if why, _ := w.engine.LastDrop(flow(2), flow(1)); why != packet.NoConn {
			t.Errorf("got %v, want %v", why, packet.NoConn)
		}
		if why, _ := w.engine.LastDrop(flow(2)); why != packet.Kept {
			t.Errorf("of another flow: got %v, want none", why)
		}
	})
	t.Run("the_latest", func(t *testing.T) {
		w := newWorld(t, tcpService)
		w.refuse(wan, stray(1).Frame().Bytes(), packet.NoConn)
		late := stray(1)
		late.TTL = 1
		w.wait(time.Second)
		w.put(wan, late.Frame().Bytes())
		w.run()
		if why, _ := w.engine.LastDrop(flow(1)); why != packet.TTLExceeded {
			t.Errorf("got %v, want %v", why, packet.TTLExceeded)
		}
	})
	t.Run("until_others_have_pushed_it_out", func(t *testing.T) {
		w := newWorld(t, tcpService)
		w.refuse(wan, stray(1).Frame().Bytes(), packet.NoConn)
		for i := range len(lastDrops{}.notes) - 1 {
			w.refuse(wan, stray(uint16(i+2)).Frame().Bytes(), packet.NoConn)
		}
		if why, _ := w.engine.LastDrop(flow(1)); why != packet.NoConn {
			t.Errorf("the oldest: got %v, want %v", why, packet.NoConn)
		}
		w.refuse(wan, stray(1000).Frame().Bytes(), packet.NoConn)
		if why, _ := w.engine.LastDrop(flow(1)); why != packet.Kept {
			t.Errorf("one more: got %v, want it forgotten", why)
		}
	})
	t.Run("not_of_what_could_not_be_read", func(t *testing.T) {
		w := newWorld(t, tcpService)
		w.connect(client)
		w.refuse(wan, stray(client.Port).Frame().Bytes()[:30], packet.ShortFrame)
		if why, _ := w.engine.LastDrop(flow(client.Port)); why != packet.Kept {
			t.Errorf("got %v for a flow that was there before", why)
		}
	})
}

func BenchmarkNoteDrop(b *testing.B) {
	var l lastDrops
	j := &job{}
	for b.Loop() {
		l.note(j, packet.NoConn, 1)
	}
}
