package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fakeBackend answers from its fields.
type fakeBackend struct {
	services  []Service
	conns     iter.Seq[Connection]
	locals    []Local
	stats     Stats
	drops     []Drop
	health    []ServiceHealth
	reload    Reload
	reloadErr error
	diff      Diff
	drainsNow []Drain
	edited    Edited
	status    Status
	stopping  Stopping

	explanation Explanation
	asked       any // what Diff and Drain were called with
}

func (f *fakeBackend) Diff(_ context.Context, name string, toml []byte) (Diff, error) {
	f.asked = [2]string{name, string(toml)}
	return f.diff, f.reloadErr
}

func (f *fakeBackend) Explain(flow Flow) Explanation {
	f.asked = flow
	return f.explanation
}

func (f *fakeBackend) Edit(_ context.Context, edits []Edit) (Edited, error) {
	f.asked = edits
	return f.edited, f.reloadErr
}

func (f *fakeBackend) Drains() []Drain { return f.drainsNow }

func (f *fakeBackend) Drain(_ context.Context, o DrainOrder) ([]Drain, error) {
	f.asked = o
	return f.drainsNow, f.reloadErr
}

func (f *fakeBackend) Services() []Service                    { return f.services }
func (f *fakeBackend) Connections() iter.Seq[Connection]      { return f.conns }
func (f *fakeBackend) Locals() []Local                        { return f.locals }
func (f *fakeBackend) Stats() Stats                           { return f.stats }
func (f *fakeBackend) Drops() []Drop                          { return f.drops }
func (f *fakeBackend) Health() []ServiceHealth                { return f.health }
func (f *fakeBackend) Reload(context.Context) (Reload, error) { return f.reload, f.reloadErr }
func (f *fakeBackend) Upgrade(_ context.Context, binary string) (Upgrade, error) {
	if binary == "/bin/false" {
		return Upgrade{}, errors.New("/bin/false: the new fnatd: it ended before it said \"hello\"")
	}
	return Upgrade{PID: 4712, Version: "v2", Before: "v1" + binary, GapSeconds: 0.0042}, nil
}

// connections yields n connections of the services web and dns in turn.
func connections(n int) iter.Seq[Connection] {
	return func(yield func(Connection) bool) {
		for i := range n {
			c := Connection{
				Protocol: "tcp", State: "ESTABLISHED", ExpiresSeconds: 89.5,
				Client:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 40000),
				Virtual: netip.MustParseAddrPort("203.0.113.10:80"),
				Local:   netip.MustParseAddrPort("10.0.1.10:1024"),
				Real:    netip.MustParseAddrPort("10.0.2.11:8080"),
				Service: "web",
			}
			if i%2 == 1 {
				c.Service, c.State = "dns", "UDP"
			}
			if !yield(c) {
				return
			}
		}
	}
}

// serve serves b on a unix socket until the test ends and returns its path.
func serve(t *testing.T, b Backend) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "fnatd.sock")
	l, err := Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, NewServer(b)) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: got %v, want nil after a stop", err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return socket
}

