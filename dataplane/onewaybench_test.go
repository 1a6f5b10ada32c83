package dataplane

import (
	"fmt"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// BenchmarkOneWay is a datagram of a UDP client that gets no answer, clients visited at
// random.
func BenchmarkOneWay(b *testing.B) {
	ends := *belt4
	ends.service = "protocol = \"udp\"\nclient_address = \"none\"\n"
	from := packet.Endpoint{Addr: packet.AddrFromNetip(ends.client), Port: 1}
	datagram := packettest.UDP{Src: from, Dst: ends.vip, Payload: make([]byte, 18)}.Frame().Bytes()
	for _, conns := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			mills := newMills(b, &ends, 1, conns)
			for i := range conns {
				mills[0].lines = append(mills[0].lines, beltLine{number: uint32(i)})
			}
			each(mills, func(m *mill) {
				for first := 0; first < conns; first += batchSize {
					m.all(m.lines[first:min(first+batchSize, conns)], (*mill).inbound, datagram)
				}
			})
			reset(b, mills)
			each(mills, func(m *mill) {
				for n := 0; n < b.N; n += batchSize * beltBatches {
					for range batchSize * beltBatches {
						m.inbound(&m.lines[m.rng.IntN(conns)], datagram)
					}
					m.run()
					m.clear()
					m.lap(batchSize * beltBatches)
				}
			})
			report(b, mills, "packet")
		})
	}
}
