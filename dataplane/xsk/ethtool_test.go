package xsk_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/dataplane/xsk"
)

func TestEthtool(t *testing.T) {
	needRoot(t)
	privateNetns(t)
	veth(t, "a0", "a1")
	if got, err := xsk.Queues("a0"); got != 1 || err != nil {
		t.Errorf("queues of a veth: got %d, %v; want 1", got, err)
	}
	// What a veth can, and does unless told otherwise, is to say that it strips.
	if got, err := xsk.StripsVLAN("a0"); !got || err != nil {
		t.Errorf("a veth strips VLAN tags: got %t, %v; want true", got, err)
	}
	for _, name := range []string{"a7", "a-name-that-is-too-long"} {
		if _, err := xsk.StripsVLAN(name); !errors.Is(err, unix.ENODEV) {
			t.Errorf("%s: got %v, want %v", name, err, unix.ENODEV)
		}
	}
}
