package health

import (
	"bufio"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
)

// short is how long an attempt may take in tests of servers that are too slow. The
// tests do not measure it.
const short = 300 * time.Millisecond

// patience is how long an attempt may take that is to succeed.
const patience = 20 * time.Second

// ask makes an attempt and returns what came out: "" if it passed.
func ask(t *testing.T, p Probe, at netip.AddrPort, limit time.Duration) (Result, string) {
	t.Helper()
	c := &check{Check: Check{Probe: p, Timing: Timing{Timeout: limit}}}
	r, err := c.ask(t.Context(), Endpoint{AddrPort: at})
	if err != nil {
		return r, err.Error()
	}
	return r, ""
}

// tcpServer serves each connection by serve, until the test ends.
func tcpServer(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// closedPort returns an address at which nobody listens.
func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestTCP(t *testing.T) {
	if _, got := ask(t, TCP{}, tcpServer(t, func(net.Conn) {}), patience); got != "" {
		t.Errorf("open: got %q, want it passed", got)
	}
	if _, got := ask(t, TCP{}, closedPort(t), patience); got != "connection refused" {
		t.Errorf("closed: got %q, want connection refused", got)
	}
}

// get is an HTTP check as the configuration makes it by default.
func get(path string) *HTTP {
	return &HTTP{Method: "GET", Path: path, Status: []CodeRange{{200, 299}}}
}

func TestHTTP(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			io.WriteString(w, "all is well\n")
		case "/echo":
			fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, r.Host)
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/long":
			w.Write(make([]byte, maxBody+1))
		default:
			http.NotFound(w, r)
		}
	}))
	server.Start()
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())

	with := func(h *HTTP, set func(*HTTP)) *HTTP { set(h); return h }
	for name, test := range map[string]struct {
		probe *HTTP
		want  string
	}{
		"ok":                          {get("/ok"), ""},
		"not_found":                   {get("/nothing"), "status 404, want 200-299"},
		"status_listed":               {with(get("/nothing"), func(h *HTTP) { h.Status = []CodeRange{{200, 200}, {404, 404}} }), ""},
		"redirection_is_not_followed": {get("/moved"), "status 302, want 200-299"},
		"head":                        {with(get("/ok"), func(h *HTTP) { h.Method = "HEAD" }), ""},
		"matches":                     {with(get("/ok"), func(h *HTTP) { h.Match = regexp.MustCompile(`(?m)^all is \w+$`) }), ""},
		"does_not_match":              {with(get("/ok"), func(h *HTTP) { h.Match = regexp.MustCompile("ill") }), `body of 12 bytes matches regex "ill": false`},
		"must_not_match":              {with(get("/ok"), func(h *HTTP) { h.Match, h.NoMatch = regexp.MustCompile("well"), true }), `body of 12 bytes matches regex "well": true`},
		"host_is_the_address": {with(get("/echo?a=%20b"), func(h *HTTP) {
			h.Match = regexp.MustCompile("^" + regexp.QuoteMeta("GET /echo?a=%20b "+at.String()) + "$")
		}), ""},
		"host_is_given":               {with(get("/echo"), func(h *HTTP) { h.Host, h.Match = "www.example.com", regexp.MustCompile(` www\.example\.com$`) }), ""},
		"md5":                         {with(get("/ok"), func(h *HTTP) { h.Digest = "5B0E5F1B9AC1DA0F0F22F8A5E8B0A1C4" }), "digest of the body is " + digestOf("all is well\n", 16) + ", want 5b0e5f1b9ac1da0f0f22f8a5e8b0a1c4"},
		"md5_is_right":                {with(get("/ok"), func(h *HTTP) { h.Digest = digestOf("all is well\n", 16) }), ""},
		"sha256_is_right":             {with(get("/ok"), func(h *HTTP) { h.Digest = strings.ToUpper(digestOf("all is well\n", 32)) }), ""},
		"long_body_that_nobody_reads": {get("/long"), ""},
		"long_body":                   {with(get("/long"), func(h *HTTP) { h.Match = regexp.MustCompile("x") }), "body of more than 1024 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := ask(t, test.probe, at, patience); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func digestOf(body string, size int) string {
	h := &HTTP{Digest: strings.Repeat("00", size)}
	return h.digest([]byte(body))
}

func TestDigestsAreTheWellKnownOnes(t *testing.T) {
	if got, want := digestOf("", 16), "d41d8cd98f00b204e9800998ecf8427e"; got != want {
		t.Errorf("MD5: got %s, want %s", got, want)
	}
	if got, want := digestOf("", 32), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"; got != want {
		t.Errorf("SHA-256: got %s, want %s", got, want)
	}
}