func TestClientGetsWhatTheBackendSays(t *testing.T) {
	b := &fakeBackend{
		services: []Service{{
			Name: "web", Protocol: "tcp", Virtual: netip.MustParseAddrPort("[2001:db8::10]:80"),
			ClientAddress: "toa", Traffic: Traffic{Connections: 1 << 60},
			Servers: []Server{{Real: netip.MustParseAddrPort("10.0.2.11:8080"), Weight: 1}},
		}},
		locals: []Local{{Pool: "lan", Address: netip.MustParseAddr("10.0.1.10"), PortsFree: 7}},
		stats: Stats{
			Version: "v1", Started: time.Unix(1, 0).UTC(), Table: Table{Capacity: 10},
			Workers: []Worker{{ID: 1, IdleShare: 0.5, Rings: []Ring{{Interface: "eth0"}}}},
		},
		drops:  []Drop{NewDrop("no_conn", 3)},
		reload: Reload{ConfigFile: "lb.toml", Changes: []string{"service \"web\": added"}},
		diff:   Diff{ConfigFile: "lb.toml", Changes: []Change{{"- service", 7, "reset"}}},
		explanation: Explanation{
			Flow:    Flow{"tcp", netip.MustParseAddrPort("198.51.100.7:40000"), netip.MustParseAddrPort("203.0.113.10:80")},
			Verdict: WouldDrop, Reason: "no_server", Steps: []Step{{"service", "web"}}, LastDrop: &LastDrop{NewDrop("no_conn", 0), 1.5},
		},
		edited: Edited{Changes: []string{"+ service"}, Refused: []Refusal{{1, NoServer, "no"}}},
		drainsNow: []Drain{{
			Service: "web", Virtual: netip.MustParseAddrPort("203.0.113.10:80"), Real: netip.MustParseAddrPort("10.0.2.11:8080"),
			Connections: 3, ResetSeconds: 1.5,
		}},
	}
	c, ctx := NewClient(serve(t, b)), context.Background()
	check := func(what string, got any, err error, want any) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	services, err := c.Services(ctx)
	check("services", services, err, b.services)
	locals, err := c.Locals(ctx)
	check("locals", locals, err, b.locals)
	stats, err := c.Stats(ctx)
	check("stats", stats, err, b.stats)
	drops, err := c.Drops(ctx)
	check("drops", drops, err, b.drops)
	reload, err := c.Reload(ctx)
	check("reload", reload, err, b.reload)
	diff, err := c.Diff(ctx, "", nil)
	check("diff", diff, err, b.diff)
	check("diff asked", b.asked, nil, [2]string{})
	diff, err = c.Diff(ctx, "a b&c.toml", []byte("[daemon]"))
	check("diff of a file", diff, err, b.diff)
	check("diff of a file asked", b.asked, nil, [2]string{"a b&c.toml", "[daemon]"})
	edits := []Edit{
		{Op: AddService, Protocol: "tcp", Virtual: netip.MustParseAddrPort("[2001:db8::10]:80"), Service: &ServiceSettings{Scheduler: "sh", HashPort: true}},
		{Op: AddServer, Protocol: "tcp", Virtual: netip.MustParseAddrPort("203.0.113.10:80"), Real: netip.MustParseAddrPort("10.0.2.11:8080"), Server: &ServerSettings{Weight: 3}},
		{Op: AddLocal, Local: netip.MustParseAddr("10.0.1.10")},
		{Op: Clear},
	}
	edited, err := c.Edit(ctx, edits)
	check("edited", edited, err, b.edited)
	check("edits asked", b.asked, nil, edits)
	flow := Flow{"udp", netip.MustParseAddrPort("[2001:db8::7]:40000"), netip.MustParseAddrPort("203.0.113.10:53")}
	explanation, err := c.Explain(ctx, flow)
	check("explanation", explanation, err, b.explanation)
	check("explanation asked", b.asked, nil, flow)
	drains, err := c.Drains(ctx)
	check("drains", drains, err, b.drainsNow)
	after := 1.5
	drains, err = c.Drain(ctx, DrainOrder{Server: "10.0.2.11", Service: "web", Seconds: &after})
	check("drain", drains, err, b.drainsNow)
	check("drain asked", b.asked, nil, DrainOrder{Server: "10.0.2.11", Service: "web", Seconds: &after})
}

func TestReloadRefusedShowsEveryError(t *testing.T) {
	refused := errors.Join(errors.New("lb.toml:3: one"), errors.New("lb.toml:9: two"))
	_, err := NewClient(serve(t, &fakeBackend{reloadErr: refused})).Reload(context.Background())
	if got, want := fmt.Sprint(err), "reload refused, the old configuration stays in use:\nlb.toml:3: one\nlb.toml:9: two"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestConnections(t *testing.T) {
	b := &fakeBackend{conns: connections(1000), services: []Service{{Name: "web"}, {Name: "dns"}}}
	c := NewClient(serve(t, b))
	for name, test := range map[string]struct {
		filter Filter
		want   int
		err    error
	}{
		"all_of_them":                    {Filter{}, 1000, nil},
		"one_service":                    {Filter{Service: "web"}, 500, nil},
		"one_state":                      {Filter{State: "UDP"}, 500, nil},
		"one_client":                     {Filter{Client: netip.MustParsePrefix("198.51.0.2/32")}, 1, nil},
		"client_network":                 {Filter{Client: netip.MustParsePrefix("198.51.1.0/24")}, 256, nil},
		"limit_says_there_are_more":      {Filter{Limit: 10}, 10, ErrMore},
		"limit_that_is_just_enough":      {Filter{Limit: 1000}, 1000, nil},
		"limit_counts_only_what_matches": {Filter{Service: "dns", Limit: 500}, 500, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := 0
			for conn, err := range c.Connections(context.Background(), test.filter) {
				if err != nil {
					if !errors.Is(err, test.err) {
						t.Fatalf("got error %v, want %v", err, test.err)
					}
					test.err = nil
					break
				}
				if !test.filter.Match(&conn) {
					t.Fatalf("got %v, which %v does not select", conn, test.filter)
				}
				got++
			}
			if got != test.want || test.err != nil {
				t.Errorf("got %d connections, want %d and the error %v", got, test.want, test.err)
			}
		})
	}
}

