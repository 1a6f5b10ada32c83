package xsk

// A Census says where the frames of a UMEM are.
type Census struct {
	Frames     int // all there are
	Fill       int // on fill rings, or taken off them by the kernel to receive into
	RX         int // on RX rings
	TX         int // on TX rings, or taken off them by the kernel to send
	Completion int // on completion rings
	Free       int // on the free list
	Held       int // in the owner's hands
	Misplaced  int // found in two places, or not where they should be; 0 but for a bug
}

// Census counts the frames. It is for tests and for stopping: it reads every ring.
func (u *UMEM) Census() Census {
	c := Census{Frames: len(u.place), Misplaced: u.doubled}
	var at [256]int
	for _, p := range u.place {
		at[p]++
	}
	seen := make([]bool, len(u.place))
	check := func(addr uint64, want place) {
		i := addr >> u.shift
		if u.place[i] != want || seen[i] {
			c.Misplaced++
		}
		seen[i] = true
	}
	for _, addr := range u.free {
		check(addr, inFree)
	}
	c.Free, c.Held = at[inFree], at[inHand]
	if len(u.free) != c.Free {
		c.Misplaced++
	}
	for _, s := range u.sockets {
		rx := walk(&s.rx, s.rxSlots, func(d Desc) { check(d.Addr, s.onReceive) })
		completed := walk(&s.completion, s.completionSlots, func(addr uint64) { check(addr, s.onSend) })
		c.RX += rx
		c.Fill += at[s.onReceive] - rx
		c.Completion += completed
		c.TX += at[s.onSend] - completed
	}
	return c
}

// Conserved reports whether every frame is in exactly one place.
func (c Census) Conserved() bool {
	return c.Misplaced == 0 && c.Fill+c.RX+c.TX+c.Completion+c.Free+c.Held == c.Frames
}

// walk calls f for what the kernel has put on a ring and we have not taken yet,
// and returns how many there were.
func walk[S slot](r *consumer, slots []S, f func(S)) int {
	n := r.theirs.Load() - r.next
	for i := range n {
		f(slots[(r.next+i)&r.mask])
	}
	return int(n)
}
