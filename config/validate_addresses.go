package config

import (
	"fmt"
	"net/netip"
	"slices"
)

// addresses checks that every address has one role. fnatd takes packets to VIPs
// and LIPs away from the kernel by their address, and tells by it which way they
// go; one that is both, or that a real server has too, would loop or be lost.
func (v *validator) addresses() {
	vips := make(map[netip.Addr]*Service)
	for i := range v.config.Services {
		v.virtual(&v.config.Services[i], vips)
	}
	lips := make(map[netip.Addr]local)
	for i := range v.config.Pools {
		v.locals(&v.config.Pools[i], vips, lips)
	}
	for i := range v.config.Services {
		s := &v.config.Services[i]
		for j := range s.Servers {
			v.real(s, &s.Servers[j], vips, lips)
		}
	}
	bfd := &sessions{v, vips, lips, map[bfdPair][]metSession{}}
	for i := range v.config.Services {
		bfd.service(&v.config.Services[i])
	}
}

// A local is where a LIP was met.
type local struct {
	pool *LocalPool
	line int
}

// virtual checks that all services of a VIP have it on the same interface.
func (v *validator) virtual(s *Service, vips map[netip.Addr]*Service) {
	vip := s.Address.Addr()
	if !vip.IsValid() {
		return
	}
	first, known := vips[vip]
	if !known {
		vips[vip] = s
		return
	}
	known = slices.Contains(v.config.Dataplane.carriers(), first.Interface)
	if known && s.Interface != "" && s.Interface != first.Interface {
		v.fail(&s.Where, s.label, "interface", s.Interface, "%s is on %q for %s (put both on the same)", vip, first.Interface, first.describe())
	}
}

// locals checks that a LIP is in one pool, once, and no VIP. Of a range it
// reports the first address that is not.
func (v *validator) locals(p *LocalPool, vips map[netip.Addr]*Service, lips map[netip.Addr]local) {
	reported := 0 // line of the last report
	for i, lip := range p.Addresses {
		line, what := p.lines[i], ""
		if s, isVIP := vips[lip]; isVIP {
			what = "the virtual address of " + s.describe()
		} else if first, known := lips[lip]; known && first.pool != p {
			what = fmt.Sprintf("in local_pool %q in line %d", first.pool.Name, first.line)
		} else if known {
			what = fmt.Sprintf("in this pool in line %d", first.line)
		} else {
			lips[lip] = local{p, line}
			continue
		}
		if line != reported {
			text := "already " + what + " (an address can be only one thing: choose another)"
			v.add(line, message(p.label, "addresses", lip.String(), text))
			reported = line
		}
	}
}

// real checks that a real server's address is neither VIP nor LIP.
func (v *validator) real(s *Service, r *RealServer, vips map[netip.Addr]*Service, lips map[netip.Addr]local) {
	rip, what := r.Address.Addr(), ""
	if first, isLIP := lips[rip]; isLIP {
		what = fmt.Sprintf("in local_pool %q in line %d", first.pool.Name, first.line)
	} else if of, isVIP := vips[rip]; isVIP {
		what = "the virtual address of " + of.describe()
	} else {
		return
	}
	v.fail(&r.Where, s.label+"real_server: ", "address", r.Address.String(), "already %s (an address can be only one thing: choose another)", what)
}