func TestConnectionsMayBeLeftEarly(t *testing.T) {
	left := make(chan struct{})
	endless := func(yield func(Connection) bool) {
		defer close(left)
		for yield(Connection{}) {
		}
	}
	for range NewClient(serve(t, &fakeBackend{conns: endless})).Connections(context.Background(), Filter{}) {
		break
	}
	<-left // the server stops as well
}

// TestConnectionsListingIsBounded writes many and looks at the size of the
// writes: nothing may collect the whole listing.
func TestConnectionsListingIsBounded(t *testing.T) {
	w := &sizes{header: http.Header{}}
	NewServer(&fakeBackend{conns: connections(20000)}).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, PathConnections, nil))
	if w.largest > flushSize || w.total < 20000*100 {
		t.Errorf("got %d bytes in writes of up to %d, want writes of up to %d", w.total, w.largest, flushSize)
	}
}

type sizes struct {
	header         http.Header
	largest, total int
}

func (s *sizes) Header() http.Header { return s.header }
func (s *sizes) WriteHeader(int)     {}
func (s *sizes) Write(b []byte) (int, error) {
	s.largest, s.total = max(s.largest, len(b)), s.total+len(b)
	return len(b), nil
}

func TestListingThatBreaksOffIsAnError(t *testing.T) {
	broken := func(yield func(Connection) bool) {
		for range 10000 {
			yield(Connection{})
		}
		panic(http.ErrAbortHandler)
	}
	c := NewClient(serve(t, &fakeBackend{conns: broken}))
	var last error
	for _, err := range c.Connections(context.Background(), Filter{}) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "broke off") {
		t.Errorf("decoded: got error %v, want one that says it broke off", last)
	}
	err := c.Copy(context.Background(), io.Discard, Get(PathConnections))
	if err == nil || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("copied: got error %v, want one that says it broke off", err)
	}
}

