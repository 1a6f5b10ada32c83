package tests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// keepalivedConf is what an operator of DPVS has: FNAT over a group of local
// addresses whose interface it names.
const keepalivedConf = `! as it was
global_defs {
    router_id LB
}
$LAN = %[1]s
local_address_group lan {
    %[2]s-%[3]s $LAN
}
virtual_server %[4]s 80 {
    delay_loop 0.5
    warmup 0
    lb_algo rr
    lb_kind FNAT
    protocol TCP
    laddr_group_name lan
    vip_bind_dev %[5]s
    real_server %[6]s 8080 {
        weight 1
        TCP_CHECK {
            connect_timeout 3
            retry 1
            delay_before_retry 0.2
        }
    }
    real_server %[7]s 8080 {
        weight 1
        HTTP_GET {
            url { path /echo/health }
        }
    }
    syn_proxy
}
`

// TestKeepalivedConfRunsAsItIs has fnatd read a keepalived.conf. That cannot name
// a control socket, so fnatd gets a /run/fnatd of its own: others may be using
// the host's.
func TestKeepalivedConfRunsAsItIs(t *testing.T) {
	b := newBed(t, matrix[0], 2)
	n := b.nginx(0)
	want := n.file(b, "file", 1<<20)
	b.nginx(1).file(b, "file", 1<<20)

	conf := filepath.Join(b.dir, "rig.conf")
	text := fmt.Sprintf(keepalivedConf, b.ServerSide(), netns.LIP(0), netns.LIP(1), netns.VIP(0), b.ClientSide(), netns.ServerAddr(0), netns.ServerAddr(1))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := b.Balancer.Command(context.Background(), "unshare", "--mount", "sh", "-c",
		`mkdir -p /run/fnatd && mount -t tmpfs none /run/fnatd && exec "$0" -c "$1"`, bin+"/fnatd", conf)
	var err error
	if b.lb, err = harness.StartCommand(b.Rig, cmd, b.dir, ""); err != nil {
		t.Fatal(err)
	}

	down := filepath.Join(b.dir, "down")
	b.curl("-o", down, "http://198.18.0.100/file")
	if got := b.hash(down); got != want {
		t.Errorf("got a file with hash %s, want %s", got, want)
	}
	b.contains(b.lb.Log(), "rig.conf:2: global_defs: not a balancer's")
	n.Kill()
	b.eventually("the dead server is down", func() bool { return strings.Contains(b.lb.Log(), `msg="real server is down"`) })
	if got := b.answersFrom(6); got["1"] != 6 {
		t.Errorf("one server is dead: got answers %v, want 6 of the other", got)
	}
}
