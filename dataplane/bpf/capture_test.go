package bpf

import (
	"bytes"
	"encoding/binary"
	"flag"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	testnet "github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
	"github.com/fnatd/fnatd/synproxy"
)

var update = flag.Bool("update", false, "write the captures in testdata")

// The SYNs of some clients and what they are answered, as a capture that tcpdump and
// wireshark read:
//
//	tcpdump -nvr testdata/synack.pcap
func TestCapture(t *testing.T) {
	secret := synproxy.SecretFrom([16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	r := newGuardedRig(t, Guard{Offers: both(full), Answer: true})
	r.setKeys(t, secret.Keys(time.Unix(1_800_000_000, 0)))
	link := packettest.Link{SrcMAC: [6]byte{2, 0, 0, 0, 0, 0xc1}, DstMAC: [6]byte{2, 0, 0, 0, 0, 0x1b}}
	tagged := link
	tagged.VLAN = []uint16{100}

	var frames []testnet.Frame
	for i, s := range []packettest.TCP{
		{Link: link, Src: client4, Dst: tcp4.Virtual, Options: linuxOptions},
		{Link: tagged, Src: client6, Dst: tcp6.Virtual, Options: linuxOptions},
		{Link: link, Src: client4, Dst: tcp4.Virtual, Options: unhex("020405b40103030801010402")},
		{Link: link, Src: client4, Dst: tcp4.Virtual, Options: unhex("020405b4010303060101080a010203040000000004020000")},
		{Link: link, Src: client4, Dst: tcp4.Virtual, Options: unhex("020402180402080a010203040000000022020101"), Payload: []byte("GET / HTTP/1.1\r\n\r\n")},
		{Link: link, Src: client4, Dst: tcp4.Virtual},
	} {
		s.Flags, s.Seq = packet.SYN, uint32(i+1)*1_000_000
		at := time.Unix(1_800_000_000+int64(i), 0)
		frame := s.Frame().Bytes()
		frames = append(frames,
			testnet.Frame{Time: at, Data: frame},
			testnet.Frame{Time: at.Add(100 * time.Microsecond), Data: r.answerAt(t, frame, 777_000+uint32(i))})
	}
	testnet.CheckCapture(t, filepath.Join("testdata", "synack.pcap"), frames, *update)
}

// answerAt returns what a SYN is answered when the clock of timestamps shows now.
func (r *guardedRig) answerAt(t *testing.T, syn []byte, now uint32) []byte {
	t.Helper()
	for end := time.Now().Add(time.Second); time.Now().Before(end); { // at a tick it does
		r.offset += now - r.clock(t, unix.CLOCK_MONOTONIC)
		must(t, r.SetCookieKeys(&r.keys, r.offset))
		verdict, out := r.pass(t, syn)
		if verdict != xdpTX {
			t.Fatalf("verdict %d, want %d", verdict, xdpTX)
		}
		if stamp := binary.BigEndian.AppendUint32([]byte{8, 10}, now); bytes.Contains(out, stamp) || !bytes.Contains(out, stamp[:2]) {
			return out
		}
	}
	t.Fatal("the clock never shows what it should")
	return nil
}