func TestErrorsAreJSON(t *testing.T) {
	h := NewServer(&fakeBackend{conns: connections(0), services: []Service{{Name: "web"}}, reloadErr: errors.New("lb.toml:1: bad")})
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		want               string
	}{
		"no_such_path":       {"GET", "/v1/service", "", 404, `/v1/service: no such path`},
		"wrong_method":       {"POST", PathServices, "", 405, `/v1/services: wants GET, not POST`},
		"reload_by_get":      {"GET", PathReload, "", 405, `/v1/reload: wants POST, not GET`},
		"huge_body":          {"POST", PathReload, strings.Repeat("x", int(maxBody)+1), 413, `request body: more than 4096 bytes, or broken off`},
		"diff_without_name":  {"POST", PathDiff, "[daemon]", 400, `want the configuration as the body and its name as the parameter name, or neither`},
		"diff_of_what":       {"POST", PathDiff + "?file=x", "", 400, `"file": no such parameter (want name)`},
		"refused_diff":       {"POST", PathDiff, "", 422, "a reload would be refused:\nlb.toml:1: bad"},
		"explain_what":       {"GET", PathExplain, "", 400, `protocol "": want tcp or udp`},
		"explain_whom":       {"GET", PathExplain + "?protocol=tcp&client=bob&virtual=x", "", 400, `client "bob": not an address and port (want it as 198.51.100.7:40000 or [2001:db8::7]:40000)`},
		"explain_else":       {"GET", PathExplain + "?vip=x", "", 400, `"vip": no such parameter, or twice (want protocol, client and virtual)`},
		"drain_of_what":      {"POST", PathDrain, "10.0.2.11", 400, `request body: not what is asked for: json: cannot unmarshal number into Go value of type ctl.DrainOrder`},
		"drain_misspelt":     {"POST", PathDrain, `{"sever":"10.0.2.11"}`, 400, `request body: not what is asked for: json: unknown field "sever"`},
		"two_drains":         {"POST", PathDrain, `{} {}`, 400, `request body: not what is asked for: more than one value`},
		"refused_drain":      {"POST", PathDrain, `{}`, 422, "lb.toml:1: bad"},
		"drain_by_put":       {"PUT", PathDrain, "", 405, `/v1/drain: wants GET, POST, not PUT`},
		"stop_by_get":        {"GET", PathStop, "", 405, `/v1/stop: wants POST, not GET`},
		"stop_misspelt":      {"POST", PathStop, `{"forgte":true}`, 400, `request body: not what is asked for: json: unknown field "forgte"`},
		"refused_reload":     {"POST", PathReload, "{}", 422, "reload refused, the old configuration stays in use:\nlb.toml:1: bad"},
		"no_such_service":    {"GET", PathConnections + "?service=wbe", "", 404, `service "wbe": no such service`},
		"bad_client":         {"GET", PathConnections + "?client=x", "", 400, `client "x": not an address or network (such as 198.51.100.7 or 198.51.100.0/24)`},
		"bad_limit":          {"GET", PathConnections + "?limit=-1", "", 400, `limit "-1": not a number of 0 or more`},
		"bad_state":          {"GET", PathConnections + "?state=open", "", 400, `state "open": no such state (want one of ` + strings.Join(States[:], ", ") + `)`},
		"unknown_parameter":  {"GET", PathConnections + "?clent=::1", "", 400, `"clent": no such parameter (want service, client, state or limit)`},
		"twice_a_parameter":  {"GET", PathConnections + "?limit=1&limit=2", "", 400, `limit: given 2 times`},
		"parameter_of_stats": {"GET", PathStats + "?x=1", "", 400, `"x=1": /v1/stats takes no parameters`},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(test.method, test.path, strings.NewReader(test.body)))
			var got errorBody
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("body %q: %v", w.Body, err)
			}
			if w.Code != test.status || got.Error != test.want {
				t.Errorf("got %d %q, want %d %q", w.Code, got.Error, test.status, test.want)
			}
			if w.Code == 405 && w.Header().Get("Allow") == "" {
				t.Error("got no Allow header")
			}
		})
	}
}

func TestEmptyListsAreNotNull(t *testing.T) {
	h := NewServer(&fakeBackend{conns: connections(0)})
	for path, want := range map[string]string{
		PathServices:    `{"services":[]}`,
		PathLocals:      `{"locals":[]}`,
		PathDrops:       `{"drops":[]}`,
		PathDrain:       `{"drains":[]}`,
		PathConnections: `{"connections":[],"more":false}`,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if got := strings.TrimSpace(w.Body.String()); got != want || w.Code != 200 {
			t.Errorf("%s: got %d %s, want %s", path, w.Code, got, want)
		}
	}
}

// TestStatesAreThoseOfTheTable holds the names here against the table's own.
func TestClientErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for socket, want := range map[string]string{
		filepath.Join(dir, "none.sock"): "no such file: is fnatd running? (--socket names another)",
		dead:                            "nobody answers: fnatd has died: start it again",
	} {
		_, err := NewClient(socket).Stats(context.Background())
		if got, want := fmt.Sprint(err), "connect "+socket+": "+want; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestClientOfAnotherServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "other.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	other := httptest.NewUnstartedServer(http.NotFoundHandler())
	other.Listener = l
	other.Start()
	defer other.Close()
	_, err = NewClient(socket).Stats(context.Background())
	if err == nil || !strings.Contains(err.Error(), "is "+socket+" the socket of fnatd?") {
		t.Errorf("got %v, want a question whether this is fnatd", err)
	}
}

// TestReadmeExplainsEveryReason keeps the table of the README word for word.

func TestUpgrade(t *testing.T) {
	c := NewClient(serve(t, &fakeBackend{}))
	u, err := c.Upgrade(context.Background(), UpgradeOrder{Binary: "/new"})
	if want := (Upgrade{PID: 4712, Version: "v2", Before: "v1/new", GapSeconds: 0.0042}); err != nil || u != want {
		t.Errorf("got %+v, %v, want %+v", u, err, want)
	}
	_, err = c.Upgrade(context.Background(), UpgradeOrder{Binary: "/bin/false"})
	if want := `upgrade failed, the old fnatd goes on: /bin/false: the new fnatd: it ended before it said "hello"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
