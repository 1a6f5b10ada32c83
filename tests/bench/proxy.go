package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/bench/load"
)

// tcpPorts are what the real servers serve.
var tcpPorts = []uint16{load.ShortPort, load.EchoPort, load.BulkPort}

// haproxy returns HAProxy in TCP mode as a contender.
func haproxy() contender {
	return contender{name: "HAProxy", start: func(b *bed) error {
		return b.startProxy("haproxy.cfg", haproxyConfig(), "haproxy", "-f")
	}}
}

// haproxyConfig has one thread, for one processor. splice-auto is HAProxy's own
// advice for TCP.
func haproxyConfig() string {
	var c strings.Builder
	c.WriteString(`global
	maxconn 4000
	nbthread 1
defaults
	mode tcp
	option splice-auto
	balance roundrobin
	timeout connect 5s
	timeout client 60s
	timeout server 60s
`)
	for _, port := range tcpPorts {
		fmt.Fprintf(&c, "listen port%d\n\tbind %v\n", port, vip(port))
		for i := range servers {
			fmt.Fprintf(&c, "\tserver s%d %v:%d\n", i, netns.ServerAddr(i), port)
		}
	}
	return c.String()
}

// nginx returns nginx's stream module as a contender.
func nginx() contender {
	return contender{name: "nginx stream", start: func(b *bed) error {
		return b.startProxy("nginx.conf", nginxConfig(b.dir), "nginx", "-c")
	}}
}

func nginxConfig(dir string) string {
	var c strings.Builder
	fmt.Fprintf(&c, `load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
user root;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log stderr;
events { worker_connections 16384; }
stream {
`, dir)
	for _, port := range tcpPorts {
		fmt.Fprintf(&c, "\tupstream s%d {\n", port)
		for i := range servers {
			// That nobody listens yet when it is asked whether it runs, it is not to remember.
			fmt.Fprintf(&c, "\t\tserver %v:%d max_fails=0;\n", netns.ServerAddr(i), port)
		}
		fmt.Fprintf(&c, "\t}\n\tserver { listen %v reuseport; tcp_nodelay on; proxy_pass s%d; }\n", vip(port), port)
	}
	return c.String() + "}\n"
}

// startProxy runs a proxy on the balancer's processor, and returns when it
// listens.
func (b *bed) startProxy(file, config string, name string, args ...string) error {
	if err := b.kernelAddresses(); err != nil {
		return err
	}
	path := filepath.Join(b.dir, file)
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		return err
	}
	p, err := b.onCore(name, append(args, path)...)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(startTime); time.Now().Before(deadline); {
		select {
		case <-p.Done():
			return fmt.Errorf("%s ended: %w\n%s", name, p.Wait(), p.Output())
		case <-time.After(20 * time.Millisecond):
		}
		if c, err := b.Client.Dial(b.ctx, "tcp", vip(load.EchoPort).String()); err == nil {
			return c.Close()
		}
	}
	return fmt.Errorf("%s does not listen:\n%s", name, p.Output())
}

// startTime is how long a contender may take until it serves.
const startTime = 10 * time.Second

// onCore starts a program on the balancer's processor; it ends with the bed.
func (b *bed) onCore(name string, args ...string) (*netns.Process, error) {
	return b.Balancer.Background("taskset", append([]string{"-c", fmt.Sprint(balancerCPU), name}, args...)...)
}
