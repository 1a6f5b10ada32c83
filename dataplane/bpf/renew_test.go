package bpf

import (
	"testing"

	"github.com/vishvananda/netlink"
)

func TestRenew(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testRenew(t, false) })
	t.Run("multi_buffer", func(t *testing.T) { testRenew(t, true) })
}

func testRenew(t *testing.T, multi bool) {
	privateNetns(t)
	p := mustLoad(t, pinDir(t))
	inner := veth(t, "v0", "v1")
	index := inner.Attrs().Index
	_, _, err := p.Attach(index, "v1", Native, multi)
	must(t, err)
	must(t, p.SetServices(plain(ServiceKey{Proto: 17, Virtual: endpoint("192.0.2.1:53")})))
	before, err := xdpOf(index, "v1")
	must(t, err)
	for range 2 {
		must(t, p.Renew())
		after, err := xdpOf(index, "v1")
		must(t, err)
		if !after.Attached || after.ProgId == before.ProgId {
			t.Errorf("got %+v, want another instance than %+v", after, before)
		}
		before = after
	}
	if n := p.services.bpf; n == nil || p.objs.Services != n {
		t.Error("the maps are others")
	}
	if !holds(p.ports[index].link, before) {
		t.Error("the link does not hold the new instance")
	}
	must(t, p.Close(false))
	if l, err := netlink.LinkByName("v1"); err != nil || l.Attrs().Xdp != nil && l.Attrs().Xdp.Attached {
		t.Errorf("after Close: %v, still attached", err)
	}
}
