package sched

// failover is fo: the available server with the highest weight, the first of
// several.
type failover struct{ servers []Server }

func newFailover(s *Spec, _ algorithm) algorithm { return &failover{s.Servers} }

func (f *failover) pick(Client) int {
	best := -1
	for i := range f.servers {
		if (best < 0 || f.servers[i].Weight > f.servers[best].Weight) && f.servers[i].Available() {
			best = i
		}
	}
	return best
}

// overflow is ovf: the available server with the highest weight whose active
// connections have not reached its weight, the first of several. When all are
// full no server takes the connection, as in ipvs; unlike ipvs, which stops
// above the weight, a server is full at it.
type overflow struct{ servers []Server }

func newOverflow(s *Spec, _ algorithm) algorithm { return &overflow{s.Servers} }

func (o *overflow) pick(Client) int {
	best := -1
	for i := range o.servers {
		s := &o.servers[i]
		if best >= 0 && s.Weight <= o.servers[best].Weight {
			continue
		}
		if int(s.Load.Active.Load()) < s.Weight && s.Available() {
			best = i
		}
	}
	return best
}
