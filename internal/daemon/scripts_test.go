package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/lb"
)

// A bench runs scripts that write to a file.
type bench struct {
	*testing.T
	*lanes
	log  *syncBuffer
	file string
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newBench(t *testing.T) *bench {
	b := &bench{T: t, log: &syncBuffer{}, file: filepath.Join(t.TempDir(), "told")}
	b.lanes = newLanes(slog.New(slog.NewTextHandler(b.log, nil)))
	return b
}

// service returns a service with two real servers whose scripts are sh -c text.
func (b *bench) service(text string) *lb.Service {
	b.Helper()
	command := fmt.Sprintf("[\"sh\", \"-c\", %q]", text)
	c, err := config.Parse("lb.toml", []byte(`
[dataplane]
interfaces = ["eth0"]
[[local_pool]]
name = "lan"
addresses = ["10.0.1.10"]
ports = "1024-65535"
[[service]]
name = "web"
protocol = "tcp"
address = "203.0.113.10:80"
omega = true
script_timeout = "3s"
sorry_server = "10.0.2.99:80"
quorum_up = `+command+`
quorum_down = `+command+`
notify_up = `+command+`
notify_down = `+command+`
health = { type = "tcp" }
real_server = [{ address = "10.0.2.1:80" }, { address = "10.0.2.2:80", notify_up = ["true"] }]
`))
	if err != nil {
		b.Fatal(err)
	}
	table, err := lb.Compile(c, nil)
	if err != nil {
		b.Fatal(err)
	}
	return table.Services[0]
}

// told returns what the scripts have written.
func (b *bench) told() string {
	b.Helper()
	text, err := os.ReadFile(b.file)
	if err != nil && !os.IsNotExist(err) {
		b.Fatal(err)
	}
	return string(text)
}

func TestScripts(t *testing.T) {
	t.Run("run_in_order_and_are_told_what_it_is_about", func(t *testing.T) {
		b := newBench(t)
		s := b.service(`echo "$FNATD_EVENT $FNATD_SERVICE $FNATD_PROTOCOL $FNATD_VIRTUAL $FNATD_REAL $FNATD_ADDRESS $FNATD_PORT: $FNATD_REASON" >>` + b.file)
		b.quorum(s, true, "")
		b.notify(s, s.Servers[0], false, "tcp: refused")
		b.quorum(s, false, "weight 0 is left")
		b.notify(s, s.Servers[0], true, "")
		b.notify(s, s.Servers[1], true, "") // has its own
		b.wait()
		want := "quorum_up web tcp 203.0.113.10:80   : \n" +
			"notify_down web tcp 203.0.113.10:80 10.0.2.1:80 10.0.2.1 80: tcp: refused\n" +
			"quorum_down web tcp 203.0.113.10:80   : weight 0 is left\n" +
			"notify_up web tcp 203.0.113.10:80 10.0.2.1:80 10.0.2.1 80: \n"
		if got := b.told(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	})
	t.Run("that_fail_are_logged_with_what_they_said", func(t *testing.T) {
		b := newBench(t)
		b.quorum(b.service("echo no such route; exit 3"), true, "")
		b.wait()
		for _, want := range []string{`msg="script did not succeed"`, `event=quorum_up`, `"exit code"=3`, `"it said"="no such route"`} {
			if got := b.log.String(); !strings.Contains(got, want) {
				t.Errorf("log: got %s, want %s", got, want)
			}
		}
	})
	t.Run("that_hang_are_broken_off_and_the_next_one_runs", func(t *testing.T) {
		b := newBench(t)
		s := b.service(`[ -e ` + b.file + ` ] && exit; touch ` + b.file + `; sleep 1000`)
		b.quorum(s, true, "")
		b.quorum(s, false, "")
		b.wait()
		got := b.log.String()
		broken, ran := strings.Index(got, `msg="script broken off" service=web event=quorum_up`), strings.Index(got, `msg="script has run" service=web event=quorum_down`)
		if broken < 0 || ran < broken {
			t.Errorf("log: got %s, want the first broken off and the second run", got)
		}
	})
	t.Run("that_are_too_slow_miss_the_oldest_news", func(t *testing.T) {
		b := newBench(t)
		s := b.service(`[ -e ` + b.file + ` ] || sleep 0.5; echo "$FNATD_REASON" >>` + b.file)
		for i := range maxWaiting + 3 {
			b.quorum(s, true, fmt.Sprint(i))
		}
		b.wait()
		lines := strings.Fields(b.told())
		if len(lines) != maxWaiting+1 || lines[0] != "0" || lines[1] != "3" || lines[maxWaiting] != fmt.Sprint(maxWaiting+2) {
			t.Errorf("got %d runs, %v; want all but the second and third", len(lines), lines)
		}
		if got := strings.Count(b.log.String(), "script is too slow"); got != 2 {
			t.Errorf("log: got %d complaints, want 2", got)
		}
	})
	t.Run("of_what_goes_down_with_fnatd_run_after_the_rest_is_ended", func(t *testing.T) {
		b := newBench(t)
		s := b.service(`[ "$FNATD_REASON" = "fnatd stops" ] || sleep 1000; echo "$FNATD_EVENT $FNATD_REAL" >>` + b.file)
		s.Servers[1].Down = true
		b.quorum(s, true, "")
		b.notify(s, s.Servers[0], true, "")
		b.stop()
		b.omega(s)
		b.wait()
		if want := "notify_down 10.0.2.1:80\nquorum_down \n"; b.told() != want {
			t.Errorf("got\n%swant\n%s", b.told(), want)
		}
	})
}
