package packet_test

import (
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// The four ends of a FULLNAT connection in these tests, one set a family.
var (
	client4, virtual4 = packettest.Endpoint("198.51.100.7:40000"), packettest.Endpoint("203.0.113.10:80")
	local4, real4     = packettest.Endpoint("10.0.1.10:5001"), packettest.Endpoint("10.0.2.11:8080")
	client6, virtual6 = packettest.Endpoint("[2001:db8:7::1]:40000"), packettest.Endpoint("[2001:db8:a::1]:80")
	local6, real6     = packettest.Endpoint("[fd00:1::10]:5001"), packettest.Endpoint("[fd00:2::11]:8080")
)

func TestTranslate(t *testing.T) {
	for name, f := range map[string]packettest.Frame{
		"tcp4": packettest.TCP{Src: client4, Dst: virtual4, Flags: packet.SYN, Payload: []byte("odd")}.Frame(),
		"tcp6": packettest.TCP{Src: client6, Dst: virtual6, Flags: packet.SYN, Payload: []byte("odd")}.Frame(),
		"udp4": packettest.UDP{Src: client4, Dst: virtual4, Payload: []byte("odd")}.Frame(),
		"udp6": packettest.UDP{Src: client6, Dst: virtual6, Payload: []byte("odd")}.Frame(),
	} {
		t.Run(name, func(t *testing.T) {
			packettest.CheckSums(t, f.Bytes())
			p := f.Parse(t)
			if p.Version == 4 {
				p.Translate(local4, real4)
			} else {
				p.Translate(local6, real6)
			}
			p.DecrementTTL()
			packettest.CheckSums(t, p.Frame())
			if p.Flow.Proto == packet.ProtoTCP {
				p.AddSeq(12345)
				p.AddAck(0xffff0000)
				toa := packet.TOA(254)
				var opt [packet.MaxAddressOption]byte
				if !p.InsertOption(opt[:toa.Encode(opt[:], client6)]) {
					t.Error("no room")
				}
				packettest.CheckSums(t, p.Frame())
			}
		})
	}
}
