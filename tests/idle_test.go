package tests

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTicks is USER_HZ, in which /proc/PID/stat counts (proc(5)). It has been
// 100 on every architecture that fnatd runs on.
const clockTicks = 100

// cpuTime returns the processor time that fnatd has used.
func (b *bed) cpuTime() time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.lb.PID()))
	if err != nil {
		b.Fatal(err)
	}
	// Behind the name, in parentheses, stands field 3.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int
	for _, field := range []int{14, 15} { // utime, stime
		n, err := strconv.Atoi(fields[field-3])
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicks
}

func idleIsCheap(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.start(b.web(0))
	b.connect(accepted).exchange() // it has worked, and has a connection to keep
	const idle = 5 * time.Second
	before := b.cpuTime()
	time.Sleep(idle)
	if used, limit := b.cpuTime()-before, idle*2/100; used > limit {
		b.Errorf("fnatd used %v of a processor in %v without a packet, want at most %v", used, idle, limit)
	}
}

func busyPollUsesItsCore(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	b.startWith("busy_poll = true", b.web(0))
	before := b.cpuTime()
	// An idle fnatd that sleeps would not use as much in all of our patience.
	b.eventually("fnatd has used a second of its core", func() bool { return b.cpuTime()-before > time.Second })
	b.connect(accepted).exchange()
}
