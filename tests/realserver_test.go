package tests

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	bpflink "github.com/cilium/ebpf/link"

	"github.com/fnatd/fnatd/internal/cgroup"
	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/realserver"
	"github.com/fnatd/fnatd/tests/harness"
)

// The servers of server 0, by port. Each listens on its IPv4 and on its IPv6
// address, the one in Go on one socket for both.
const (
	portNginx  = 8080
	portGo     = 8081
	portPython = 8082
	portAsks   = 8083 // testdata/asks.py

	portRecvfrom = 9001 // testdata/servers.c
	portRecvmmsg = 9003
)

// asksShower is for balance: it shows more than a shower can say.
var asksShower = &shower{name: "asks", protocol: "tcp", port: portAsks, start: func(r *realServer, _ *shower) { r.asks() }}

// trustLIPs covers the LIPs, 198.19.0.10 and .11, and addresses up to .63.
const trustLIPs = "198.19.0.0/26,2001:db8:19::/64"

// A realServer is server 0 of a bed, whose programs are in a cgroup that fnatrs
// serves.
type realServer struct {
	*bed
	host   *netns.Host
	cgroup *cgroup.Group
	rs     *harness.Fnatrs
	at     map[uint16]*shower // by the ports of their VIPs
}

func newRealServer(t testing.TB) *realServer {
	b := newBed(t, matrix[0], 1)
	r := &realServer{bed: b, host: b.Servers[0]}
	var err error
	if r.cgroup, err = cgroup.New("fnatrs-test"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.cgroup.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// attach starts fnatrs for the cgroup.
func (r *realServer) attach(args ...string) {
	r.Helper()
	var err error
	if r.rs, err = harness.StartFnatrs(r.host, bin+"/fnatrs", r.dir, r.cgroup.Path, args...); err != nil {
		r.Fatal(err)
	}
}

// detach ends fnatrs, which must leave nothing attached and no program loaded.
func (r *realServer) detach() {
	r.Helper()
	s, err := r.rs.Status()
	if err := errors.Join(err, r.rs.Stop()); err != nil {
		r.Fatal(err)
	}
	r.checkDetached()
	for _, a := range s.Programs {
		r.eventually(a.Program+" is unloaded", func() bool {
			p, err := ebpf.NewProgramFromID(ebpf.ProgramID(a.ID))
			if err == nil {
				p.Close()
			}
			return errors.Is(err, os.ErrNotExist)
		})
	}
}

// checkDetached fails the test if a program is attached to the cgroup.
func (r *realServer) checkDetached() {
	r.Helper()
	dir, err := os.Open(r.cgroup.Path)
	if err != nil {
		r.Fatal(err)
	}
	defer dir.Close()
	for _, hook := range []ebpf.AttachType{
		ebpf.AttachCGroupSockOps, ebpf.AttachCGroupGetsockopt,
		ebpf.AttachCgroupInet4GetPeername, ebpf.AttachCgroupInet6GetPeername, ebpf.AttachCgroupInetSockRelease,
	} {
		found, err := bpflink.QueryPrograms(bpflink.QueryOptions{Target: int(dir.Fd()), Attach: hook})
		if err != nil || len(found.Programs) > 0 {
			r.Errorf("%v: got %v, %v, want nothing attached", hook, found, err)
		}
	}
}

// taken returns how many of fnatrs's slots for connections are taken.
func (r *realServer) taken() (n int) {
	r.Helper()
	s, err := r.rs.Status()
	if err != nil {
		r.Fatal(err)
	}
	at := slices.IndexFunc(s.Programs, func(a realserver.Attachment) bool { return a.Program == "fnatrs_sockops" })
	if at < 0 {
		r.Fatalf("fnatrs_sockops is not attached: %+v", s.Programs)
	}
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(s.Programs[at].ID))
	if err != nil {
		r.Fatal(err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		r.Fatal(err)
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			r.Fatal(err)
		}
		defer m.Close()
		if m.Type() != ebpf.Array || m.ValueSize() != 40 {
			continue
		}
		var key uint32
		var slot [40]byte
		for all := m.Iterate(); all.Next(&key, &slot); {
			if binary.NativeEndian.Uint64(slot[8:]) != 0 && slot[4] == 0 { // a cookie, and not closed
				n++
			}
		}
	}
	return n
}

// serve starts a program in the cgroup and waits until it is ready.
func (r *realServer) serve(env string, ready func() bool, name string, args ...string) *netns.Process {
	r.Helper()
	cmd := r.cgroup.Hold(r.host.Command(context.Background(), name, args...))
	if env != "" {
		cmd.Env = append(os.Environ(), env)
	}
	p, err := r.host.BackgroundCommand(cmd)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		p.Kill() // or the cgroup could not be removed
		if r.Failed() {
			r.Logf("%s printed:\n%s", name, p.Output())
		}
	})
	r.eventually(fmt.Sprintf("%s is ready: %s", name, p.Output()), ready)
	return p
}

// start has the servers run, and fnatd balance them.
func (r *realServer) startShowers(keys string, all []*shower) {
	r.Helper()
	r.at = map[uint16]*shower{}
	for _, s := range all {
		s.start(r, s)
		for _, at := range ways(s.port) {
			r.at[at.Port()] = s
		}
	}
	r.meet()
	r.balance(keys, all...)
}

