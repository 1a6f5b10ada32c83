package netns

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

// A Shape says how the balancer is wired.
type Shape uint8

// The shapes; the package comment draws them.
const (
	TwoArm Shape = iota // wan0 towards the client, lan0 towards the servers
	OneArm              // eth0 towards everybody
)

func (s Shape) String() string {
	if s == OneArm {
		return "one-arm"
	}
	return "two-arm"
}

// A Topology is the order for a Rig. Its zero value is two arms, no server,
// one queue and Ethernet's MTU.
type Topology struct {
	Shape   Shape
	Servers int // real servers, at most 99
	Queues  int // RX and TX queues of every veth end; 0 is 1. A host on the bridge has one TX queue.
	MTU     int // of every interface; 0 is 1500
	// MaxQueues is how many Host.SetQueues can give an end; less than Queues is as
	// many as those.
	MaxQueues int
}

// A Rig is a set of namespaces and the wires between them. Its fields are not
// changed after New, except by AddHost. Methods may be called from any goroutine.
type Rig struct {
	Topology
	Client   *Host
	Balancer *Host
	Switch   *Host // holds the bridge br0
	Servers  []*Host

	name  string // of every namespace: name-role
	mu    sync.Mutex
	hosts []*Host
	once  sync.Once
}

// TB is what ForTest and RequireRoot use of a testing.TB.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// ForTest returns a Rig that lives as long as the test. It skips, or fails, as
// RequireRoot does.
func ForTest(t TB, topology Topology) *Rig {
	t.Helper()
	RequireRoot(t)
	r, err := New(topology)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("%v", err)
		}
	})
	return r
}

var rigs atomic.Uint32 // numbers the rigs of this process

// New builds a Rig, which the caller closes. What killed processes left of
// theirs is removed first. An error leaves nothing behind.
func New(topology Topology) (*Rig, error) {
	if topology.Servers < 0 || topology.Servers > 99 {
		return nil, fmt.Errorf("rig: %d servers: want 0 to 99", topology.Servers)
	}
	r, err := Bare(topology)
	if err != nil {
		return nil, err
	}
	if err := r.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("rig %s: %w", r.name, err), r.Close())
	}
	return r, nil
}

// Bare is New without hosts: AddHost makes them, and Connect wires them. Of the
// topology, Queues and MTU count.
func Bare(topology Topology) (*Rig, error) {
	topology.Queues = max(topology.Queues, 1)
	topology.MTU = cmp.Or(topology.MTU, 1500)
	topology.MaxQueues = max(topology.MaxQueues, topology.Queues)
	if err := sweep(); err != nil {
		return nil, err
	}
	return &Rig{Topology: topology, name: fmt.Sprintf("%s%d-%d", prefix, os.Getpid(), rigs.Add(1))}, nil
}

func (r *Rig) build() error {
	if err := r.buildHosts(); err != nil {
		return err
	}
	if err := r.Switch.addBridge("br0", r.MTU); err != nil {
		return err
	}
	if err := r.wireBalancer(); err != nil {
		return err
	}
	for i, s := range r.Servers {
		port := fmt.Sprintf("server%d", i)
		if err := r.plug(s, "eth0", port); err != nil {
			return err
		}
		if err := s.addAddresses("eth0", ServerPrefix(i), ServerPrefix6(i)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rig) buildHosts() error {
	for _, role := range []struct {
		host **Host
		name string
	}{{&r.Client, "client"}, {&r.Balancer, "lb"}, {&r.Switch, "switch"}} {
		h, err := r.AddHost(role.name)
		if err != nil {
			return err
		}
		*role.host = h
	}
	for i := range r.Topology.Servers {
		h, err := r.AddHost(fmt.Sprintf("server%d", i))
		if err != nil {
			return err
		}
		r.Servers = append(r.Servers, h)
	}
	return nil
}

// wireBalancer connects client, balancer and switch as the shape says.
func (r *Rig) wireBalancer() error {
	if r.Shape == OneArm {
		if err := errors.Join(
			r.plug(r.Client, "eth0", "client"),
			r.plug(r.Balancer, "eth0", "lb"),
		); err != nil {
			return err
		}
	} else if err := errors.Join(
		r.Connect(r.Client, "eth0", r.Balancer, "wan0"),
		r.plug(r.Balancer, "lan0", "lb"),
	); err != nil {
		return err
	}
	return errors.Join(
		r.Client.addAddresses("eth0", ClientPrefix, ClientPrefix6),
		r.Balancer.addAddresses(r.ClientSide(), BalancerPrefix, BalancerPrefix6),
		r.Balancer.addAddresses(r.ServerSide(), BalancerLANPrefix, BalancerLANPrefix6),
	)
}

// ClientSide returns the name of the balancer's interface towards the client.
func (r *Rig) ClientSide() string {
	if r.Shape == OneArm {
		return "eth0"
	}
	return "wan0"
}

// ServerSide returns the name of the balancer's interface towards the servers.
func (r *Rig) ServerSide() string {
	if r.Shape == OneArm {
		return "eth0"
	}
	return "lan0"
}

// Interfaces returns the names of the balancer's interfaces.
func (r *Rig) Interfaces() []string {
	return slices.Compact([]string{r.ClientSide(), r.ServerSide()})
}

// AddHost makes one more namespace, with no interface but lo. Connect wires it.
func (r *Rig) AddHost(role string) (*Host, error) {
	h, err := newHost(role, r.name+"-"+role)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hosts = append(r.hosts, h)
	return h, nil
}

// Close ends every program that runs in the rig and removes every namespace. It
// may be called again.
func (r *Rig) Close() error {
	var errs []error
	r.once.Do(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, h := range r.hosts {
			errs = append(errs, h.close())
		}
	})
	return errors.Join(errs...)
}

// addAddresses puts a on the interface.
func (h *Host) addAddresses(ifname string, a ...netip.Prefix) error {
	for _, p := range a {
		if err := h.AddAddress(ifname, p); err != nil {
			return err
		}
	}
	return nil
}
