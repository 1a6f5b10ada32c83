package packet_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

// built returns the frame that a builder wrote, in a dirty buffer as a frame
// from the free list is.
func built(build func(buf []byte, start int) int) packettest.Frame {
	buf := bytes.Repeat([]byte{0xee}, 2048)
	return packettest.Frame{Buf: buf, Start: 256, End: build(buf, 256)}
}

func notice(n packet.Notice) packettest.Frame {
	return built(func(buf []byte, start int) int { return packet.BuildNotice(buf, start, &n) })
}

func TestBuildNotice(t *testing.T) {
	// 10.0.1.10:5001 to 10.0.2.11:8080 for 198.51.100.7:40000.
	header := func(length, sum1, sum2 byte) []byte {
		return []byte{
			0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0,
			0x45, 0, 0, length, 0, 0, 0x40, 0, 60, 1, sum1, sum2, 10, 0, 1, 10, 10, 0, 2, 11,
		}
	}
	for name, c := range map[string]struct {
		notice packet.Notice
		want   []byte
	}{
		"packed": {
			packet.Notice{Local: local4, Real: real4, Client: client4, Proto: packet.ProtoUDP, Length: 42},
			append(header(42, 0x27, 0xbf),
				8, 0, 0xff, 0xff, 0x34, 0x12, 0, 0,
				123, 17, 0x13, 0x89, 0x1f, 0x90,
				254, 8, 0x9c, 0x40, 198, 51, 100, 7),
		},
		"padded": {
			packet.Notice{Local: local4, Real: real4, Client: client4, Proto: packet.ProtoTCP, Length: 44},
			append(header(44, 0x27, 0xbd),
				8, 0, 0xff, 0xff, 0x34, 0x12, 0, 0,
				123, 6, 0x13, 0x89, 0x1f, 0x90, 0, 0,
				254, 8, 0x9c, 0x40, 198, 51, 100, 7),
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := notice(c.notice)
			packettest.CheckSums(t, f.Bytes())
			got := bytes.Clone(f.Bytes())
			got[36], got[37] = 0xff, 0xff // verified in full above
			if diff := cmp.Diff(got, c.want); diff != "" {
				t.Errorf("got(-) want(+)\n%s", diff)
			}
			if p := f.Parse(t); p.IPLen() != c.notice.Length {
				t.Errorf("IP length: got %d, want %d", p.IPLen(), c.notice.Length)
			}
		})
	}
}

func TestBuildNoticeOtherFamilies(t *testing.T) {
	option6 := append([]byte{254, 20, 0x9c, 0x40}, client6.Addr[:]...)
	option4 := []byte{254, 8, 0x9c, 0x40, 198, 51, 100, 7}
	for name, c := range map[string]struct {
		notice packet.Notice
		ipLen  int
		want   []byte // ICMP, without the checksum
	}{
		"ipv6_client": {packet.Notice{Local: local4, Real: real4, Client: client6, Proto: 17, Length: 42}, 54,
			append([]byte{8, 0, 0, 0, 0x34, 0x12, 0, 0, 123, 17, 0x13, 0x89, 0x1f, 0x90}, option6...)},
		"ipv6_client_padded": {packet.Notice{Local: local4, Real: real4, Client: client6, Proto: 17, Length: 44}, 56,
			append([]byte{8, 0, 0, 0, 0x34, 0x12, 0, 0, 123, 17, 0x13, 0x89, 0x1f, 0x90, 0, 0}, option6...)},
		"ipv6_both": {packet.Notice{Local: local6, Real: real6, Client: client6, Proto: 17, Length: 42}, 74,
			append([]byte{128, 0, 0, 0, 0x34, 0x12, 0, 0, 123, 17, 0x13, 0x89, 0x1f, 0x90}, option6...)},
		"ipv6_server": {packet.Notice{Local: local6, Real: real6, Client: client4, Proto: 6, Length: 42}, 62,
			append([]byte{128, 0, 0, 0, 0x34, 0x12, 0, 0, 123, 6, 0x13, 0x89, 0x1f, 0x90}, option4...)},
	} {
		t.Run(name, func(t *testing.T) {
			f := notice(c.notice)
			packettest.CheckSums(t, f.Bytes())
			p := f.Parse(t)
			if p.IPLen() != c.ipLen {
				t.Errorf("IP length: got %d, want %d", p.IPLen(), c.ipLen)
			}
			got := bytes.Clone(p.ICMP())
			got[2], got[3] = 0, 0
			if diff := cmp.Diff(got, c.want); diff != "" {
				t.Errorf("got(-) want(+)\n%s", diff)
			}
			if p.Version == 6 && p.IPv6().HopLimit() != 60 {
				t.Errorf("hop limit: got %d, want 60", p.IPv6().HopLimit())
			}
		})
	}
}