// answer serves by reading a request and sending text.
func answer(text string) func(net.Conn) {
	return func(c net.Conn) {
		in := bufio.NewReader(c)
		for line := ""; line != "\r\n"; {
			var err error
			if line, err = in.ReadString('\n'); err != nil {
				return
			}
		}
		io.WriteString(c, text)
	}
}

// drip serves by sending text a byte at a time, for ever.
func drip(head, text string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, head)
		for i := 0; ; i++ {
			if _, err := c.Write([]byte{text[i%len(text)]}); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// flood serves by sending text as fast as it can, for ever.
func flood(head, text string) func(net.Conn) {
	chunk := []byte(strings.Repeat(text, 1000))
	return func(c net.Conn) {
		io.WriteString(c, head)
		for {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}
}

// silence serves by saying nothing.
func silence(c net.Conn) { io.Copy(io.Discard, c) }

// TestHTTPOfBadServers has what servers send that are broken or wicked. Each ends
// the attempt in time and is told in words.
func TestHTTPOfBadServers(t *testing.T) {
	matching := get("/")
	matching.Match = regexp.MustCompile("ok")
	const head = "HTTP/1.1 200 OK\r\n"
	const noEnd = "not an answer in HTTP: no end of the header in 64 KiB"
	slow := fmt.Sprintf("no full answer within %v", short)
	for name, test := range map[string]struct {
		serve func(net.Conn)
		probe *HTTP
		limit time.Duration
		want  string
	}{
		"closes_at_once":            {answer(""), get("/"), patience, "connection closed before a whole answer"},
		"says_nothing":              {silence, get("/"), short, slow},
		"rubbish":                   {answer("\x00\x01\x02rubbish\r\n\r\n"), get("/"), patience, `not an answer in HTTP: malformed HTTP response "\x00\x01\x02rubbish"`},
		"another_protocol":          {answer("220 mail.example.com ESMTP\r\n"), get("/"), patience, `not an answer in HTTP: malformed HTTP status code "mail.example.com"`},
		"a_byte_at_a_time":          {drip("", head+"X: y\r\n"), get("/"), short, slow},
		"a_body_a_byte_at_a_time":   {drip(head+"\r\n", "o"), matching, short, slow},
		"a_status_line_without_end": {flood("", "x"), get("/"), patience, noEnd},
		"a_header_without_end":      {flood(head, "X-Header: yes\r\n"), get("/"), patience, noEnd},
		"a_field_without_end":       {flood(head+"X: ", "y"), get("/"), patience, noEnd},
		"a_body_without_end":        {flood(head+"\r\n", "no"), matching, patience, "body of more than 1024 KiB"},
		"a_body_that_nobody_reads":  {flood(head+"\r\n", "no"), get("/"), patience, ""},
		"chunks_without_end":        {flood(head+"Transfer-Encoding: chunked\r\n\r\n", "2\r\nno\r\n"), matching, patience, "body of more than 1024 KiB"},
		"a_chunk_that_is_none":      {answer(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"), matching, patience, "body: invalid byte in chunk length"},
		"a_body_that_breaks_off":    {answer(head + "Content-Length: 100\r\n\r\nok"), matching, patience, "body: unexpected EOF"},
		"a_reset":                   {func(c net.Conn) { answer("")(c); reset(c) }, get("/"), patience, "connection reset by peer"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := ask(t, test.probe, tcpServer(t, test.serve), test.limit); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// reset closes a connection by RST.
func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func TestHTTPS(t *testing.T) {
	asked := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	server.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		asked <- hello.ServerName
		return nil, nil
	}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are to break off
	server.StartTLS()
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())

	h := get("/")
	for _, name := range []string{"www.example.com", ""} {
		h.TLS = &TLS{ServerName: name}
		if _, got := ask(t, h, at, patience); got != "" {
			t.Errorf("SNI %q: got %q, want it passed", name, got)
		}
		if got := <-asked; got != name {
			t.Errorf("SNI: got %q, want %q", got, name)
		}
	}
	h.TLS = &TLS{ServerName: "www.example.com", Verify: true}
	if _, got := ask(t, h, at, patience); !strings.HasPrefix(got, "TLS: tls: failed to verify certificate") {
		t.Errorf("certificate of nobody: got %q, want it refused", got)
	}
	<-asked

	h.TLS = &TLS{}
	for name, test := range map[string]struct {
		serve func(net.Conn)
		limit time.Duration
		want  string
	}{
		"no_TLS":       {answer("HTTP/1.1 200 OK\r\n\r\n"), patience, "TLS: "},
		"says_nothing": {silence, short, "no full answer within"},
		"drips":        {drip("", "\x16\x03\x01\x3f\xff\x02"), short, "no full answer within"},
		"floods":       {flood("", "\x16\x03\x03\x40\x00"), patience, "TLS: "},
	} {
		t.Run(name, func(t *testing.T) {
			serve := test.serve
			if name == "no_TLS" {
				serve = func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); silence(c) }
			}
			if _, got := ask(t, h, tcpServer(t, serve), test.limit); !strings.HasPrefix(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// udpServer answers each datagram by serve, until the test ends.
func udpServer(t *testing.T, serve func([]byte) [][]byte) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			for _, reply := range serve(buf[:n]) {
				c.WriteToUDPAddrPort(reply, from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestUDP(t *testing.T) {
	echo := udpServer(t, func(b []byte) [][]byte { return [][]byte{b} })
	silent := udpServer(t, func([]byte) [][]byte { return nil })
	slow := fmt.Sprintf("no full answer within %v", short)
	bytes := func(digits string) []byte { b, _ := hex.DecodeString(digits); return b }
	for name, test := range map[string]struct {
		at    netip.AddrPort
		probe UDP
		limit time.Duration
		want  string
	}{
		"answers":                       {echo, UDP{}, patience, ""},
		"is_silent":                     {silent, UDP{Payload: []byte("x")}, short, ""},
		"refuses":                       {closedPort(t), UDP{}, patience, "connection refused"},
		"is_silent_and_must_not":        {silent, UDP{Answer: true, MaxReply: 100}, short, slow},
		"answers_as_it_must":            {echo, UDP{Payload: bytes("12ab34"), Answer: true, Pattern: "1xxb", MinReply: 3, MaxReply: 3}, patience, ""},
		"answers_otherwise":             {echo, UDP{Payload: bytes("12ab34"), Answer: true, Pattern: "1xxc", MaxReply: 3}, patience, "reply begins with 12ab, want 1xxc"},
		"answers_less_than_the_pattern": {echo, UDP{Payload: bytes("12"), Answer: true, Pattern: "12ab", MaxReply: 3}, patience, "reply begins with 12, want 12ab"},
		"answers_too_little":            {echo, UDP{Payload: bytes("12"), Answer: true, MinReply: 2, MaxReply: 3}, patience, "reply of 1 bytes, want 2 to 3"},
		"answers_too_much":              {echo, UDP{Payload: bytes("12345678"), Answer: true, MaxReply: 3}, patience, "reply of 4 bytes, want 0 to 3"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := ask(t, &test.probe, test.at, test.limit); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestDNS(t *testing.T) {
	reply := func(change func(*dns.Msg)) func([]byte) [][]byte {
		return func(b []byte) [][]byte {
			var q dns.Msg
			if err := q.Unpack(b); err != nil {
				return nil
			}
			r := new(dns.Msg).SetReply(&q)
			change(r)
			out, _ := r.Pack()
			return [][]byte{out}
		}
	}
	good := reply(func(*dns.Msg) {})
	slow := fmt.Sprintf("no full answer within %v", short)
	for name, test := range map[string]struct {
		serve func([]byte) [][]byte
		limit time.Duration
		want  string
	}{
		"answers":            {good, patience, ""},
		"does_not_know":      {reply(func(r *dns.Msg) { r.Rcode = dns.RcodeNameError }), patience, "answer is NXDOMAIN"},
		"fails":              {reply(func(r *dns.Msg) { r.Rcode = dns.RcodeServerFailure }), patience, "answer is SERVFAIL"},
		"asks_back":          {reply(func(r *dns.Msg) { r.Response = false }), patience, "not an answer to the query"},
		"answers_others":     {reply(func(r *dns.Msg) { r.Id++ }), short, slow},
		"rubbish":            {func([]byte) [][]byte { return [][]byte{[]byte("rubbish, and not so little of it")} }, patience, "not an answer in DNS: "},
		"is_silent":          {func([]byte) [][]byte { return nil }, short, slow},
		"answers_after_late": {func(b []byte) [][]byte { return append(reply(func(r *dns.Msg) { r.Id++ })(b), good(b)...) }, patience, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := ask(t, &DNS{Name: "example.com", Type: "SOA"}, udpServer(t, test.serve), test.limit); !strings.HasPrefix(got, test.want) || got == "" != (test.want == "") {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	t.Run("by_tcp", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		types := make(chan uint16, 1)
		server := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			types <- q.Question[0].Qtype
			w.WriteMsg(new(dns.Msg).SetReply(q))
		})}
		go server.ActivateAndServe()
		defer server.Shutdown()
		at := l.Addr().(*net.TCPAddr).AddrPort()
		if _, got := ask(t, &DNS{Name: ".", Type: "AAAA", TCP: true}, at, patience); got != "" {
			t.Errorf("got %q, want it passed", got)
		}
		if got := <-types; got != dns.TypeAAAA {
			t.Errorf("asked for type %d, want %d", got, dns.TypeAAAA)
		}
	})
}

func TestSMTP(t *testing.T) {
	mail := func(greeting, helo, quit string) func(net.Conn) {
		return func(c net.Conn) {
			in := bufio.NewReader(c)
			io.WriteString(c, greeting)
			for {
				line, err := in.ReadString('\n')
				switch {
				case err != nil:
					return
				case strings.HasPrefix(line, "QUIT"):
					io.WriteString(c, quit)
				default:
					io.WriteString(c, helo)
				}
			}
		}
	}
	const hello, ok, bye = "220 mail.example.com\r\n", "250 mail.example.com\r\n", "221 bye\r\n"
	for name, test := range map[string]struct {
		serve func(net.Conn)
		limit time.Duration
		want  string
	}{
		"is_well":             {mail(hello, ok, bye), patience, ""},
		"turns_away":          {mail("554 no\r\n", ok, bye), patience, `greeting: 554 "no"`},
		"refuses_the_name":    {mail(hello, "504 who?\r\n", bye), patience, `HELO: 504 "who?"`},
		"will_not_let_us_go":  {mail(hello, ok, "500 stay\r\n"), patience, `QUIT: 500 "stay"`},
		"says_nothing":        {silence, short, fmt.Sprintf("no full answer within %v", short)},
		"greets_without_end":  {flood("220 ", "x"), patience, "greeting: more than 64 KiB: unexpected EOF"},
		"greets_line_by_line": {flood("", "220-more\r\n"), patience, "greeting: more than 64 KiB: unexpected EOF"},
		"drips":               {drip("", "220-more\r\n"), short, fmt.Sprintf("no full answer within %v", short)},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := ask(t, &SMTP{Helo: "fnatd.invalid"}, tcpServer(t, test.serve), test.limit); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "number")
	for name, test := range map[string]struct {
		text    string
		dynamic bool
		want    string
		result  Result
	}{
		"zero":          {"0\n", false, "", Result{}},
		"another":       {" 3 ", false, file + ": holds 3", Result{}},
		"negative":      {"-1", false, file + ": holds -1", Result{}},
		"empty":         {"", false, file + `: "" is not a number`, Result{}},
		"words":         {"down", true, file + `: "down" is not a number`, Result{}},
		"a_weight":      {"5", true, "", Result{Weighted: true, Relative: true, Weight: -10}},
		"a_huge_weight": {"2000000000", true, "", Result{Weighted: true, Relative: true, Weight: -2 * maxWeight}},
		"too_long":      {strings.Repeat("0", maxNumber+1) + "x", false, "", Result{}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(test.text), 0o644); err != nil {
				t.Fatal(err)
			}
			r, got := ask(t, &File{Path: file, Dynamic: test.dynamic, Factor: -2}, netip.AddrPort{}, patience)
			if got != test.want || r != test.result {
				t.Errorf("got %q and %+v, want %q and %+v", got, r, test.want, test.result)
			}
		})
	}
	if _, got := ask(t, &File{Path: file + ".no"}, netip.AddrPort{}, patience); got != "open "+file+".no: no such file or directory" && got != "stat "+file+".no: no such file or directory" {
		t.Errorf("missing: got %q", got)
	}
	pipe := file + ".pipe"
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, got := ask(t, &File{Path: pipe}, netip.AddrPort{}, patience); got != pipe+": not a regular file" {
		t.Errorf("pipe: got %q", got)
	}
}

// TestPing needs a raw socket, as fnatd does.
func TestPing(t *testing.T) {
	netns.RequireRoot(t)
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		if _, got := ask(t, Ping{}, netip.MustParseAddrPort(at), patience); got != "" {
			t.Errorf("%s: got %q, want it passed", at, got)
		}
	}
}
