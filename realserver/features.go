package realserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// A Feature is something that fnatrs does if the kernel can.
type Feature struct {
	Name    string `json:"name"`
	What    string `json:"what"`
	Kernel  string `json:"kernel"`            // the Linux that has it
	Missing string `json:"missing,omitempty"` // why this one has not
	Dearer  string `json:"dearer,omitempty"`  // why this one has it only in the way that costs more
}

// A feature is a Feature and the programs it takes. They are attached in this
// order: when the last learns a client, all others are there to tell it.
type feature struct {
	Feature
	required bool
	hooks    []hook
	dearer   []hook // the same at more cost, for a kernel that lacks what these take; without by_cookie
}

// A hook is a place where a program is attached.
type hook struct {
	program, name string
	attach        func(*Options, *ebpf.Program) ([]io.Closer, error)
}

// features are the features that the options ask for.
func (o *Options) features() []feature {
	notices := feature{Feature: Feature{Name: "notices", What: "notices of UDP flows, by ICMP sockets", Kernel: "5.15"}, hooks: []hook{
		{"fnatrs_icmp", "ICMP sockets", attachICMP},
	}}
	if len(o.Interfaces) > 0 {
		what := "notices of UDP flows, at ingress of " + strings.Join(o.Interfaces, ", ")
		notices = feature{Feature: Feature{Name: "notices", What: what, Kernel: "6.6"}, required: true, hooks: []hook{
			{"fnatrs_ingress", "tcx ingress", attachTCX},
		}}
	}
	accept := []hook{
		{"fnatrs_peer4", "getpeername4", inCgroup(ebpf.AttachCgroupInet4GetPeername)},
		{"fnatrs_peer6", "getpeername6", inCgroup(ebpf.AttachCgroupInet6GetPeername)},
		{"fnatrs_sockopt", "getsockopt", inCgroup(ebpf.AttachCGroupGetsockopt)},
		{"fnatrs_sockops", "sock_ops", inCgroup(ebpf.AttachCGroupSockOps)},
	}
	tcp := feature{
		Feature:  Feature{Name: "tcp", What: "accept, getpeername; getsockopt 1345 and 4096", Kernel: "5.15"},
		required: true, hooks: accept, dearer: accept,
	}
	syn := feature{Feature: Feature{Name: "syn", What: "options of SYNs", Kernel: "5.15"}, hooks: []hook{
		{"fnatrs_request", "tcp_conn_request", attachFunction},
	}, dearer: []hook{
		{"fnatrs_syn", "inet_ingress", inCgroup(ebpf.AttachCGroupInetIngress)},
	}}
	if o.Dearer {
		tcp.hooks, tcp.dearer = tcp.dearer, nil
		syn.hooks, syn.dearer = syn.dearer, nil
	}
	all := []feature{tcp}
	if !o.NoSYN {
		all = append(all, syn)
	}
	if o.NoUDP {
		return append(all, notices)
	}
	udp := feature{Feature: Feature{Name: "udp", What: "recvmsg, sendmsg, connect", Kernel: "5.15"}, hooks: []hook{
		{"fnatrs_recv4", "recvmsg4", inCgroup(ebpf.AttachCGroupUDP4Recvmsg)},
		{"fnatrs_recv6", "recvmsg6", inCgroup(ebpf.AttachCGroupUDP6Recvmsg)},
		{"fnatrs_send4", "sendmsg4", inCgroup(ebpf.AttachCGroupUDP4Sendmsg)},
		{"fnatrs_send6", "sendmsg6", inCgroup(ebpf.AttachCGroupUDP6Sendmsg)},
		{"fnatrs_connect4", "connect4", inCgroup(ebpf.AttachCGroupInet4Connect)},
		{"fnatrs_connect6", "connect6", inCgroup(ebpf.AttachCGroupInet6Connect)},
	}}
	uoa := feature{Feature: Feature{Name: "uoa", What: "getsockopt 2048, on amd64 and arm64", Kernel: "5.15"}, hooks: []hook{
		{"fnatrs_mapping", "getsockopt", inCgroup(ebpf.AttachCGroupGetsockopt)},
	}}
	return append(all, udp, uoa, notices)
}

// inCgroup attaches a program to a hook of the cgroup.
func inCgroup(hook ebpf.AttachType) func(*Options, *ebpf.Program) ([]io.Closer, error) {
	return func(o *Options, prog *ebpf.Program) ([]io.Closer, error) {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: o.Cgroup, Attach: hook, Program: prog})
		if err != nil {
			return nil, fmt.Errorf("cgroup %q: %w", o.Cgroup, err)
		}
		return []io.Closer{l}, nil
	}
}

// attachFunction attaches a program to the kernel's function that it names. That is
// called for all cgroups: the program has to look which it is.
func attachFunction(_ *Options, prog *ebpf.Program) ([]io.Closer, error) {
	l, err := link.AttachTracing(link.TracingOptions{Program: prog})
	if err != nil {
		return nil, err
	}
	return []io.Closer{l}, nil
}

// attachTCX attaches a program to the interfaces.
func attachTCX(o *Options, prog *ebpf.Program) (all []io.Closer, err error) {
	for _, name := range o.Interfaces {
		var l link.Link
		ifi, err := net.InterfaceByName(name)
		if err == nil {
			l, err = link.AttachTCX(link.TCXOptions{Interface: ifi.Index, Program: prog, Attach: ebpf.AttachTCXIngress})
		}
		if err != nil {
			return all, fmt.Errorf("interface %q: %w", name, err)
		}
		all = append(all, l)
	}
	return all, nil
}

// attachICMP makes a program the filter of two raw sockets, one for each IP
// version. It reads what comes to them and lets nothing in: they are never full.
func attachICMP(_ *Options, prog *ebpf.Program) ([]io.Closer, error) {
	v4, err := rawSocket(unix.AF_INET, unix.IPPROTO_ICMP, prog, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, ^(1 << 8)) // all but echo requests
	})
	if err != nil {
		return nil, err
	}
	v6, err := rawSocket(unix.AF_INET6, unix.IPPROTO_ICMPV6, prog, func(fd int) error {
		filter := unix.ICMPv6Filter{Data: [8]uint32{^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(1), ^uint32(0), ^uint32(0), ^uint32(0)}}
		return unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter)
	})
	if errors.Is(err, unix.EAFNOSUPPORT) { // a host without IPv6
		return []io.Closer{v4}, nil
	}
	if err != nil {
		return nil, errors.Join(err, v4.Close())
	}
	return []io.Closer{v4, v6}, nil
}

// icmpFilter is ICMP_FILTER of linux/icmp.h: a set of the types to leave out.
const icmpFilter = 1

func rawSocket(family, protocol int, filter *ebpf.Program, narrow func(fd int) error) (io.Closer, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("raw socket: %w", err)
	}
	s := os.NewFile(uintptr(fd), "icmp")
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, filter.FD()); err != nil {
		return nil, errors.Join(fmt.Errorf("raw socket: filter: %w", err), s.Close())
	}
	if err := narrow(fd); err != nil {
		return nil, errors.Join(fmt.Errorf("raw socket: message types: %w", err), s.Close())
	}
	return s, nil
}
