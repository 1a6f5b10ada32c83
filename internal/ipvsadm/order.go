package ipvsadm

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/fnatd/fnatd/internal/ctl"
)

// ipvsadm compares by differences that wrap around in 32 bits, so that
// 192.168.0.1 stands before 10.0.0.1. Such an order is not transitive, and what
// comes out depends on the way of sorting: that of the C library, a merge sort.

// sortedServices returns the services in the order of lists.
func (p *program) sortedServices(r *request) ([]ctl.Service, error) {
	all, err := p.Server.Services(p.ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		slices.Reverse(all[i].Servers) // the newest comes first
	}
	if r.has[nosort] {
		return all, nil
	}
	mergeSort(all, func(a, b *ctl.Service) int32 {
		return cmp.Or(family(a.Virtual)-family(b.Virtual), protocol(a)-protocol(b), compare(a.Virtual, b.Virtual))
	})
	for i := range all {
		mergeSort(all[i].Servers, func(a, b *ctl.Server) int32 { return compare(a.Real, b.Real) })
	}
	return all, nil
}

// family returns the number of the address family on Linux.
func family(a netip.AddrPort) int32 {
	if a.Addr().Is4() {
		return 2
	}
	return 10
}

func protocol(s *ctl.Service) int32 {
	if s.Protocol == "udp" {
		return 17
	}
	return 6
}

// compare returns the first difference of two addresses, word by word, then of
// their ports, in 32 bits.
func compare(a, b netip.AddrPort) int32 {
	x, y := a.Addr().AsSlice(), b.Addr().AsSlice()
	for i := 0; i+4 <= min(len(x), len(y)); i += 4 {
		if d := int32(binary.BigEndian.Uint32(x[i:]) - binary.BigEndian.Uint32(y[i:])); d != 0 {
			return d
		}
	}
	return int32(a.Port()) - int32(b.Port())
}

// mergeSort sorts s by halves. Of two that compare equal the first stays first.
func mergeSort[T any](s []T, compare func(a, b *T) int32) {
	if len(s) <= 1 {
		return
	}
	a, b := slices.Clone(s[:len(s)/2]), slices.Clone(s[len(s)/2:])
	mergeSort(a, compare)
	mergeSort(b, compare)
	for i := range s {
		if len(b) == 0 || len(a) > 0 && compare(&a[0], &b[0]) <= 0 {
			s[i], a = a[0], a[1:]
		} else {
			s[i], b = b[0], b[1:]
		}
	}
}
