package netns

import (
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestNoEndHasAnOffloadThatChangesFrames(t *testing.T) {
	r := ForTest(t, Topology{Servers: 1})
	for _, end := range []struct {
		host   *Host
		ifname string
	}{{r.Client, "eth0"}, {r.Balancer, "wan0"}, {r.Balancer, "lan0"}, {r.Switch, "lb"}, {r.Switch, "server0"}, {r.Servers[0], "eth0"}} {
		var state map[string]bool
		err := end.host.Do(func() error {
			family, err := netlink.GenlFamilyGet(unix.ETHTOOL_GENL_NAME)
			if err != nil {
				return err
			}
			state, err = features(family.ID, end.ifname)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if !state["tx-scatter-gather"] {
			t.Fatalf("%s %s: not the features of a veth: %v", end.host.Name, end.ifname, state)
		}
		for name, on := range state {
			if on && changesFrames(name) {
				t.Errorf("%s %s: %s is on", end.host.Name, end.ifname, name)
			}
		}
	}
}

// changesFrames reports whether a feature makes what one end of a veth receives
// differ from what a real network would carry. Those for tunnels do not matter.
func changesFrames(feature string) bool {
	return strings.HasPrefix(feature, "tx-checksum") || strings.HasPrefix(feature, "tx-tcp") ||
		strings.HasPrefix(feature, "tx-udp-") || strings.HasPrefix(feature, "tx-g") && !strings.HasPrefix(feature, "tx-gre") ||
		strings.HasPrefix(feature, "rx-gro")
}
