package sched

// least is lc, wlc, sed and nq: the available server with the least cost per
// weight, the first of several. Like ipvs it counts an active connection as 256
// inactive ones for lc and wlc, while sed and nq look at active ones alone.
type least struct {
	servers  []Server
	weighted bool // divide the cost by the weight
	expected bool // sed, nq: the cost that the new connection would bring about
	idle     bool // nq: a server without active connections comes first
}

func newLeast(s *Spec, _ algorithm) algorithm {
	return &least{
		servers:  s.Servers,
		weighted: s.Name != "lc",
		expected: s.Name == "sed" || s.Name == "nq",
		idle:     s.Name == "nq",
	}
}

func (l *least) pick(Client) int {
	best, bestCost, bestWeight := -1, int64(0), int64(1)
	for i := range l.servers {
		s := &l.servers[i]
		if !s.Available() {
			continue
		}
		if l.idle && s.Load.Active.Load() == 0 {
			return i
		}
		cost, weight := l.cost(s.Load), int64(1)
		if l.weighted {
			weight = int64(s.Weight)
		}
		// cost/weight < bestCost/bestWeight, without dividing
		if best < 0 || cost*bestWeight < bestCost*weight {
			best, bestCost, bestWeight = i, cost, weight
		}
	}
	return best
}

func (l *least) cost(load *Load) int64 {
	active := int64(load.Active.Load())
	if l.expected {
		return active + 1
	}
	return active*256 + int64(load.Inactive.Load())
}
