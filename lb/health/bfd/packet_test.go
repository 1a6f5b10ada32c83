package bfd

import (
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// good is a packet of a session that is up.
var good = Packet{Diag: NeighborDown, State: Up, Poll: true, Mult: 3, My: 0x01020304, Your: 0x05060708, MinTx: 100_000, MinRx: 50_000}

func TestAppend(t *testing.T) {
	const want = "23e003180102030405060708000186a00000c35000000000"
	if got := hex.EncodeToString(good.Append(nil)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestParse goes through the rules of RFC 5880, section 6.8.6, that need no session.
func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		change func(b []byte) []byte
		want   string // the error; "": none
	}{
		"good":                                  {func(b []byte) []byte { return b }, ""},
		"longer_datagram":                       {func(b []byte) []byte { return append(b, 0) }, ""},
		"empty":                                 {func(b []byte) []byte { return nil }, "0 bytes are no control packet"},
		"short":                                 {func(b []byte) []byte { return b[:23] }, "23 bytes are no control packet"},
		"version_0":                             {func(b []byte) []byte { b[0] &= 0x1f; return b }, "version 0, want 1"},
		"version_2":                             {func(b []byte) []byte { b[0] = 2 << 5; return b }, "version 2, want 1"},
		"length_too_little":                     {func(b []byte) []byte { b[3] = 23; return b }, "its length field says 23, too little"},
		"length_too_little_for_authentication":  {func(b []byte) []byte { b[1] |= bitAuth; b[3] = 25; return append(b, 1, 2) }, "its length field says 25, too little"},
		"authentication_is_left_to_the_session": {func(b []byte) []byte { b[1] |= bitAuth; b[3] = 26; return append(b, 1, 2) }, ""},
		"length_beyond_datagram":                {func(b []byte) []byte { b[3] = 25; return b }, "its length field says 25, and it has 24 bytes"},
		"multiplier_0":                          {func(b []byte) []byte { b[2] = 0; return b }, "its detection multiplier is 0"},
		"multipoint":                            {func(b []byte) []byte { b[1] |= bitMultipoint; return b }, "it is a multipoint one"},
		"my_discriminator_0":                    {func(b []byte) []byte { clear(b[4:8]); return b }, "its discriminator is 0"},
		"up_without_your_discriminator":         {func(b []byte) []byte { clear(b[8:12]); return b }, "state up without our discriminator"},
		"init_without_your_discriminator":       {func(b []byte) []byte { clear(b[8:12]); b[1] = byte(Init) << 6; return b }, "state init without our discriminator"},
		"down_without_your_discriminator":       {func(b []byte) []byte { clear(b[8:12]); b[1] = byte(Down) << 6; return b }, ""},
		"admin_down_without_your_discriminator": {func(b []byte) []byte { clear(b[8:12]); b[1] = 0; return b }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(test.change(good.Append(nil)))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// FuzzParse holds Parse against gopacket, and Append against Parse.
func FuzzParse(f *testing.F) {
	f.Add(good.Append(nil))
	f.Add(append(good.Append(nil), 1, 2, 3))
	authed := append(good.Append(nil), 1, 9, 1, 's', 'e', 'c', 'r', 'e', 't')
	authed[1], authed[3] = authed[1]|bitAuth, byte(len(authed))
	f.Add(authed)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		if p.Mult == 0 || p.My == 0 || p.Your == 0 && p.State > Down {
			t.Fatalf("%+v should have been refused", p)
		}
		if !p.Auth {
			again := p.Append(nil)
			q, err := Parse(again)
			if err != nil || q != p {
				t.Errorf("%+v became %+v (%v)", p, q, err)
			}
		}
		var theirs layers.BFD
		// gopacket wants the datagram to end with the packet.
		if err := theirs.DecodeFromBytes(b[:b[3]], gopacket.NilDecodeFeedback); err != nil {
			return // it also looks into what is authenticated
		}
		got := Packet{
			Diag: Diag(theirs.Diagnostic), State: State(theirs.State), Poll: theirs.Poll, Final: theirs.Final,
			Auth: theirs.AuthPresent, Demand: theirs.Demand, Mult: uint8(theirs.DetectMultiplier),
			My: uint32(theirs.MyDiscriminator), Your: uint32(theirs.YourDiscriminator),
			MinTx: uint32(theirs.DesiredMinTxInterval), MinRx: uint32(theirs.RequiredMinRxInterval),
		}
		if d := cmp.Diff(got, p); d != "" {
			t.Errorf("gopacket (-) and Parse (+) differ:\n%s", d)
		}
	})
}

// TestGopacketAgrees makes sure that FuzzParse compares something.
func TestGopacketAgrees(t *testing.T) {
	var theirs layers.BFD
	b := good.Append(nil)
	if err := theirs.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
		t.Fatal(err)
	}
	if got, want := uint32(theirs.MyDiscriminator), binary.BigEndian.Uint32(b[4:]); got != want {
		t.Errorf("got %x, want %x", got, want)
	}
}
