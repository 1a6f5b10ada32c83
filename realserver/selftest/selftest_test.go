package selftest

import (
	"testing"

	"github.com/fnatd/fnatd/internal/cgroup"
	"github.com/fnatd/fnatd/internal/netns"
)

func TestRun(t *testing.T) {
	netns.RequireRoot(t)
	checks := 0
	err := Run(func(r Result) {
		checks++
		if !r.Passed {
			t.Errorf("%s: %s", r.Name, r.Reason)
		}
	})
	if err != nil || checks < 60 {
		t.Errorf("got %d checks and %v, want more than 60", checks, err)
	}
}

// TestChecksCanFail has fnatrs trust others: then it shows nobody.
func TestChecksCanFail(t *testing.T) {
	netns.RequireRoot(t)
	group, err := cgroup.New("fnatrs-selftest-untrusted")
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	k := &kit{group: group, dir: t.TempDir()}
	reasons := map[string]string{}
	if err := k.run(phase{checks: (*kit).checks}, "192.0.2.0/24", func(r Result) { reasons[r.Name] = r.Reason }); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"accept: IPv4": "accept tells 198.19.0.10:40001, not 192.0.2.66:6666",
		"accept: 6to4, IPv4 socket: LIP, getsockopt: client": "getsockopt 1345: protocol not available",
		"getsockopt 2048: IPv4":                              "getsockopt 2048: protocol not available",
		"recvmsg: untrusted, ignored and counted":            "",
		"recvmsg, sendmsg: IPv4":                             "recvmsg tells 198.19.0.10:40023, not 192.0.2.66:6666",
		"connect, getpeername: IPv6":                         "recvmsg tells [2001:db8:19::10]:40035, not [2001:db8::66]:6666",
		"fnatrs stops":                                       "",
	} {
		if got, there := reasons[name]; !there || got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
