package daemon

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/dataplane/route"
	"github.com/fnatd/fnatd/internal/packet"
)

func TestFrameSize(t *testing.T) {
	for _, c := range []struct {
		mtus  []int
		want  int
		multi bool
	}{
		{[]int{1500}, 2048, false}, {[]int{1500, 1770}, 2048, false}, {[]int{1771, 1500}, 4096, false},
		{[]int{3818}, 4096, false}, {[]int{1500, 3819}, 4096, true}, {[]int{9000}, 4096, true},
	} {
		var ports []port
		for _, mtu := range c.mtus {
			ports = append(ports, port{name: "eth0", mtu: mtu})
		}
		if got, multi := frameSize(ports); got != c.want || multi != c.multi {
			t.Errorf("MTUs %v: got %d %t, want %d %t", c.mtus, got, multi, c.want, c.multi)
		}
		err := tooLong(errors.ErrUnsupported, ports)
		if got := strings.Contains(err.Error(), "ip link set dev eth0 mtu 3498"); got != c.multi || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("MTUs %v: got %q, want it to tell the largest MTU: %t", c.mtus, err, c.multi)
		}
	}
}

// Two interfaces, a VLAN on the first.
var links = []route.Link{
	{Name: "eth0", Port: 0}, {Name: "eth1", Port: 1},
	{Name: "eth0.5", Port: 0, VLANs: packet.VLANs{{Type: packet.EtherTypeVLAN, ID: 5}}},
}

func TestCheckVLANs(t *testing.T) {
	served := []string{"eth0", "eth1"}
	for name, ok := range map[string]bool{"eth0.5": true, "eth0": false, "eth0.6": false} {
		err := checkVLANs([]string{name}, served, links)
		if (err == nil) != ok {
			t.Errorf("%s: got %v, want an error: %t", name, err, !ok)
		}
		if err != nil && !strings.Contains(err.Error(), "ip link add link eth0 name "+name) {
			t.Errorf("%s: got %q, want it to say what to do", name, err)
		}
	}
}

func TestStripped(t *testing.T) {
	for _, c := range []struct {
		name   string
		strips func(string) (bool, error)
		want   bool
	}{
		{"on", func(string) (bool, error) { return true, nil }, true},
		{"off", func(string) (bool, error) { return false, nil }, false},
		{"unknown", func(string) (bool, error) { return false, errors.ErrUnsupported }, true},
	} {
		got := stripped(links, c.strips)
		if c.want != (len(got) == 1 && strings.Contains(got[0], "ethtool -K eth0 rxvlan off")) || len(got) > 1 {
			t.Errorf("%s: got %q, want one about eth0: %t", c.name, got, c.want)
		}
	}
	if got := stripped(slices.Clone(links[:2]), func(string) (bool, error) { return true, nil }); len(got) != 0 {
		t.Errorf("without VLANs: got %q, want nothing", got)
	}
}
