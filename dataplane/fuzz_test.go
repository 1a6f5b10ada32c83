package dataplane

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// FuzzWorker sends whatever the fuzzer thinks of through a whole worker that has
// connections: no input may crash it or lose a frame, and its table must stay
// sound. An input is a sequence of frames: each a byte that tells the port in
// its lowest bit and the time that passes in the others, two bytes of length,
// of which the highest two bits tell in how many pieces, and the frame. An input
// of odd length meets next hops in VLANs, and one whose length 3 divides SYNPROXY.
func FuzzWorker(f *testing.F) {
	seed := func(frames ...[]byte) {
		var in []byte
		for i, frame := range frames {
			in = append(in, byte(i&1))
			in = binary.BigEndian.AppendUint16(in, uint16(len(frame)))
			in = append(in, frame...)
		}
		f.Add(in)
	}
	k := &talk{client: client, virtual: vip, seq: clientISN, real: real0, realSeq: realISN, local: packet.Endpoint{Addr: lip, Port: 1024}}
	seed(k.fromClient(packet.SYN, synOptions, "").Bytes(), k.fromReal(packet.SYN|packet.ACK, synOptions, "").Bytes(),
		k.fromClient(packet.ACK, "", dataPayload).Bytes(), k.fromReal(packet.ACK, "\x01\x01\x05\x0a12345678", "y").Bytes())
	seed(k.fromClient(packet.ACK, "\xfe\x08\x00\x50\x0a\x01\x02\x03", "x").Bytes(), k.fromReal(packet.RST, "", "").Bytes())
	seed(query(client, "?").Bytes(), packettest.ICMP{Src: real0.Addr, Dst: lip, ID: 0x3412, Body: make([]byte, 14)}.Frame().Bytes())
	seed(packettest.UDP{Link: packettest.Link{VLAN: []uint16{5, 6}}, Src: client, Dst: vipUDP, NoSum: true}.Frame().Bytes())
	seed(packettest.TCP{Src: packettest.Endpoint("[2001:db8::2]:9"), Dst: packettest.Endpoint("[2001:db8::1]:80"), Flags: packet.SYN}.Frame().Bytes())

	for _, both := range []families{sixToFour, fourToSix} {
		seed(packettest.TCP{Src: both.client, Dst: both.vip, Flags: packet.SYN, Options: []byte(synOptions)}.Frame().Bytes(),
			packettest.UDP{Src: both.client, Dst: both.vip, Payload: []byte("?")}.Frame().Bytes())
		var pieces [][]byte
		for _, p := range packettest.Fragments(packettest.UDP{Src: both.client, Dst: both.vip, Payload: make([]byte, 3000)}.Frame(), 1500) {
			pieces = append(pieces, p.Bytes(), p.Bytes())
		}
		seed(pieces...)
		wanRouter, _ := both.routers()
		sent := packettest.TCP{Src: both.vip, Dst: both.client, Flags: packet.ACK, Seq: realISN}.Frame().Parse(f)
		seed(tooBig(wanRouter, sent, 1400).Bytes())
	}
	six := strings.Replace(sixToFour.service("tcp", "toa", ""), `name = "s"`, `name = "six"`, 1)
	four := strings.Replace(fourToSix.service("udp", "icmp-echo", ""), `name = "s"`, `name = "four"`, 1)

	f.Fuzz(func(t *testing.T, in []byte) {
		options := []option{maxConnections(64)}
		if len(in)%2 == 1 {
			options = append(options, tagged, reflectMAC)
		}
		web := tcpService
		if len(in)%3 == 0 {
			web = guarded("")
		}
		w := newWorld(t, web+udpService+six+four, options...)
		w.loose = true
		if len(in)%3 == 0 {
			w.joined(at(1), synOptions, synOptions)
			opening, _ := w.knock(at(3), clientISN, synOptions)
			opening.proveBy(opening.fromClient(packet.ACK, "", ""))
		} else {
			w.connect(at(1))
		}
		w.ask(at(2))
		for len(in) >= 3 {
			port, pause := int(in[0]&1), time.Duration(in[0]>>1)*50*time.Millisecond
			length := int(binary.BigEndian.Uint16(in[1:]))
			n := min(length&0x3fff, len(in)-3, 1700)
			w.put(port, pieces(in[3:3+n], n/(1+length>>14)+1)...)
			in = in[3+n:]
			w.clock = w.clock.Add(pause)
			w.worker.poll(w.clock)
			for _, p := range w.ports {
				p.Complete()
				p.sent = nil
			}
		}
		w.worker.dropWaiting()
		w.worker.dropAllHeld()
		if c := w.umem.Census(); !c.Conserved() || c.Free != w.frames {
			t.Errorf("frames: got %+v, want all of %d free", c, w.frames)
		}
		if err := w.conns.Check(); err != nil {
			t.Error(err)
		}
	})
}