func server(port uint16) []netip.AddrPort {
	return []netip.AddrPort{fourToFour.rip(0, port), sixToSix.rip(0, port)}
}

// count returns one of fnatrs's counters.
func (r *realServer) count(c realserver.Counter) uint64 {
	r.Helper()
	s, err := r.rs.Status()
	if err != nil {
		r.Fatal(err)
	}
	return s.Count(c)
}

// balance starts fnatd with three services for each server: 4to4 and 6to6 at its
// port of a VIP, 6to4 a hundred above. The keys are those of the TCP services.
func (r *realServer) balance(keys string, all ...*shower) {
	r.Helper()
	var services []harness.Service
	for _, shower := range all {
		for _, s := range []harness.Service{
			{Name: "4to4", Virtual: fourToFour.vip(shower.port), Servers: fourToFour.to(shower.port, 0)},
			{Name: "6to6", Virtual: sixToSix.vip(shower.port), Servers: sixToSix.to(shower.port, 0)},
			{Name: "6to4", Virtual: vip6to4(shower.port), Servers: sixToFour.to(shower.port, 0)},
		} {
			s.Name += "-" + shower.name
			s.Protocol = shower.protocol
			if s.Protocol == "tcp" {
				s.Keys = keys
			}
			services = append(services, s)
		}
	}
	r.start(services...)
}

func vip6to4(port uint16) netip.AddrPort { return sixToFour.vip(port + 100) }

// ways are the VIPs of a port that balance has made.
func ways(port uint16) map[string]netip.AddrPort {
	return map[string]netip.AddrPort{
		"4to4": fourToFour.vip(port), "6to6": sixToSix.vip(port), "6to4": vip6to4(port),
	}
}

// An asked is what testdata/asks.py has learnt of its client.
type asked struct {
	Accept, Getpeername []any
	TTM, Roomy, Short   string
	DPVS                string
	TOS                 string
	TOSLarge            string `json:"tos_large"`
}

func (r *realServer) ask(at netip.AddrPort) (answer asked, client netip.AddrPort) {
	r.Helper()
	text, client := r.askBy("tcp", at, askStream)
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		r.Fatalf("%v answered %q: %v", at, text, err)
	}
	return answer, client
}

// shown is an address as Python has it: the number is a float to encoding/json.
func shown(a netip.AddrPort) []any { return []any{a.Addr().String(), float64(a.Port())} }

// told is what asks.py learns of a client where it can be told in full.
func told(client netip.AddrPort) asked {
	family := uint16(2)
	if client.Addr().Is6() {
		family = 10
	}
	ttm := binary.BigEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, family), client.Port())
	ttm = append(ttm, client.Addr().AsSlice()...)
	ttm = append(ttm, make([]byte, 20-len(ttm))...)
	whole := client.Addr().As16()
	dpvs := append(binary.BigEndian.AppendUint16(whole[:], client.Port()), 0, 0)
	return asked{
		Accept: shown(client), Getpeername: shown(client),
		TTM: hex.EncodeToString(ttm), Roomy: hex.EncodeToString(ttm), DPVS: hex.EncodeToString(dpvs),
		Short: "ENOPROTOOPT", TOS: "00000000", TOSLarge: "00000000",
	}
}

// untold is what it learns of a client that fnatrs does not know.
func untold() asked {
	const no = "ENOPROTOOPT"
	return asked{TTM: no, Roomy: no, Short: no, DPVS: no, TOS: "00000000", TOSLarge: "00000000"}
}

// isLIP reports whether an address as Python has it is a local address of fnatd.
func isLIP(a []any) bool {
	return len(a) == 2 && (a[0] == netns.LIP(0).String() || a[0] == netns.LIP(1).String() || a[0] == netns.LIP6(0).String())
}

// nginxLog starts nginx, and returns its access log's name.
func (r *realServer) nginxLog() string {
	r.Helper()
	dir := filepath.Join(r.dir, "nginx")
	log := filepath.Join(dir, "access.log")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.Fatal(err)
	}
	at := server(portNginx)
	config := fmt.Sprintf(`
daemon off;
user root;
error_log stderr;
pid %[1]s/nginx.pid;
events {}
http {
	log_format who "$who";
	access_log %[2]s who;
	map $remote_addr $who {
		~: "[$remote_addr]:$remote_port";
		default "$remote_addr:$remote_port";
	}
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	keepalive_requests 1000000;
	server {
		listen %[3]s;
		listen %[4]s;
		location / { return 200 "hello"; }
	}
}
`, dir, log, at[0], at[1])
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		r.Fatal(err)
	}
	r.serve("", r.listening("tcp", at...), "nginx", "-c", file, "-e", "stderr")
	return log
}

// pythonHTTP starts Python's own server once for each IP version.
func (r *realServer) pythonHTTP() (all []*netns.Process) {
	r.Helper()
	dir := filepath.Join(r.dir, "www")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.Fatal(err)
	}
	for _, at := range server(portPython) {
		all = append(all, r.serve("PYTHONUNBUFFERED=1", r.listening("tcp", at), "python3",
			"-m", "http.server", fmt.Sprint(portPython), "--bind", at.Addr().String(), "--directory", dir))
	}
	return all
}

func (r *realServer) asks() {
	r.Helper()
	for _, at := range server(portAsks) {
		r.serve("", r.listening("tcp", at), "python3", "testdata/asks.py", at.Addr().String(), fmt.Sprint(portAsks))
	}
}
