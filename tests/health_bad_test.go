package tests

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/tests/harness"
)

// badServersHarmNobody has checks of servers and scripts that are broken or
// wicked, while others forward and are checked.
func badServersHarmNobody(b *bed) {
	b.nginx(0)
	bad := func(port uint16, serve func(net.Conn)) {
		b.accept(b.Servers[1], b.rip(1, port), serve)
	}
	bad(8081, func(c net.Conn) { io.WriteString(c, "\x00\x01rubbish\r\n\r\n"); io.Copy(io.Discard, c) })
	bad(8082, func(c net.Conn) {
		for _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n"); err == nil; {
			_, err = c.Write([]byte(strings.Repeat("X: y\r\n", 1000)))
		}
	})
	bad(8083, func(c net.Conn) {
		for i := 0; ; i++ {
			if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\n"[i%17 : i%17+1])); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	})
	script := func(name, text string) string {
		path := filepath.Join(b.dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			b.Fatal(err)
		}
		return path
	}
	web := b.web(0)
	web.Health = "type = \"http\"\npath = \"/echo/\"\n" + quickCheck
	// Those that will not end by themselves have little time, the others enough.
	check := func(endless bool, lines string) string {
		timeout := "10s"
		if endless {
			timeout = "500ms"
		}
		return fmt.Sprintf("[service.real_server.health]\ninterval = \"300ms\"\ntimeout = %q\nfall = 1\nwarmup = \"0s\"\n%s", timeout, lines)
	}
	http := func(endless bool) string { return check(endless, "type = \"http\"\nregex = \"ok\"\n") }
	exec := func(endless bool, name, text string) string {
		return check(endless, fmt.Sprintf("type = \"exec\"\ncommand = [%q]\n", script(name, text)))
	}
	wants := []string{
		"not an answer in HTTP", "no end of the header", "no full answer within",
		"no full answer within", "printed more than 64 KiB", "no full answer within",
	}
	for i, lines := range []string{
		http(false), http(false), http(true),
		exec(true, "hangs", "sleep 98765"), exec(false, "floods", "exec yes"), exec(true, "forks", "for i in 1 2 3 4 5 6 7 8; do (sleep 98765 & sleep 98765) & done; sleep 98765")} {
		web.Servers = append(web.Servers, harness.Server{Real: b.rip(1, uint16(8081+i)), Keys: lines})
	}
	web.Keys += fmt.Sprintf("\nnotify_down = [%q]\nscript_timeout = \"1s\"", script("notify", "sleep 98765"))
	b.start(web)
	requests := b.requests()
	b.becomes("web", "up"+strings.Repeat(" down", len(wants)))
	for i, r := range b.service("web").Servers[1:] {
		if !strings.Contains(r.Reason, wants[i]) {
			b.Errorf("server %d: got reason %q, want %q", i+1, r.Reason, wants[i])
		}
		logged := regexp.MustCompile(fmt.Sprintf(`msg="real server is down" service=web real=%s because=`, regexp.QuoteMeta(r.Real.String())))
		b.eventually(fmt.Sprintf("server %d is in the log", i+1), func() bool { return logged.MatchString(b.lb.Log()) })
	}
	b.eventually("a script was broken off", func() bool { return strings.Contains(b.lb.Log(), "script broken off") })
	good, _ := requests.counts()
	b.eventually("requests go on", func() bool { now, _ := requests.counts(); return now > good+20 })
	requests.end()
	if got := b.answersFrom(10); got["0"] != 10 {
		b.Errorf("got answers %v, want 10 of server 0", got)
	}
	b.stop()
	if out, err := b.Balancer.Run(b.Context(), "sh", "-c", "ps ax | grep '[s]leep 98765'"); err == nil {
		b.Errorf("processes are left:\n%s", out)
	}
}

// everyCheckPasses has each kind of check ask a server that is well.
func everyCheckPasses(b *bed) {
	b.nginx(0)
	b.namedServer(0)
	b.unbound(0)
	b.mailServer(0, 25)
	number := filepath.Join(b.dir, "number")
	if err := os.WriteFile(number, []byte("0\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	web := b.web(0)
	const also = "\n[[service.health]]\n"
	timing := quickCheck + "alpha = true\n"
	web.Keys += also + "type = \"tcp\"\n" + timing +
		also + "type = \"http\"\npath = \"/echo/x\"\nregex = \"^/echo/x 0$\"\n" + timing +
		also + "type = \"udp\"\nport = 7\nrequire_reply = true\nreply = \"30\"\n" + timing +
		also + "type = \"dns\"\nport = 53\nquery = \"A\"\nname = \"www.test\"\n" + timing +
		also + "type = \"dns\"\nport = 53\ntransport = \"tcp\"\nquery = \"A\"\nname = \"www.test\"\n" + timing +
		also + "type = \"ping\"\n" + timing +
		also + "type = \"smtp\"\nport = 25\n" + timing +
		also + "type = \"exec\"\ncommand = [\"sh\", \"-c\", \"[ \\\"$FNATD_ADDRESS\\\" = " + b.rip(0, 1).Addr().String() + " ]\"]\n" + timing +
		also + fmt.Sprintf("type = \"file\"\nfile = %q\n", number) + timing
	b.start(web)
	defer func() {
		if b.Failed() {
			b.Log(b.tell("health", "--checks"))
		}
	}()
	b.becomes("web", "up")
	if got := b.answersFrom(3); got["0"] != 3 {
		b.Errorf("got answers %v, want 3", got)
	}
	if err := os.WriteFile(number, []byte("1\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	b.becomes("web", "down")
	if r := b.service("web").Servers[0]; r.Health != ctl.HealthDown || r.Reason != fmt.Sprintf("file %s: %s: holds 1", number, number) {
		b.Errorf("got %+v, want it down for what the file says", r)
	}
}

// mailServer makes server i greet whoever connects to a port as a mail server does.
func (b *bed) mailServer(i int, port uint16) {
	b.Helper()
	l, err := b.Servers[i].Listen("tcp", b.rip(i, port).String())
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.WriteString(c, "220 mail\r\n")
				buf := make([]byte, 1000)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					code := "250 mail\r\n"
					if strings.HasPrefix(string(buf[:n]), "QUIT") {
						code = "221 bye\r\n"
					}
					io.WriteString(c, code)
				}
			}()
		}
	}()
}
