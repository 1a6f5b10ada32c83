package tests

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
)

// A shower is an unmodified server on server 0, and how it shows whom it takes
// for its client.
type shower struct {
	name     string
	protocol string
	port     uint16
	start    func(r *realServer, s *shower)
	// ask asks by a connection or socket of the client's. The answer is the client
	// as the server has it, unless that is in its log.
	ask    func(c net.Conn) (string, error)
	logged *regexp.Regexp // its group is a client in the log: an address and port, or an address
	log    func() string
	// roomy servers can be told an IPv6 client where the real server has IPv4.
	roomy bool
	// atOnce is how many clients may come together, for a server with a short queue of
	// connections: 0 is as many as there are.
	atOnce int
	// lasting servers keep a process for each client, so they are not for a crowd.
	lasting bool
}

// showers returns the servers of a matrix. Each listens on an IPv4 and on an IPv6
// address, one way or the other.
func showers() []*shower {
	nginx, python := regexp.MustCompile(`(?m)^(\S+:\d+)$`), regexp.MustCompile(`(?m)^(\S+) - - .*"GET / `)
	unbound := regexp.MustCompile(`(?m)info: (\S+) www.test. A IN`)
	return []*shower{
		{name: "nginx", protocol: "tcp", port: portNginx, start: startNginx, ask: askHTTP, logged: nginx},
		{name: "go_net_http", protocol: "tcp", port: portGo, start: startGo, ask: askHTTP, roomy: true},
		{name: "python_http_server", protocol: "tcp", port: portPython, start: startPythonHTTP, ask: askHTTP, logged: python, atOnce: 4},
		{name: "python_socketserver", protocol: "tcp", port: 8084, start: startSocketserver, ask: askStream},
		{name: "c_accept", protocol: "tcp", port: 8085, start: startC("accept"), ask: askStream},
		{name: "c_getsockopt_1345", protocol: "tcp", port: 8086, start: startC("peer"), ask: askStream, roomy: true},
		{name: "python_socketserver_udp", protocol: "udp", port: 9000, start: startSocketserver, ask: askTwice},
		{name: "c_recvfrom", protocol: "udp", port: portRecvfrom, start: startC("recvfrom"), ask: askTwice},
		{name: "c_recvmsg", protocol: "udp", port: 9002, start: startC("recvmsg"), ask: askTwice},
		{name: "c_recvmmsg", protocol: "udp", port: portRecvmmsg, start: startC("recvmmsg"), ask: askTwice},
		{name: "c_recvfrom_dual_stack", protocol: "udp", port: 9004, start: startWildcardC("recvfrom"), ask: askTwice},
		{name: "c_recvmmsg_dual_stack", protocol: "udp", port: 9005, start: startWildcardC("recvmmsg"), ask: askTwice},
		{name: "c_connect", protocol: "udp", port: 9006, start: startC("connect"), ask: askTwice, lasting: true},
		{name: "c_connect_dual_stack", protocol: "udp", port: 9007, start: startWildcardC("connect"), ask: askTwice, lasting: true},
		{name: "c_getsockopt_2048", protocol: "udp", port: 9008, start: startC("lookup"), ask: askTwice, roomy: true},
		{name: "unbound", protocol: "udp", port: 53, start: startUnbound, ask: askDNS, logged: unbound},
	}
}

func askHTTP(c net.Conn) (string, error) { return get(c, "/") }

// askStream returns all that the server sends on a connection.
func askStream(c net.Conn) (string, error) {
	text, err := io.ReadAll(c)
	return string(text), err
}

// askTwice sends a datagram twice, and returns the second answer.
func askTwice(c net.Conn) (answer string, err error) {
	for range 2 {
		if answer, err = exchange(c, "who am I?"); err != nil {
			return "", err
		}
	}
	return answer, nil
}

// askDNS asks a DNS server for www.test.
func askDNS(c net.Conn) (string, error) {
	return exchange(c, "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x04test\x00\x00\x01\x00\x01")
}

