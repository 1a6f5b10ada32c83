package tests

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/tests/harness"
)

// ipvsadm runs fnatctl under the name ipvsadm, with rules on standard input, and
// returns what it printed.
func (b *bed) ipvsadm(rules string, args ...string) (string, error) {
	b.Helper()
	name := filepath.Join(b.dir, "ipvsadm")
	if err := os.Symlink(filepath.Join(bin, "fnatctl"), name); err != nil && !os.IsExist(err) {
		b.Fatal(err)
	}
	cmd := b.Balancer.Command(b.Context(), name, args...)
	cmd.Env = append(os.Environ(), "FNATCTL_SOCKET="+harness.Socket(b.dir))
	cmd.Stdin = strings.NewReader(rules)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := b.Balancer.Start(cmd); err != nil {
		b.Fatal(err)
	}
	err := cmd.Wait()
	return out.String(), err
}

// speak is ipvsadm for a command that must succeed.
func (b *bed) speak(args ...string) string {
	b.Helper()
	out, err := b.ipvsadm("", args...)
	if err != nil {
		b.Fatalf("ipvsadm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// scriptsOfIpvsadm has services made, used, listed, saved and taken down by the
// commands that an LVS script would use.
func scriptsOfIpvsadm(b *bed) {
	accepted := b.listen(b.Servers[0], b.rip(0, 8080))
	other := b.listen(b.Servers[1], b.rip(1, 8080))
	b.start(b.bulk(0))
	vip, first, second := b.vip(80).String(), b.rip(0, 8080).String(), b.rip(1, 8080).String()
	b.speak("-A", "-t", vip, "-s", "rr")
	b.speak("-P", "-t", vip, "-z", b.lip(0).String())
	b.speak("-a", "-t", vip, "-r", first, "-b")
	b.speak("-a", "-t", vip, "-r", second, "-b", "-w", "2", "-x", "100", "-y", "50")
	if out, err := b.ipvsadm("", "-A", "-t", vip); err == nil || out != "Service already exists\n" {
		b.Errorf("-A again: got %v, %q", err, out)
	}
	p, q := b.connect(accepted, other), b.connect(accepted, other)
	p.exchange()
	q.exchange()

	wide := func(s string) string { return fmt.Sprintf("  -> %-28s ", s) }
	lines := func(what, out string, want ...string) {
		b.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				b.Errorf("%s: no %q in\n%s", what, w, out)
			}
		}
	}
	lines("-Ln", b.speak("-Ln"),
		"IP Virtual Server version 1.2.1 (size=100000)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n",
		"TCP  "+vip+" rr\n", wide(first)+"FullNat 1      1          0         \n", wide(second)+"FullNat 2      1          0         \n")
	lines("--thresholds", b.speak("-Ln", "--thresholds"), wide(second)+"100        50         1          0         \n")
	lines("-Lnc", b.speak("-Lnc"), p.client.LocalAddr().String(), "ESTABLISHED", vip, first, second)
	lines("-G", b.speak("-Gn", "-t", vip), vip, b.lip(0).String(), b.lip(1).String())
	traffic := b.service(vip).Traffic
	lines("--stats", b.speak("-Ln", "--stats", "--exact", "-t", vip), fmt.Sprintf("%9d%9d%9d", traffic.Connections, traffic.InPackets, traffic.OutPackets))
	b.speak("-Z", "-t", vip)
	lines("--stats after -Z", b.speak("-Ln", "--stats", "-t", vip), fmt.Sprintf("%-33s        0        0        0        0        0\n", "TCP  "+vip))
	if now := b.service(vip).Traffic; now.Connections != traffic.Connections {
		b.Errorf("after -Z: got %d connections for Prometheus, want still %d", now.Connections, traffic.Connections)
	}
	b.eventually("the rate is not zero", func() bool {
		p.exchange()
		s := b.service(vip)
		return s.Rates.InPackets > 0 && s.Rates.OutPackets > 0 && !strings.Contains(b.speak("-Ln", "--rate", "-t", vip), "0        0        0        0        0\n")
	})

	saved := b.speak("-Sn")
	lines("-S", saved, "-A -t "+vip+" -s rr\n", "-a -t "+vip+" -r "+first+" -b -w 1\n", "-P -t "+vip+" -z "+b.lip(0).String()+"\n")
	b.speak("-e", "-t", vip, "-r", first, "-b", "-w", "0")
	b.speak("-E", "-t", vip, "-s", "wlc", "-p", "60")
	b.speak("-d", "-t", vip, "-r", second)
	lines("-Ln", b.speak("-Ln", "-t", vip), "TCP  "+vip+" wlc persistent 60\n", wide(first)+"FullNat 0 ")
	b.speak("-C")
	if got := b.tell("services"); strings.Contains(got, "TCP") {
		b.Errorf("after -C: got\n%s", got)
	}
	if out, err := b.ipvsadm(saved, "-R"); err != nil || out != "" {
		b.Fatalf("-R: got %v, %s", err, out)
	}
	if again := b.speak("-Sn"); again != saved {
		b.Errorf("after -S, -C and -R: got\n%s\nwant\n%s", again, saved)
	}
	p.exchange() // it is all one configuration: the connection's server has left it, and is back
	q.exchange()
	b.connect(accepted, other).exchange()

	b.speak("-E", "-t", vip, "-s", "rr", "-j", "enable")
	b.connect(accepted, other).exchange()
	b.eventually("no connection joined by -j enable", func() bool {
		s, err := b.lb.Ctl.Stats(b.Context())
		return err == nil && slices.ContainsFunc(s.Guards, func(g ctl.Guard) bool { return g.Service == vip && g.Count("joined") == 1 })
	})
	lines("-S", b.speak("-Sn"), "-A -t "+vip+" -s rr -j enable\n")

	// A reload goes back to the file, and diff has said so.
	lines("fnatctl diff", b.tell("diff"), `- service "`+vip+`": name`)
	b.tell("reload")
	if out, err := b.ipvsadm("", "-Ln", "-t", vip); err == nil || out != "No such service\n" {
		b.Errorf("after a reload: got %v, %q", err, out)
	}
	if want := `msg=edited by="uid 0 gid 0 pid `; !strings.Contains(b.lb.Log(), want) {
		b.Errorf("the log does not say who it was: no %s", want)
	}
}
