package tests

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// web is port 80 of the VIP, spread in turn over port 8080 of these servers.
func (b *bed) web(servers ...int) harness.Service {
	return harness.Service{Name: "web", Virtual: b.vip(80), Keys: `scheduler = "rr"`, Servers: b.to(8080, servers...)}
}

// An nginx is an unmodified nginx on port 8080 of a server. Below /slow/ it sends
// its files at 2 MB/s, /echo/ answers with what was asked for and by whom, and
// PUT stores files.
type nginx struct {
	*netns.Process
	root string // directory of its files
}

const nginxConfig = `
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 8192;
error_log stderr;
pid %[1]s/nginx.pid;
events { worker_connections 4096; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	client_max_body_size 1g;
	keepalive_requests 100000;
	root %[1]s/files;
	server {
		listen %[2]s reuseport backlog=4096;
		add_header X-Server %[3]d;
		dav_methods PUT;
		location /echo/ { return 200 "$request_uri %[3]d"; }
		location /slow/ { alias %[1]s/files/; limit_rate 2m; }
	}
}
`

// nginx starts nginx on server i.
func (b *bed) nginx(i int) *nginx {
	b.Helper()
	dir := filepath.Join(b.dir, fmt.Sprintf("nginx%d", i))
	n := &nginx{root: filepath.Join(dir, "files")}
	if err := os.MkdirAll(n.root, 0o755); err != nil {
		b.Fatal(err)
	}
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir, b.rip(i, 8080), i), 0o644); err != nil {
		b.Fatal(err)
	}
	s := b.Servers[i]
	n.Process = b.background(s, b.answers(s, b.rip(i, 8080)), "nginx", "-c", config, "-e", "stderr")
	return n
}

// file puts a file of random bytes on nginx and returns its hash.
func (n *nginx) file(b *bed, name string, size int64) (hash string) {
	b.Helper()
	f, err := os.Create(filepath.Join(n.root, name))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(rand.NewChaCha8([32]byte{1}), size)); err != nil {
		b.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// hash returns the hash of a file's content.
func (b *bed) hash(name string) string {
	b.Helper()
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		b.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// curl runs curl on the client.
func (b *bed) curl(args ...string) string {
	b.Helper()
	return b.run(b.Client, "curl", append([]string{"-sS", "--fail", "--max-time", "100"}, args...)...)
}

const hundredMB = 100 << 20

func downloadAndUpload(b *bed) {
	n := b.nginx(0)
	want := n.file(b, "file", hundredMB)
	b.start(b.web(0))

	down := filepath.Join(b.dir, "down")
	b.curl("-o", down, b.url("/file"))
	if got := b.hash(down); got != want {
		b.Errorf("download: got a file with hash %s, want %s", got, want)
	}
	// Without "Expect: 100-continue" the server says nothing before it has the
	// whole file: all of its segments carry the client-address option.
	b.curl("-H", "Expect:", "-T", down, b.url("/up"))
	if got := b.hash(filepath.Join(n.root, "up")); got != want {
		b.Errorf("upload: the server got a file with hash %s, want %s", got, want)
	}
	s := b.service("web")
	if got := s.ClientAddresses; got.Inserted < hundredMB/1500 || got.NotInserted.NoRoom != 0 || got.NotInserted.OverMTU != 0 {
		b.Errorf("client addresses: got %+v, want the option on all segments of the upload", got)
	}
	if s.Traffic.InBytes < hundredMB || s.Traffic.OutBytes < hundredMB || s.Traffic.Connections != 2 {
		b.Errorf("traffic: got %+v, want two connections and 100 MB both ways", s.Traffic)
	}
}

func thousandConnections(b *bed) {
	const n = 1000
	b.nginx(0)
	b.nginx(1)
	b.start(b.web(0, 1))

	conns := make([]net.Conn, n)
	var all sync.WaitGroup
	dialing := make(chan struct{}, 50) // a dial holds a thread: see Host.Do
	for i := range conns {
		all.Go(func() {
			dialing <- struct{}{}
			defer func() { <-dialing }()
			c, err := b.Client.Dial(b.Context(), "tcp", b.vip(80).String())
			if err != nil {
				b.Error(err)
				return
			}
			c.SetDeadline(time.Now().Add(patience))
			conns[i] = c
		})
	}
	all.Wait()
	if b.Failed() {
		return
	}
	for i := range 2 { // once fnatd has seen the last dials' third ACKs
		b.eventually("half of the connections are at each server", func() bool { return b.service("web").Servers[i].Active == n/2 })
	}
	for _, w := range b.stats().Workers {
		if w.RxPackets < n/10 {
			b.Errorf("worker %d: got %d packets, want a share of %d handshakes", w.ID, w.RxPackets, n)
		}
	}
	for i, c := range conns {
		all.Go(func() {
			defer c.Close()
			if got, err := get(c, fmt.Sprintf("/echo/%d", i)); err != nil || !strings.HasPrefix(got, fmt.Sprintf("/echo/%d ", i)) {
				b.Errorf("connection %d: got %q, %v", i, got, err)
			}
		})
	}
	all.Wait()
}

// get makes one HTTP request on a connection of its own and returns the body of
// the answer.
func get(c net.Conn, path string) (string, error) {
	client := http.Client{Transport: &http.Transport{Dial: func(string, string) (net.Conn, error) { return c, nil }}}
	resp, err := client.Get("http://" + c.RemoteAddr().String() + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func keepAlive(b *bed) {
	const n = 500
	b.nginx(0)
	b.nginx(1)
	b.start(b.web(0, 1))
	out := b.curl("-w", " %{num_connects}\n", b.url(fmt.Sprintf("/echo/[1-%d]", n)))
	var want bytes.Buffer
	for i := range n {
		connects := 0
		if i == 0 {
			connects = 1
		}
		fmt.Fprintf(&want, "/echo/%d 0 %d\n", i+1, connects)
	}
	if strings.TrimSpace(out) != strings.TrimSpace(want.String()) {
		b.Errorf("got %s\nwant %s", out, want.String())
	}
	if got := b.service("web").Traffic.Connections; got != 1 {
		b.Errorf("got %d connections, want 1", got)
	}
}
