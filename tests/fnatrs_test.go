package tests

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/realserver"
)

// TestFnatrsShowsClients runs unmodified servers behind fnatd.
func TestFnatrsShowsClients(t *testing.T) {
	r := newRealServer(t)
	r.attach("--trust", trustLIPs)
	log := r.nginxLog()
	r.serve(httpServer+fmt.Sprintf("=:%d", portGo), server(portGo), os.Args[0])
	python := r.pythonHTTP()
	r.asks()
	r.balance(portNginx, portGo, portPython, portAsks)
	for _, way := range []string{"4to4", "6to6", "6to4"} {
		t.Run(way+"_nginx_access_log", func(t *testing.T) {
			_, client := r.exchange(ways(portNginx)[way])
			r.eventually(fmt.Sprintf("nginx has logged %v, or a LIP where it has no room for it", client), func() bool {
				lines, _ := os.ReadFile(log)
				addr, port, _ := strings.Cut(lastLine(lines), " ")
				if way == "6to4" {
					return isLIP([]any{addr, port})
				}
				return addr == client.Addr().String() && port == fmt.Sprint(client.Port())
			})
		})
		t.Run(way+"_go_net_http", func(t *testing.T) {
			// One socket for both versions: it has room for every client.
			if got, client := r.exchange(ways(portGo)[way]); got != client.String() {
				t.Errorf("got %s, want %s", got, client)
			}
		})
		t.Run(way+"_python_http_server", func(t *testing.T) {
			_, client := r.exchange(ways(portPython)[way])
			if way != "6to4" {
				r.eventually("Python has logged "+client.Addr().String(), func() bool {
					return strings.Contains(python[way].Output(), client.Addr().String()+" - - [")
				})
			}
		})
		t.Run(way+"_calls", func(t *testing.T) {
			got, client := r.ask(ways(portAsks)[way])
			want := told(client)
			if way == "6to4" {
				if !isLIP(got.Accept) || !isLIP(got.Getpeername) {
					t.Errorf("got %v and %v, want LIPs: an IPv4 socket has no room for more", got.Accept, got.Getpeername)
				}
				want.Accept, want.Getpeername = got.Accept, got.Getpeername
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
		t.Run(way+"_syn_cookies", func(t *testing.T) {
			if err := r.host.Sysctl("net/ipv4/tcp_syncookies", "2"); err != nil {
				t.Fatal(err)
			}
			defer r.host.Sysctl("net/ipv4/tcp_syncookies", "1")
			if got, client := r.exchange(ways(portGo)[way]); got != client.String() {
				t.Errorf("got %s, want %s", got, client)
			}
		})
	}
	t.Run("10000_clients_and_none_is_mistaken", r.manyClients)
	if r.count(realserver.Answered) != 9 || r.count(realserver.KeptLocal) == 0 || r.count(realserver.Shown) == 0 {
		t.Errorf("answered, kept local, shown: got %d, %d, %d, want 9 and some",
			r.count(realserver.Answered), r.count(realserver.KeptLocal), r.count(realserver.Shown))
	}
	r.detach()
	if got, _ := r.exchange(r.vip(portGo)); !isLIP([]any{netip.MustParseAddrPort(got).Addr().String(), 0}) {
		t.Errorf("after fnatrs has stopped: got %s, want a LIP", got)
	}
}

// manyClients has twenty clients at a time connect, again and again: so accept
// does not sleep when a connection comes, and local ports are used again.
func (r *realServer) manyClients(t *testing.T) {
	const workers, rounds = 20, 500
	var all sync.WaitGroup
	for i := range workers {
		at := r.vip(portGo)
		if i%2 == 1 {
			at = vip6to4(portGo)
		}
		all.Go(func() {
			for range rounds {
				c, err := r.Client.Dial(t.Context(), "tcp", at.String())
				if err != nil {
					t.Error(err)
					return
				}
				c.SetDeadline(time.Now().Add(patience))
				got, err := get(c, "/")
				if want := c.LocalAddr().String(); err != nil || got != want {
					t.Errorf("got %q, %v, want %s", got, err, want)
				}
				c.Close()
			}
		})
	}
	all.Wait()
}

// TestFnatrsComesAndGoes starts, stops and kills it while a server runs.
func TestFnatrsComesAndGoes(t *testing.T) {
	r := newRealServer(t)
	r.asks()
	r.balance(portAsks)
	check := func(when string, known bool) {
		t.Helper()
		got, client := r.ask(r.vip(portAsks))
		want := told(client)
		if !known {
			want = untold()
			if isLIP(got.Accept) && isLIP(got.Getpeername) {
				want.Accept, want.Getpeername = got.Accept, got.Getpeername
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", when, diff)
		}
	}
	check("before", false)
	r.attach("--trust", trustLIPs)
	check("while fnatrs runs", true)

	out, err := r.host.Run(r.Context(), bin+"/fnatrs", "status", "--socket", r.rs.Socket())
	for _, want := range []string{"fnatrs_sockops", "getpeername4", "getpeername6", "getsockopt", r.cgroup.Path, trustLIPs} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("status: got %v and\n%s\nwant it to contain %q", err, out, want)
		}
	}
	for _, socket := range []string{r.rs.Socket(), r.rs.Socket() + "2"} {
		out, err := r.host.Run(r.Context(), bin+"/fnatrs", "run", "--trust", trustLIPs, "--cgroup", r.cgroup.Path, "--socket", socket)
		if err == nil || !strings.Contains(out, "another fnatrs") {
			t.Errorf("a second fnatrs with socket %s: got %v and %q, want it refused", socket, err, out)
		}
	}
	check("after a second was refused", true)

	r.rs.Kill()
	r.checkDetached()
	check("after it was killed", false)
	r.attach("--trust", trustLIPs)
	check("after it has come back", true)
	r.detach()
	check("after it has stopped", false)

	r.attach("--trust", "192.0.2.0/24")
	check("with its balancer untrusted", false)
	if got := r.count(realserver.Untrusted); got != 1 {
		t.Errorf("untrusted: got %d, want 1", got)
	}
	r.detach()
	r.attach("--trust", trustLIPs, "--kinds", "200")
	check("with another kind of option", false)
	if got := r.count(realserver.NoOption); got != 1 {
		t.Errorf("no_option: got %d, want 1", got)
	}
	r.detach()
}
