package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// quickCheck is often enough for a test, and patient enough for a slow machine.
const quickCheck = "interval = \"200ms\"\ntimeout = \"5s\"\nfall = 2\nrise = 2\nwarmup = \"0s\"\n"

// healthScenarios is what fnatd does about the health of real servers.
var healthScenarios = []struct {
	name  string
	run   func(*bed)
	reach reach
}{
	{"dead_server_is_left_out_and_comes_back", deadServerIsLeftOut, everywhere},
	{"sorry_server_stands_in", sorryServerStandsIn, often},
	{"udp_flows_move", udpFlowsMove, everywhere},
	{"connections_of_a_dead_server_are_reset", deadConnectionsAreReset, everywhere},
	{"connections_of_a_dead_server_drain", deadConnectionsDrain, once},
	{"syn_that_was_not_answered_goes_elsewhere", unansweredSYNGoesElsewhere, everywhere},
	{"health_outlasts_a_reload", healthOutlastsReload, once},
	{"bad_servers_and_scripts_harm_nobody", badServersHarmNobody, once},
	{"every_kind_of_check_passes", everyCheckPasses, often},
	{"new_pem_files_count_after_a_reload", newPEMFiles, often},
	{"checks_come_from_a_local_address_if_there_is_no_other", checksFromLocalAddress, once},
}

func TestHealth(t *testing.T) {
	for i, v := range []variant{matrix[0], matrix[1], matrix[2]} {
		t.Run(v.String(), func(t *testing.T) {
			for _, s := range healthScenarios {
				if s.reach == everywhere || i == 0 || s.reach == often && i == 1 {
					t.Run(s.name, func(t *testing.T) { s.run(newBed(t, v, 3)) })
				}
			}
		})
	}
}

// state returns the health of a service's real servers, as "up down up".
func (b *bed) state(service string) string {
	b.Helper()
	var all []string
	for _, r := range b.service(service).Servers {
		all = append(all, r.Health)
	}
	return strings.Join(all, " ")
}

// becomes waits until the real servers of a service are in this state.
func (b *bed) becomes(service, want string) {
	b.Helper()
	b.eventually(fmt.Sprintf("%s is %s", service, want), func() bool { return b.state(service) == want })
}

// answersFrom asks the service web so often, and returns how many answers came from
// each server.
func (b *bed) answersFrom(times int) map[string]int {
	b.Helper()
	got := map[string]int{}
	for range times {
		got[strings.TrimSpace(b.curl("-o", "/dev/null", "-w", "%header{x-server}", b.url("/echo/")))]++
	}
	return got
}

// A stream is requests to the service web, one after another without a break.
type stream struct {
	stop   chan struct{}
	done   chan struct{}
	mu     sync.Mutex
	good   int
	failed int
}

func (b *bed) requests() *stream {
	s := &stream{stop: make(chan struct{}), done: make(chan struct{})}
	b.Cleanup(s.end)
	go func() {
		defer close(s.done)
		for {
			select {
			case <-s.stop:
				return
			default:
			}
			_, err := b.Client.Run(b.Context(), "curl", "-sS", "--fail", "--max-time", "5", "-o", "/dev/null", b.url("/echo/"))
			s.mu.Lock()
			if err == nil {
				s.good++
			} else {
				s.failed++
			}
			s.mu.Unlock()
		}
	}()
	return s
}

func (s *stream) end() {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	<-s.done
}

func (s *stream) counts() (good, failed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.good, s.failed
}

// checkedWeb is web with an HTTP check.
func (b *bed) checkedWeb(servers ...int) harness.Service {
	web := b.web(servers...)
	web.Health = "type = \"http\"\npath = \"/echo/health\"\n" + quickCheck
	return web
}

func deadServerIsLeftOut(b *bed) {
	servers := []*nginx{b.nginx(0), b.nginx(1)}
	b.start(b.checkedWeb(0, 1))
	if got := b.answersFrom(10); got["0"] != 5 || got["1"] != 5 {
		b.Errorf("both up: got answers %v, want 5 of each", got)
	}
	requests := b.requests()
	servers[0].Kill()
	b.becomes("web", "down up")
	_, before := requests.counts()
	if got := b.answersFrom(10); got["1"] != 10 {
		b.Errorf("one down: got answers %v, want 10 of server 1", got)
	}
	if got := b.service("web").Servers[0]; !strings.Contains(got.Reason, "connection refused") || got.Weight != 0 || got.Configured != 1 || !got.Removed {
		b.Errorf("the server: got %+v, want it removed, as it refuses connections", got)
	}
	b.contains(b.tell("health", "--checks"), "->", b.rip(0, 8080), "down")
	b.contains(b.tell("services"), b.rip(0, 8080), "0", "down: http /echo/health: connection refused")
	m := b.metrics()
	if got := m[fmt.Sprintf(`fnatd_real_server_up{real="%v",service="web"}`, b.rip(0, 8080))]; got != 0 {
		b.Errorf("metric of the dead server: got %v, want 0", got)
	}
	if got := m[fmt.Sprintf(`fnatd_real_server_up{real="%v",service="web"}`, b.rip(1, 8080))]; got != 1 {
		b.Errorf("metric of the other server: got %v, want 1", got)
	}

	servers[0] = b.nginx(0)
	b.becomes("web", "up up")
	requests.end() // or one could get every other server, and the other the rest
	if got := b.answersFrom(10); got["0"] != 5 || got["1"] != 5 {
		b.Errorf("both up again: got answers %v, want 5 of each", got)
	}
	// One request may have been on its way when the verdict fell.
	if good, failed := requests.counts(); good < 10 || failed > before+1 {
		b.Errorf("requests: got %d good and %d failed, of them %d while the server was dead and not yet found out", good, failed, before)
	}
}

