package tests

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Where everything but the worker runs when a benchmark has it alone, and where it does.
const othersCPU, workerCPU = 0, 1

// alone leaves the worker of a fnatd that has cpus = [workerCPU] alone there: fnatd's
// other threads, this process and what it starts from now on go elsewhere, until the
// benchmark ends.
func alone(b testing.TB, pid int) {
	b.Helper()
	var all, others unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		b.Fatal(err)
	}
	others.Set(othersCPU)
	b.Cleanup(func() { move(b, os.Getpid(), &all) })
	move(b, os.Getpid(), &others)
	move(b, pid, &others)
}

// move has all threads of a process that are not bound to one processor run on these.
func move(b testing.TB, pid int, to *unix.CPUSet) {
	b.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			b.Fatal(err)
		}
		var now unix.CPUSet
		if err := unix.SchedGetaffinity(id, &now); err != nil || now.Count() == 1 && now.IsSet(workerCPU) {
			continue // it has ended, or is the worker
		}
		if err := unix.SchedSetaffinity(id, to); err != nil && err != unix.ESRCH {
			b.Fatal(err)
		}
	}
}
