package daemon

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What a worker asks of the kernel's scheduler. A thread with a shorter slice than the
// running one's takes the processor from it when it wakes, if it has not used up its
// share; otherwise it waits for the kernel's next tick, for up to 4 ms. Ten levels of
// nice make the share nine times that of another thread.
const (
	slice = 100 * time.Microsecond // the shortest that the kernel gives
	ahead = 10                     // levels of nice
)

// bind gives the calling goroutine a thread of its own on the given CPU, or on
// any if cpu is negative.
func bind(cpu int) error {
	runtime.LockOSThread()
	goFirst()
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

// goFirst has the calling thread run when there are packets, and not after whatever else
// shares its processor. Slices are known since Linux 6.12, and a lower nice takes
// CAP_SYS_NICE or a limit that allows it (RLIMIT_NICE); a thread that the operator has
// given a real-time priority is left alone. Where it fails, a worker waits as long as any
// other thread.
func goFirst() {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL && attr.Policy != unix.SCHED_BATCH {
		return
	}
	nice := max(int(attr.Nice)-ahead, minNice)
	attr.Size, attr.Runtime = unix.SizeofSchedAttr, uint64(slice)
	_ = unix.SchedSetAttr(0, attr, 0) // of no use on older kernels
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, nice)
}

// minNice is the lowest nice value, that of who goes before all others (setpriority(2)).
const minNice = -20

// allowed returns the CPUs that this process may run on.
func allowed() (cpus []int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(os.Getpid(), &set) != nil {
		return nil
	}
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// checkCPUs refuses configured CPUs that the process may not run on.
func checkCPUs(cpus, may []int) error {
	for _, cpu := range cpus {
		if len(may) > 0 && !slices.Contains(may, cpu) {
			return fmt.Errorf("cpus in [dataplane]: %d: fnatd may run on the cpus %v only: name some of these", cpu, may)
		}
	}
	return nil
}

// placement returns the CPU of each worker: of those that are configured in turn,
// or else what place finds. It logs where workers and interrupts meet.
func (d *Daemon) placement(workers int) []int {
	const sysfs, proc = "/sys", "/proc"
	var nics []*net.Interface
	for _, p := range d.ports {
		if nic, err := net.InterfaceByIndex(p.index); err == nil {
			nics = append(nics, nic)
		}
	}
	devices := hardware(sysfs, nics)
	cpus := make([]int, workers)
	if own := d.settings.CPUs; len(own) > 0 {
		for i := range cpus {
			cpus[i] = own[i%len(own)]
		}
	} else {
		cpus = place(sysfs, proc, devices, d.cpus, workers)
	}
	for _, warning := range clashes(proc, devices, cpus) {
		d.log.Warn(warning)
	}
	return cpus
}

// hardware returns the directories of the interfaces' devices. Virtual interfaces
// have none. Where sysfs shows another network namespace than ours, an interface
// of the same name there is not taken for ours.
func hardware(sysfs string, nics []*net.Interface) (devices []string) {
	for _, nic := range nics {
		dir := filepath.Join(sysfs, "class/net", nic.Name)
		device := filepath.Join(dir, "device")
		if _, err := os.Stat(device); err == nil &&
			read(dir, "ifindex") == strconv.Itoa(nic.Index) && read(dir, "address") == nic.HardwareAddr.String() {
			devices = append(devices, device)
		}
	}
	return devices
}

// place returns a CPU of its own for each worker: of those that are near the
// devices, first the ones that serve no interrupt of theirs. Where there are no
// devices, or too few CPUs, the workers are left to the scheduler.
func place(sysfs, proc string, devices []string, may []int, workers int) []int {
	var near, busy []int
	for _, device := range devices {
		if node := read(device, "numa_node"); node != "" && node != "-1" {
			near = append(near, parseCPUList(read(sysfs, "devices/system/node/node"+node+"/cpulist"))...)
		}
		for _, cpus := range interrupts(proc, device) {
			busy = append(busy, cpus...)
		}
	}
	cpus := slices.SortedStableFunc(slices.Values(may), func(a, b int) int {
		return rank(a, near, busy) - rank(b, near, busy)
	})
	if len(devices) == 0 || len(may) < 2 || len(may) < workers {
		return slices.Repeat([]int{-1}, workers)
	}
	return cpus[:workers]
}

// rank orders CPUs: near ones before others, and then idle ones before busy ones.
func rank(cpu int, near, busy []int) (rank int) {
	if len(near) > 0 && !slices.Contains(near, cpu) {
		rank += 2
	}
	if slices.Contains(busy, cpu) {
		rank++
	}
	return rank
}

// clashes returns a warning for each worker CPU that also serves an interrupt of
// one of the devices: a polling worker and the interrupt's softirq would take
// turns on it, which costs more than half of the throughput.
func clashes(proc string, devices []string, cpus []int) (warnings []string) {
	for _, device := range devices {
		serving := interrupts(proc, device)
		for _, irq := range slices.Sorted(maps.Keys(serving)) {
			for _, cpu := range cpus {
				if slices.Contains(serving[irq], cpu) {
					warnings = append(warnings, fmt.Sprintf(
						"cpu %d runs a worker and interrupt %s of %s: give one of them another cpu (`cpus` in [dataplane], or /proc/irq/%s/smp_affinity_list)",
						cpu, irq, filepath.Base(filepath.Dir(device)), irq))
				}
			}
		}
	}
	return warnings
}

// interrupts returns the CPUs that each interrupt of a device is served by.
func interrupts(proc, device string) map[string][]int {
	serving := map[string][]int{}
	irqs, _ := os.ReadDir(filepath.Join(device, "msi_irqs"))
	for _, irq := range irqs {
		if cpus := parseCPUList(read(proc, "irq", irq.Name(), "effective_affinity_list")); len(cpus) > 0 {
			serving[irq.Name()] = cpus
		}
	}
	return serving
}

// read returns what a file of sysfs or proc says, or nothing.
func read(path ...string) string {
	b, _ := os.ReadFile(filepath.Join(path...))
	return strings.TrimSpace(string(b))
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
