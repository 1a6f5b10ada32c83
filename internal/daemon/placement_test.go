package daemon

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A fakeRoot is a directory with files as in sysfs and proc.
type fakeRoot struct {
	testing.TB
	dir string
}

func (r fakeRoot) put(name, text string) {
	r.Helper()
	name = filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text+"\n"), 0o644); err != nil {
		r.Fatal(err)
	}
}

var eth0 = net.Interface{Index: 2, Name: "eth0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}

// newRoot is a machine of two nodes with four CPUs each. eth0 is at the second
// one, and two of its CPUs serve eth0's interrupts.
func newRoot(t *testing.T) fakeRoot {
	r := fakeRoot{t, t.TempDir()}
	r.put("class/net/eth0/ifindex", "2")
	r.put("class/net/eth0/address", "02:00:00:00:00:01")
	r.put("class/net/eth0/device/numa_node", "1")
	r.put("class/net/eth0/device/msi_irqs/41", "msix")
	r.put("class/net/eth0/device/msi_irqs/42", "msix")
	r.put("class/net/veth0/ifindex", "3")
	r.put("class/net/veth0/address", "02:00:00:00:00:02")
	r.put("irq/41/effective_affinity_list", "4")
	r.put("irq/42/effective_affinity_list", "6")
	r.put("devices/system/node/node0/cpulist", "0-3")
	r.put("devices/system/node/node1/cpulist", "4-7")
	return r
}

func TestHardware(t *testing.T) {
	r := newRoot(t)
	for name, nic := range map[string]net.Interface{
		"virtual":                      {Index: 3, Name: "veth0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2}},
		"not_there":                    {Index: 4, Name: "eth1"},
		"of_another_namespace_by_name": {Index: 7, Name: "eth0", HardwareAddr: eth0.HardwareAddr},
		"of_another_namespace_by_mac":  {Index: 2, Name: "eth0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hardware(r.dir, []*net.Interface{&nic}); len(got) != 0 {
				t.Errorf("got %v, want none", got)
			}
		})
	}
	want := []string{filepath.Join(r.dir, "class/net/eth0/device")}
	if diff := cmp.Diff(want, hardware(r.dir, []*net.Interface{&eth0})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPlace(t *testing.T) {
	r := newRoot(t)
	devices := hardware(r.dir, []*net.Interface{&eth0})
	all := []int{0, 1, 2, 3, 4, 5, 6, 7}
	for _, test := range []struct {
		name    string
		devices []string
		may     []int
		workers int
		want    []int
	}{
		{"near_the_device_away_from_its_interrupts", devices, all, 2, []int{5, 7}},
		{"near_the_device_on_its_interrupts_if_need_be", devices, all, 3, []int{5, 7, 4}},
		{"far_away_if_need_be", devices, all, 5, []int{5, 7, 4, 6, 0}},
		{"of_the_cpus_that_it_may_use", devices, []int{0, 1, 4, 5}, 2, []int{5, 4}},
		{"virtual_interfaces_leave_it_to_the_scheduler", nil, all, 2, []int{-1, -1}},
		{"too_few_cpus_leave_it_to_the_scheduler", devices, []int{4, 5}, 3, []int{-1, -1, -1}},
		{"one_cpu_is_nothing_to_choose_from", devices, []int{5}, 1, []int{-1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, place(r.dir, r.dir, test.devices, test.may, test.workers)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("any_node_if_the_machine_tells_none", func(t *testing.T) {
		r.put("class/net/eth0/device/numa_node", "-1")
		if diff := cmp.Diff([]int{0, 1}, place(r.dir, r.dir, devices, all, 2)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestClashes(t *testing.T) {
	r := newRoot(t)
	devices := hardware(r.dir, []*net.Interface{&eth0})
	got := clashes(r.dir, devices, []int{1, 6})
	if len(got) != 1 || !strings.Contains(got[0], "cpu 6 runs a worker and interrupt 42 of eth0") {
		t.Errorf("got %q, want one warning about cpu 6", got)
	}
}

func TestCheckCPUs(t *testing.T) {
	if err := checkCPUs([]int{0, 2}, []int{0, 1, 2}); err != nil {
		t.Error(err)
	}
	err := checkCPUs([]int{0, 9}, []int{0, 1})
	want := "cpus in [dataplane]: 9: fnatd may run on the cpus [0 1] only: name some of these"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestWorkerGoesFirst sees that a worker's thread has a slice and a nice value of its own,
// as far as the kernel gives them, and nothing else.
func TestWorkerGoesFirst(t *testing.T) {
	mayGoFirst := onThread(func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, minNice) }) == nil
	var before, after *unix.SchedAttr
	if err := onThread(func() (err error) {
		if before, err = unix.SchedGetAttr(0, 0); err != nil {
			return err
		}
		if err = bind(-1); err != nil {
			return err
		}
		after, err = unix.SchedGetAttr(0, 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	want := *before
	if before.Runtime != 0 { // since Linux 6.12 threads have slices
		want.Runtime = uint64(slice)
	}
	if mayGoFirst {
		want.Nice = max(before.Nice-ahead, minNice)
	}
	if diff := cmp.Diff(want, *after); diff != "" {
		t.Errorf("a worker's thread differs from any other, by want (-) and got (+):\n%s", diff)
	}
}

// onThread calls f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}