func sorryServerStandsIn(b *bed) {
	servers := []*nginx{b.nginx(0), b.nginx(1), b.nginx(2)}
	told := filepath.Join(b.dir, "told")
	script := filepath.Join(b.dir, "tell")
	text := fmt.Sprintf("#!/bin/sh\necho \"$1 $FNATD_EVENT $FNATD_SERVICE $FNATD_VIRTUAL $FNATD_REAL\" >>%s\n", told)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		b.Fatal(err)
	}
	web := b.checkedWeb(0, 1)
	web.Keys += fmt.Sprintf("\nquorum = 2\nsorry_server = %q\nomega = true\nquorum_up = [%[2]q, \"q\"]\nquorum_down = [%[2]q, \"q\"]\nnotify_up = [%[2]q, \"n\"]\nnotify_down = [%[2]q, \"n\"]\n",
		b.rip(2, 8080).String(), script)
	b.start(web)
	if got := b.answersFrom(10); got["0"] != 5 || got["1"] != 5 {
		b.Errorf("quorum: got answers %v, want 5 of each real server", got)
	}
	servers[0].Kill()
	b.becomes("web", "down up unchecked")
	b.eventually("the sorry server answers", func() bool { return b.answersFrom(1)["2"] == 1 })
	if got := b.answersFrom(10); got["2"] != 10 {
		b.Errorf("no quorum: got answers %v, want 10 of the sorry server", got)
	}
	b.contains(b.tell("health"), "web: quorum lost,", b.rip(2, 8080))
	b.contains(b.tell("services"), "web:", "quorum lost")
	b.contains(b.tell("services"), b.rip(2, 8080), "1", "sorry server, stands in")
	b.nginx(0)
	b.becomes("web", "up up unchecked")
	b.eventually("the real servers answer", func() bool { return b.answersFrom(1)["2"] == 0 })
	if got := b.answersFrom(10); got["0"] != 5 || got["1"] != 5 {
		b.Errorf("quorum again: got answers %v, want 5 of each real server", got)
	}
	b.stop()
	service := fmt.Sprintf("web %v ", b.vip(80))
	want := "q quorum_up " + service + "\n" +
		"n notify_down " + service + b.rip(0, 8080).String() + "\n" +
		"q quorum_down " + service + "\n" +
		"n notify_up " + service + b.rip(0, 8080).String() + "\n" +
		"q quorum_up " + service + "\n" +
		"n notify_down " + service + b.rip(0, 8080).String() + "\n" +
		"n notify_down " + service + b.rip(1, 8080).String() + "\n" +
		"q quorum_down " + service + "\n"
	got, err := os.ReadFile(told)
	if err != nil {
		b.Fatal(err)
	}
	if string(got) != want {
		b.Errorf("scripts were told\n%swant\n%s", got, want)
	}
}

func healthOutlastsReload(b *bed) {
	n := b.nginx(0)
	b.nginx(1)
	b.start(b.checkedWeb(0, 1))
	n.Kill()
	b.becomes("web", "down up")
	requests := b.requests()
	web := b.checkedWeb(0, 1)
	for i := range 10 {
		web.Servers[1].Keys = fmt.Sprintf("weight = %d", i+2)
		web.Health = strings.Replace(web.Health, "rise = 2", fmt.Sprintf("rise = %d", i+3), 1) // another check
		b.reload(web)
		if got := b.state("web"); got != "down up" {
			b.Errorf("reload %d: got %s, want down up", i, got)
		}
	}
	b.eventually("requests were made", func() bool { good, _ := requests.counts(); return good > 20 })
	requests.end()
	if _, failed := requests.counts(); failed > 0 {
		b.Errorf("%d requests failed", failed)
	}
	// A server is added that is dead, with a check that asks first.
	web = b.checkedWeb(0, 1, 2)
	web.Health += "alpha = true\n"
	b.reload(web)
	if got := b.answersFrom(6); got["1"] != 6 {
		b.Errorf("with a new server that is dead: got answers %v, want 6 of server 1", got)
	}
	b.nginx(2)
	b.becomes("web", "down up up")
}

// checksFromLocalAddress takes the balancer's own address off the servers' side, so
// that the kernel is left with the LIPs, and with ports there that are fnatd's.
func checksFromLocalAddress(b *bed) {
	b.nginx(0)
	b.namedServer(0)
	web := b.web(0)
	web.Keys += fmt.Sprintf("\n[[service.health]]\ntype = \"http\"\npath = \"/echo/\"\nalpha = true\n%s"+
		"[[service.health]]\ntype = \"udp\"\nport = 7\nrequire_reply = true\nalpha = true\n%[1]s"+
		"[[service.health]]\ntype = \"ping\"\nalpha = true\n%[1]s", quickCheck)
	lan := b.ServerSide()
	b.run(b.Balancer, "ip", "addr", "del", netns.BalancerLANPrefix.String(), "dev", lan)
	b.run(b.Balancer, "ip", "route", "add", netns.BalancerLANPrefix.Masked().String(), "dev", lan)
	b.start(web)
	b.becomes("web", "up")
	if got := b.answersFrom(3); got["0"] != 3 {
		b.Errorf("got answers %v, want 3", got)
	}
}
