package tests

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/realserver"
)

// A lateServer accepts nothing until it is told to.
type lateServer struct {
	*realServer
	proc *netns.Process
	vip  netip.AddrPort
}

const portLate = 8087

// serveLate starts the server at its IPv4 address.
func (l *lateServer) serveLate() {
	l.Helper()
	at := l.rip(0, portLate)
	l.proc = l.serve("", l.listening("tcp", at), l.cServers(), "late", at.Addr().String(), fmt.Sprint(portLate))
}

// connect has clients connect; it returns when fnatrs knows them.
func (l *lateServer) connect(n int) []net.Conn {
	l.Helper()
	all := make([]net.Conn, n)
	before := l.count(realserver.Learned)
	for i := range all {
		all[i] = l.dialClient("tcp", l.vip)
	}
	l.eventually("the clients are known", func() bool { return l.count(realserver.Learned) == before+uint64(n) })
	return all
}

// leave ends connections by RST.
func leave(all ...net.Conn) {
	for _, c := range all {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

// TestFnatrsForgetsWhatIsNotAccepted has connections end while they wait to be
// accepted: with their listening socket, and by RST. Their slots must be free then,
// and while nobody has taken them, must still tell the client of one that is accepted.
func TestFnatrsForgetsWhatIsNotAccepted(t *testing.T) {
	const room = 1024
	r := newRealServer(t)
	r.attach("--trust", trustLIPs, "--max-mappings", fmt.Sprint(room))
	l := &lateServer{realServer: r, vip: r.vip(portLate)}
	l.serveLate()
	r.meet()
	r.balance("", &shower{name: "late", protocol: "tcp", port: portLate})
	free := func(when string) {
		t.Helper()
		r.eventually(when+", no slot is taken", func() bool { return r.taken() == 0 })
	}

	l.connect(20)
	if got := r.taken(); got != 20 {
		t.Fatalf("while 20 clients wait: got %d slots taken", got)
	}
	l.proc.Kill()
	free("after the listening socket is closed")

	l.serveLate()
	// More than there are slots: what waits longest gives its slot to another, and is
	// then shown the LIP, never the other's client.
	clients := map[string]bool{}
	for range 15 {
		all := l.connect(100)
		for _, c := range all {
			clients[c.LocalAddr().String()] = true
		}
		leave(all...)
		free("after their clients have gone")
	}
	if err := l.proc.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	var told []string
	r.eventually("the server has accepted all", func() bool {
		told = strings.Fields(l.proc.Output())
		return len(told) >= 1500
	})
	shown := 0
	for _, who := range told {
		if isLIP(parts(who)) {
			continue
		}
		if shown++; !clients[who] {
			t.Errorf("got %s, which is no client, or one that was shown before", who)
		}
		delete(clients, who)
	}
	if shown < room/2 || shown > room {
		t.Errorf("got %d clients of 1500 shown, want about the %d that there are slots for", shown, room)
	}
	l.proc.Kill()

	// One that fnatrs knew before it was killed.
	l.serveLate()
	waiting := l.connect(1)
	r.rs.Kill()
	r.attach("--trust", trustLIPs, "--max-mappings", fmt.Sprint(room))
	leave(waiting...)
	client := l.connect(1)[0]
	if err := l.proc.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	r.eventually("the server has accepted both", func() bool { return strings.Count(l.proc.Output(), "\n") == 2 })
	if told := strings.Fields(l.proc.Output()); !isLIP(parts(told[0])) || told[1] != client.LocalAddr().String() {
		t.Errorf("after a restart: got %s, want a LIP and %v", told, client.LocalAddr())
	}
	free("after a restart")
	r.detach()
}
