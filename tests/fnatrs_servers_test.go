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
	// shows asks the server at a VIP and returns the client as the server has it,
	// an address and port or, in some logs, an address, and who it really is.
	shows func(r *realServer, at netip.AddrPort) (shown string, client netip.AddrPort)
	// roomy servers can be told an IPv6 client where the real server has IPv4.
	roomy bool
	log   func() string // of those that answer nothing of use
}

// showers returns the servers of a matrix. Each listens on an IPv4 and on an IPv6
// address, one way or the other.
func showers() []*shower {
	return []*shower{
		{name: "nginx", protocol: "tcp", port: portNginx, start: startNginx, shows: byLog(`^(\S+:\d+)$`, (*realServer).exchange)},
		{name: "go_net_http", protocol: "tcp", port: portGo, start: startGo, shows: (*realServer).exchange, roomy: true},
		{name: "python_http_server", protocol: "tcp", port: portPython, start: startPythonHTTP, shows: byLog(`^(\S+) - - .*"GET / `, (*realServer).exchange)},
		{name: "python_socketserver", protocol: "tcp", port: 8084, start: startSocketserver, shows: (*realServer).readTCP},
		{name: "c_accept", protocol: "tcp", port: 8085, start: startC("accept"), shows: (*realServer).readTCP},
		{name: "python_socketserver_udp", protocol: "udp", port: 9000, start: startSocketserver, shows: (*realServer).askUDP},
		{name: "c_recvfrom", protocol: "udp", port: portRecvfrom, start: startC("recvfrom"), shows: (*realServer).askUDP},
		{name: "c_recvmsg", protocol: "udp", port: 9002, start: startC("recvmsg"), shows: (*realServer).askUDP},
		{name: "c_recvmmsg", protocol: "udp", port: portRecvmmsg, start: startC("recvmmsg"), shows: (*realServer).askUDP},
		{name: "c_recvfrom_dual_stack", protocol: "udp", port: 9004, start: startWildcardC("recvfrom"), shows: (*realServer).askUDP},
		{name: "c_recvmmsg_dual_stack", protocol: "udp", port: 9005, start: startWildcardC("recvmmsg"), shows: (*realServer).askUDP},
		{name: "c_connect", protocol: "udp", port: 9006, start: startC("connect"), shows: (*realServer).askUDP},
		{name: "c_connect_dual_stack", protocol: "udp", port: 9007, start: startWildcardC("connect"), shows: (*realServer).askUDP},
		{name: "c_getsockopt_2048", protocol: "udp", port: 9008, start: startC("lookup"), shows: (*realServer).askUDP, roomy: true},
		{name: "unbound", protocol: "udp", port: 53, start: startUnbound, shows: byLog(`info: (\S+) www.test. A IN`, (*realServer).query)},
	}
}

// byLog returns a shows for a server that logs its client, after ask has asked
// it: it is what the pattern's group matches in a line.
func byLog(pattern string, ask func(*realServer, netip.AddrPort) (string, netip.AddrPort)) func(*realServer, netip.AddrPort) (string, netip.AddrPort) {
	line := regexp.MustCompile("(?m)" + pattern)
	return func(r *realServer, at netip.AddrPort) (shown string, client netip.AddrPort) {
		r.Helper()
		s := r.at[at.Port()]
		seen := map[string]int{}
		for _, m := range line.FindAllStringSubmatch(s.log(), -1) {
			seen[m[1]]++
		}
		_, client = ask(r, at)
		r.eventually(s.name+" has logged its client", func() bool {
			now := map[string]int{}
			for _, m := range line.FindAllStringSubmatch(s.log(), -1) {
				if now[m[1]]++; now[m[1]] > seen[m[1]] {
					shown = m[1]
				}
			}
			return shown != ""
		})
		return shown, client
	}
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
	var logs []*netns.Process
	for i, at := range server(s.port) {
		config := filepath.Join(r.dir, fmt.Sprintf("unbound-log%d.conf", i))
		text := fmt.Sprintf(unboundConfig, at.Addr(), r.dir) + "\tlog-queries: yes\n\tlogfile: \"\"\n"
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			r.Fatal(err)
		}
		logs = append(logs, r.serve("", r.listening("tcp", at), "unbound", "-d", "-p", "-c", config))
	}
	s.log = func() string { return logs[0].Output() + logs[1].Output() }
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

// readTCP opens a connection and returns all that the server sends on it.
func (r *realServer) readTCP(at netip.AddrPort) (answer string, client netip.AddrPort) {
	r.Helper()
	c := r.dialClient("tcp", at)
	text, err := io.ReadAll(c)
	if err != nil {
		r.Fatal(err)
	}
	return string(text), c.LocalAddr().(*net.TCPAddr).AddrPort()
}

// askUDP sends a datagram from a socket of its own, twice, and returns the second answer.
func (r *realServer) askUDP(at netip.AddrPort) (answer string, client netip.AddrPort) {
	r.Helper()
	c := r.dialClient("udp", at)
	for range 2 {
		answer = r.exchangeUDP(c, []byte("who am I?"))
	}
	return answer, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// exchangeUDP sends a question and returns the answer. Nothing is lost on the
// rig, so nothing is repeated.
func (r *realServer) exchangeUDP(c net.Conn, question []byte) string {
	r.Helper()
	buf := make([]byte, 2048)
	_, err := c.Write(question)
	if err == nil {
		var n int
		if n, err = c.Read(buf); err == nil {
			return string(buf[:n])
		}
	}
	r.Fatal(err)
	return ""
}

// query asks a DNS server for www.test.
func (r *realServer) query(at netip.AddrPort) (answer string, client netip.AddrPort) {
	r.Helper()
	c := r.dialClient("udp", at)
	question := "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x04test\x00\x00\x01\x00\x01"
	return r.exchangeUDP(c, []byte(question)), c.LocalAddr().(*net.UDPAddr).AddrPort()
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
