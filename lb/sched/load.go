package sched

import "sync/atomic"

// A Load counts the connections of one real server as one service uses it.
// Workers change it as connections come, and a little after they change state and end;
// schedulers read it. The zero Load is a server without connections. All methods may be called
// by any number of workers at once. A Load fills a cache line, so that two
// servers' counters never share one.
type Load struct {
	Active   atomic.Int32 // connections in state Established
	Inactive atomic.Int32 // connections in any other state

	// high is the largest total since the server was last seen below its
	// thresholds. It lets Over notice an upper threshold that was reached and
	// left again between two calls, so that Load need not know thresholds,
	// which a reload may change.
	high atomic.Int32

	_ [52]byte
}

// Opened counts a new connection, which begins inactive.
func (l *Load) Opened() {
	l.Inactive.Add(1)
	total := l.total()
	for high := l.high.Load(); total > high; high = l.high.Load() {
		if l.high.CompareAndSwap(high, total) {
			return
		}
	}
}

// Inherited counts connections that another process has opened.
func (l *Load) Inherited(active, inactive int32) {
	l.Active.Add(active)
	l.Inactive.Add(inactive)
	l.high.Store(max(l.high.Load(), l.total()))
}

// Add counts what has become of connections that were opened: by how many more, or less,
// are active and inactive.
func (l *Load) Add(active, inactive int32) {
	if active != 0 {
		l.Active.Add(active)
	}
	if inactive != 0 {
		l.Inactive.Add(inactive)
	}
}

// Total returns the number of connections.
func (l *Load) Total() int { return int(l.total()) }

func (l *Load) total() int32 { return l.Active.Load() + l.Inactive.Load() }

// Over reports whether the server is overloaded, as ipvs defines it: from the
// moment its connections reach upper until they fall below lower, or below
// three quarters of upper when lower is 0. An upper of 0 means no limit.
func (l *Load) Over(upper, lower int) bool {
	if upper == 0 {
		return false
	}
	high, total := l.high.Load(), l.total()
	if int(max(high, total)) < upper {
		return false
	}
	if !relieved(int(total), upper, lower) {
		return true
	}
	l.high.CompareAndSwap(high, total) // whoever came in between has seen to it
	return false
}

// relieved reports whether a server that was overloaded has come down far
// enough to be used again.
func relieved(total, upper, lower int) bool {
	if lower > 0 {
		return total < lower
	}
	return total*4 < upper*3
}
