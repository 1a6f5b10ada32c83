package xsk

import (
	"encoding/binary"
	"errors"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

func TestParseRSS(t *testing.T) {
	var tail []byte
	for _, queue := range []uint32{0, 1, 2, 1} {
		tail = binary.NativeEndian.AppendUint32(tail, queue)
	}
	tail = append(tail, "0123456789"...)
	tail = append(tail, 0, 0) // to whole words
	good := ethtoolRXFH{tableSize: 4, keySize: 10, hash: hashToeplitz}

	got, err := parseRSS(&good, tail)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&RSS{Queues: []uint32{0, 1, 2, 1}, Key: []byte("0123456789")}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, change := range map[string]func(*ethtoolRXFH){
		"another_hash":           func(h *ethtoolRXFH) { h.hash = 1 << 1 },
		"symmetric_input":        func(h *ethtoolRXFH) { h.transform = 1 },
		"more_than_was_asked_of": func(h *ethtoolRXFH) { h.tableSize = 5 },
	} {
		t.Run(name, func(t *testing.T) {
			head := good
			change(&head)
			if _, err := parseRSS(&head, tail); !errors.Is(err, ErrNoRSS) {
				t.Errorf("got %v, want %v", err, ErrNoRSS)
			}
		})
	}
}

// The sizes of linux/ethtool.h.
func TestRSSStructs(t *testing.T) {
	if got := unsafe.Sizeof(ethtoolRXFH{}); got != 24 {
		t.Errorf("struct ethtool_rxfh: %d bytes, want 24", got)
	}
	if got := unsafe.Sizeof(ethtoolRXNFC{}); got != 16 {
		t.Errorf("struct ethtool_rxnfc, short: %d bytes, want 16", got)
	}
}

func TestInterfaceWithoutRSS(t *testing.T) {
	if r, err := ReadRSS("lo"); !errors.Is(err, ErrNoRSS) {
		t.Errorf("got %v, %v, want %v", r, err, ErrNoRSS)
	}
	if _, err := ReadRSS("no such interface"); err == nil {
		t.Error("an interface that is not there: want an error")
	}
}
