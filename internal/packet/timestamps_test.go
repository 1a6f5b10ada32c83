package packet_test

import (
	"bytes"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/internal/packettest"
)

func TestTimestamps(t *testing.T) {
	for name, c := range map[string]struct {
		options  []byte
		val, ecr uint32
		ok       bool
	}{
		"alone":          {timestamps, 0x01020304, 0x05060708, true},
		"syn":            {synOptions, 0x01020304, 0, true},
		"odd_place":      {[]byte{1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 0}, 0x01020304, 0x05060708, true},
		"with_sack":      {append(bytes.Clone(timestamps), 1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9), 0x01020304, 0x05060708, true},
		"wrong_length":   {[]byte{8, 8, 1, 2, 3, 4, 5, 6}, 0, 0, false},
		"behind_the_end": {[]byte{1, 0, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}, 0, 0, false},
		"none":           {nil, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			if val, ecr, ok := segment(t, c.options...).Timestamps(); val != c.val || ecr != c.ecr || ok != c.ok {
				t.Errorf("got %#x %#x %v, want %#x %#x %v", val, ecr, ok, c.val, c.ecr, c.ok)
			}
		})
	}
}

func TestShiftTimestamps(t *testing.T) {
	const ack, syn = packet.ACK, packet.SYN
	for name, c := range map[string]struct {
		flags    packet.TCPFlags
		options  []byte
		val, ecr uint32
		want     []byte
	}{
		"both":           {ack, timestamps, 1, 2, []byte{1, 1, 8, 10, 1, 2, 3, 5, 5, 6, 7, 10}},
		"wraps":          {ack, []byte{1, 1, 8, 10, 255, 255, 255, 255, 0, 0, 0, 1}, 2, 0xfffffffe, []byte{1, 1, 8, 10, 0, 0, 0, 1, 255, 255, 255, 255}},
		"to_zero":        {ack, timestamps, 0xfefdfcfc, 0, []byte{1, 1, 8, 10, 0, 0, 0, 0, 5, 6, 7, 8}},
		"odd_place":      {ack, []byte{1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 0}, 0x01000001, 2, []byte{1, 8, 10, 2, 2, 3, 5, 5, 6, 7, 10, 0}},
		"syn":            {syn, synOptions, 1, 2, []byte{2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 5, 0, 0, 0, 0, 1, 3, 3, 7}},
		"no_ack_no_echo": {syn, timestamps, 1, 2, []byte{1, 1, 8, 10, 1, 2, 3, 5, 5, 6, 7, 8}},
		"echo_of_zero":   {ack, []byte{1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0}, 0, 2, []byte{1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0}},
		"by_nothing":     {ack, timestamps, 0, 0, timestamps},
		"wrong_length":   {ack, []byte{8, 8, 1, 2, 3, 4, 5, 6}, 1, 2, []byte{8, 8, 1, 2, 3, 4, 5, 6}},
		"none":           {ack, nil, 1, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := packettest.TCP{Src: client4, Dst: virtual4, Flags: c.flags, Options: c.options, Payload: []byte("odd")}.Frame().Parse(t)
			p.ShiftTimestamps(c.val, c.ecr)
			checkOptions(t, p, c.want...)
		})
	}
}

func TestBlankTimestamps(t *testing.T) {
	nops := bytes.Repeat([]byte{1}, 12)
	for name, c := range map[string]struct{ options, want []byte }{
		"syn": {synOptions, []byte{2, 4, 0x05, 0xb4, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 7}},
		"odd_place": {[]byte{1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 0},
			[]byte{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0}},
		"alone":        {timestamps, nops},
		"wrong_length": {[]byte{8, 4, 1, 2}, []byte{8, 4, 1, 2}},
		"none":         {[]byte{2, 4, 5, 0xb4}, []byte{2, 4, 5, 0xb4}},
	} {
		t.Run(name, func(t *testing.T) {
			p := segment(t, c.options...)
			p.BlankTimestamps()
			checkOptions(t, p, c.want...)
		})
	}
}