// exchange sends a datagram and returns the answer. Nothing is lost on the rig, so
// nothing is repeated.
func exchange(c net.Conn, question string) (string, error) {
	buf := make([]byte, 2048)
	if _, err := c.Write([]byte(question)); err != nil {
		return "", err
	}
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

// shows asks the server at a VIP and returns the client as the server has it, and
// who it really is.
func (s *shower) shows(r *realServer, at netip.AddrPort) (shown string, client netip.AddrPort) {
	r.Helper()
	if s.logged == nil {
		return r.askBy(s.protocol, at, s.ask)
	}
	before := s.logs()
	_, client = r.askBy(s.protocol, at, s.ask)
	r.eventually(s.name+" has logged its client", func() bool { return len(s.since(before)) > 0 })
	for shown = range s.since(before) {
		break
	}
	return shown, client
}

// logs returns how often each client is in the log.
func (s *shower) logs() map[string]int {
	all := map[string]int{}
	for _, m := range s.logged.FindAllStringSubmatch(s.log(), -1) {
		all[m[1]]++
	}
	return all
}

// since returns how often each has been logged since before.
func (s *shower) since(before map[string]int) map[string]int {
	all := s.logs()
	for client, n := range before {
		if all[client] -= n; all[client] == 0 {
			delete(all, client)
		}
	}
	return all
}

func startGo(r *realServer, s *shower) {
	r.serve(httpServer+fmt.Sprintf("=:%d", s.port), r.listening("tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), s.port)), os.Args[0])
}

func startNginx(r *realServer, s *shower) {
	log := r.nginxLog()
	s.log = func() string {
		text, _ := os.ReadFile(log) // not there before the first request
		return string(text)
	}
}

func startPythonHTTP(r *realServer, s *shower) {
	both := r.pythonHTTP()
	s.log = func() string { return both[0].Output() + both[1].Output() }
}

func startSocketserver(r *realServer, s *shower) {
	for _, at := range server(s.port) {
		r.serve("", r.listening(s.protocol, at), "python3", "testdata/socketservers.py", s.protocol, at.Addr().String(), fmt.Sprint(s.port))
	}
}

// startC starts testdata/servers.c at each address of server 0.
func startC(call string) func(*realServer, *shower) {
	return func(r *realServer, s *shower) {
		for _, at := range server(s.port) {
			r.serve("", r.listening(s.protocol, at), r.cServers(), call, at.Addr().String(), fmt.Sprint(s.port))
		}
	}
}

// startWildcardC starts it once, for all addresses of both IP versions.
func startWildcardC(call string) func(*realServer, *shower) {
	return func(r *realServer, s *shower) {
		r.serve("", r.listening(s.protocol, netip.AddrPortFrom(netip.IPv6Unspecified(), s.port)), r.cServers(), call, "::", fmt.Sprint(s.port))
	}
}

func startUnbound(r *realServer, s *shower) {
	both := r.unbounds(s, "\tlog-queries: yes\n\tlogfile: \"\"\n")
	s.log = func() string { return both[0].Output() + both[1].Output() }
}

// startQuietUnbound has it log nothing, as one under load does.
func startQuietUnbound(r *realServer, s *shower) { r.unbounds(s, "") }

// unbounds starts unbound at each address of server 0, with more lines in its configuration.
func (r *realServer) unbounds(s *shower, more string) (all []*netns.Process) {
	for i, at := range server(s.port) {
		config := filepath.Join(r.dir, fmt.Sprintf("unbound-%d.conf", i))
		if err := os.WriteFile(config, []byte(fmt.Sprintf(unboundConfig, at.Addr(), r.dir)+more), 0o644); err != nil {
			r.Fatal(err)
		}
		all = append(all, r.serve("", r.listening("tcp", at), "unbound", "-d", "-p", "-c", config))
	}
	return all
}

// cServers compiles testdata/servers.c, once for a test.
func (r *realServer) cServers() string {
	r.Helper()
	name := filepath.Join(r.dir, "servers")
	if _, err := os.Stat(name); err == nil {
		return name
	}
	if out, err := exec.Command("cc", "-O2", "-o", name, "testdata/servers.c").CombinedOutput(); err != nil {
		r.Fatalf("cc: %v\n%s", err, out)
	}
	return name
}

// listening returns a condition: a server has sockets of a protocol at these addresses.
func (r *realServer) listening(protocol string, at ...netip.AddrPort) func() bool {
	return func() (all bool) {
		err := r.host.Do(func() error {
			for _, addr := range at {
				file := "/proc/thread-self/net/" + protocol
				if addr.Addr().Is6() {
					file += "6"
				}
				text, err := os.ReadFile(file)
				if err != nil || !strings.Contains(string(text), fmt.Sprintf(":%04X ", addr.Port())) {
					return err
				}
			}
			all = true
			return nil
		})
		if err != nil {
			r.Fatal(err)
		}
		return all
	}
}

// askBy asks at a VIP by a connection or socket of its own; it returns the answer
// and the address that the client really has.
func (r *realServer) askBy(network string, at netip.AddrPort, ask func(net.Conn) (string, error)) (answer string, client netip.AddrPort) {
	r.Helper()
	c := r.dialClient(network, at)
	answer, err := ask(c)
	if err != nil {
		r.Fatal(err)
	}
	return answer, netip.MustParseAddrPort(c.LocalAddr().String())
}

// dialClient connects the client to a VIP, for at most patience and until the test ends.
func (r *realServer) dialClient(network string, at netip.AddrPort) net.Conn {
	r.Helper()
	c, err := r.Client.Dial(r.Context(), network, at.String())
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// httpServer is the environment variable that makes a server of the test binary.
const httpServer = "FNATD_TEST_HTTP_SERVER"

// serveHTTP is an unsuspecting server: it tells each client its address.
func serveHTTP(addr string) int {
	err := http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.RemoteAddr)
	}))
	fmt.Fprintln(os.Stderr, err)
	return 1
}
