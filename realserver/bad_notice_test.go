package realserver

import (
	"encoding/binary"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

// TestBadNoticesAreCounted breaks IPv6 notices, each in one way; those of IPv4 are
// broken on the wire by the tests of the whole program.
func TestBadNoticesAreCounted(t *testing.T) {
	p := loadForTest(t)
	const local, stranger, real, client = "[fd00:1::10]:1024", "[fd00:9::10]:1024", "[fd00:2::11]:53", "[2001:db8::7]:40000"
	at := func(offset int, to byte) func([]byte) []byte {
		return func(message []byte) []byte { message[offset] = to; return message }
	}
	cut := func(n int) func([]byte) []byte { return func(message []byte) []byte { return message[:n] } }
	for name, test := range map[string]struct {
		local   string
		spoil   func(message []byte) []byte // its checksum is made good
		damage  bool                        // but then not
		counter Counter
	}{
		"good":             {counter: Noticed},
		"untrusted":        {local: stranger, counter: NoticeUntrusted},
		"damaged":          {damage: true, counter: NoticeChecksum},
		"magic":            {spoil: at(8, 124), counter: NoticeMagic},
		"protocol":         {spoil: at(9, 1), counter: NoticeProtocol},
		"truncated":        {spoil: cut(33), counter: NoticeLength},
		"empty":            {spoil: cut(8), counter: NoticeLength},
		"overlong":         {spoil: func(m []byte) []byte { return append(m, 0, 0, 0, 0) }, counter: NoticeLength},
		"kind":             {spoil: at(14, 77), counter: NoticeOption},
		"length of option": {spoil: at(15, 8), counter: NoticeOption},
		"port 0":           {spoil: func(m []byte) []byte { return at(17, 0)(at(16, 0)(m)) }, counter: NoticeAddress},
		"multicast":        {spoil: at(18, 0xff), counter: NoticeAddress},
	} {
		if test.local == "" {
			test.local = local
		}
		frame := announced(test.local, real, client, packet.NoticePacked)
		const begin = 14 + 40
		if test.spoil != nil {
			frame = append(frame[:begin:begin], test.spoil(frame[begin:])...)
		}
		message := frame[begin:]
		binary.BigEndian.PutUint16(frame[18:], uint16(len(message)))
		copy(message[2:], []byte{0, 0})
		pseudo := append([]byte{}, frame[22:54]...)
		pseudo = append(pseudo, 0, 0, 0, byte(len(message)), 0, 0, 0, 58)
		binary.BigEndian.PutUint16(message[2:], uint16(packet.Checksum(append(pseudo, message...))))
		if test.damage {
			message[len(message)-1] ^= 1
		}
		before := p.count(t, test.counter)
		p.forget(t)
		p.run(t, "fnatrs_ingress", append(make([]byte, 6), frame[6:]...))
		if got := p.count(t, test.counter); got != before+1 {
			t.Errorf("%s: %s: got %d, want one more than %d", name, test.counter, got, before)
		}
		all, err := p.listMappings()
		if err != nil || (len(all) == 1) != (test.counter == Noticed) {
			t.Errorf("%s: got %+v, %v, want a mapping only of a good one", name, all, err)
		}
	}
}

// count returns a counter's value.
func (p *programs) count(t testing.TB, c Counter) uint64 {
	t.Helper()
	all, err := p.counts()
	if err != nil {
		t.Fatal(err)
	}
	return all[c].Count
}
