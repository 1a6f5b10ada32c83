package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// bind gives the calling goroutine a thread of its own on the given CPU, or on
// any if cpu is negative.
func bind(cpu int) error {
	runtime.LockOSThread()
	if cpu < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind worker to cpu %d: %w (see `cpus` in [dataplane])", cpu, err)
	}
	return nil
}

// shared returns a warning for each worker CPU that also serves an interrupt of
// one of the interfaces: a polling worker and the interrupt's softirq would take
// turns on it, which costs more than half of the throughput. Virtual interfaces
// have no interrupts, and none are found for them.
func shared(sysfs, proc string, interfaces []string, cpus []int) (warnings []string) {
	for _, name := range interfaces {
		irqs, _ := os.ReadDir(filepath.Join(sysfs, "class/net", name, "device/msi_irqs"))
		for _, irq := range irqs {
			list, err := os.ReadFile(filepath.Join(proc, "irq", irq.Name(), "effective_affinity_list"))
			if err != nil {
				continue
			}
			for _, cpu := range cpus {
				if slices.Contains(parseCPUList(strings.TrimSpace(string(list))), cpu) {
					warnings = append(warnings, fmt.Sprintf(
						"cpu %d runs a worker and interrupt %s of %s: give one of them another cpu (`cpus` in [dataplane], or /proc/irq/%s/smp_affinity_list)",
						cpu, irq.Name(), name, irq.Name()))
				}
			}
		}
	}
	return warnings
}

// parseCPUList parses the kernel's "0-2,7".
func parseCPUList(s string) (cpus []int) {
	for part := range strings.SplitSeq(s, ",") {
		low, high, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(low)
		if err != nil {
			continue
		}
		to := from
		if isRange {
			if to, err = strconv.Atoi(high); err != nil {
				continue
			}
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}
