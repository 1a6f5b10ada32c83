package dataplane

import "github.com/fnatd/fnatd/internal/packet"

// departed returns the VIPs whose real servers have left the table: connections
// to them live on, and are found by what clients send to the VIP. Where there are
// none any more, what is sent there is of no service.
func (v *View) departed() (vips []packet.Addr) {
	known := map[packet.Addr]bool{}
	for _, t := range v.targets {
		if t == nil || !t.Gone {
			continue
		}
		if vip := t.Service.Virtual.Addr; !known[vip] {
			known[vip] = true
			vips = append(vips, vip)
		}
	}
	return vips
}