func TestNoticeReply(t *testing.T) {
	for _, local := range []packet.Endpoint{local4, local6} {
		for _, client := range []packet.Endpoint{client4, client6} {
			for _, length := range []int{packet.NoticePacked, packet.NoticePadded} {
				real := real4
				if local == local6 {
					real = real6
				}
				request := notice(packet.Notice{Local: local, Real: real, Client: client, Proto: packet.ProtoUDP, Length: length})
				if _, ok := request.Parse(t).NoticeReply(); ok {
					t.Errorf("%v for %v: the notice itself is taken for a reply", local, client)
				}
				reply := packettest.EchoReply(request)
				packettest.CheckSums(t, reply.Bytes())
				got, ok := reply.Parse(t).NoticeReply()
				if want := flow(real, local, packet.ProtoUDP); !ok || got != want {
					t.Errorf("%v for %v: got %v %v, want %v", local, client, got, ok, want)
				}
			}
		}
	}
}

func TestNoticeReplyIgnoresWhatDiffers(t *testing.T) {
	request := notice(packet.Notice{Local: local4, Real: real4, Client: client4, Proto: packet.ProtoUDP, Length: packet.NoticePacked})
	reply := packettest.EchoReply(request)
	body := func(change func(b []byte)) packettest.Frame {
		b := bytes.Clone(reply.Bytes()[42:])
		change(b)
		return packettest.ICMP{Src: real4.Addr, Dst: local4.Addr, ID: 0x3412, Body: b}.Frame()
	}
	damaged := packettest.NewFrame(reply.Bytes())
	damaged.Buf[damaged.End-1] ^= 1
	data := reply.Bytes()[42:]
	for name, f := range map[string]packettest.Frame{
		"damaged":       damaged,
		"identifier":    packettest.ICMP{Src: real4.Addr, Dst: local4.Addr, ID: 0x1234, Body: data}.Frame(),
		"sequence":      packettest.ICMP{Src: real4.Addr, Dst: local4.Addr, ID: 0x3412, Seq: 1, Body: data}.Frame(),
		"code":          packettest.ICMP{Src: real4.Addr, Dst: local4.Addr, Code: 1, ID: 0x3412, Body: data}.Frame(),
		"too_short":     packettest.ICMP{Src: real4.Addr, Dst: local4.Addr, ID: 0x3412, Body: data[:13]}.Frame(),
		"too_long":      packettest.ICMP{Src: real4.Addr, Dst: local4.Addr, ID: 0x3412, Body: append(bytes.Clone(data), 0)}.Frame(),
		"magic":         body(func(b []byte) { b[0]++ }),
		"protocol":      body(func(b []byte) { b[1] = 1 }),
		"option_kind":   body(func(b []byte) { b[6] = 200 }),
		"option_length": body(func(b []byte) { b[7] = 20 }),
		"udp":           packettest.UDP{Src: real4, Dst: local4, Payload: data}.Frame(),
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := f.Parse(t).NoticeReply(); ok {
				t.Errorf("got %v, want none", got)
			}
		})
	}
	if _, ok := body(func([]byte) {}).Parse(t).NoticeReply(); !ok {
		t.Error("the unchanged reply is not one")
	}
}

func TestBuildRST(t *testing.T) {
	reset := func(r packet.Reset) packettest.Frame {
		return built(func(buf []byte, start int) int { return packet.BuildRST(buf, start, &r) })
	}
	f := reset(packet.Reset{Src: virtual4, Dst: client4, Seq: 0x01020304, Ack: 0x05060708, WithAck: true})
	packettest.CheckSums(t, f.Bytes())
	want := []byte{
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0,
		0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0xd4, 0x8a, 203, 0, 113, 10, 198, 51, 100, 7,
		0, 80, 0x9c, 0x40, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x14, 0, 0, 0xff, 0xff, 0, 0,
	}
	got := bytes.Clone(f.Bytes())
	got[50], got[51] = 0xff, 0xff // verified in full above
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got(-) want(+)\n%s", diff)
	}

	f = reset(packet.Reset{Src: virtual6, Dst: client6, Seq: 7, Ack: 9})
	packettest.CheckSums(t, f.Bytes())
	p := f.Parse(t)
	if p.Flow != flow(virtual6, client6, packet.ProtoTCP) || p.Flags != packet.RST {
		t.Errorf("got %v %v, want %v to %v, R", p.Flow, p.Flags, virtual6, client6)
	}
	if s := p.TCP(); s.Seq() != 7 || s.Ack() != 0 || s.Window() != 0 || s.Urgent() != 0 || p.IPv6().HopLimit() != 64 {
		t.Errorf("seq, ack, window, urgent, hop limit: got %d %d %d %d %d, want 7 0 0 0 64",
			s.Seq(), s.Ack(), s.Window(), s.Urgent(), p.IPv6().HopLimit())
	}
}

func TestBuiltFramesFitTheirBounds(t *testing.T) {
	packet.BuildNotice(make([]byte, packet.NoticeLen), 0, &packet.Notice{Local: local6, Real: real6, Client: client6, Length: packet.NoticePadded})
	packet.BuildRST(make([]byte, packet.ResetLen), 0, &packet.Reset{Src: virtual6, Dst: client6})
}
