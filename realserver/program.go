package realserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// programs are the loaded BPF programs, and where they are attached. They are
// not pinned: whatever ends the process detaches them, and servers go on with
// LIPs.
type programs struct {
	objs     peerObjects
	attached []Attachment
	links    []link.Link
}

// An Attachment is a BPF program at a hook of the cgroup.
type Attachment struct {
	Program string `json:"program"`
	Hook    string `json:"hook"`
	ID      uint32 `json:"id"` // as bpftool prog shows it
}

// load loads the programs, attached to nothing yet.
func load(trust []netip.Prefix, kinds []Kind, log *slog.Logger) (*programs, error) {
	// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK.
	if err := rlimit.RemoveMemlock(); err != nil {
		log.Warn("locked memory limit stays as it is", "error", err)
	}
	spec, err := loadPeer()
	if err != nil {
		return nil, fmt.Errorf("bpf programs: %w", err)
	}
	var table [256]uint8
	for _, k := range kinds {
		table[k] = forms[k]
	}
	if err := spec.Variables["kinds"].Set(table); err != nil {
		return nil, fmt.Errorf("bpf programs: option kinds: %w", err)
	}
	p := &programs{}
	if err := spec.LoadAndAssign(&p.objs, nil); err != nil {
		return nil, fmt.Errorf("bpf programs: load: %w", explain(err))
	}
	for _, t := range trust {
		if err := p.objs.Trust.Put(trustKey(t), uint8(1)); err != nil {
			return nil, errors.Join(fmt.Errorf("trusted prefix %s: %w", t, err), p.close())
		}
	}
	return p, nil
}

// explain says what to do where the kernel's error does not.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: run fnatrs as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON", err)
	}
	return err
}

// trustKey returns the prefix in IPv6 form, IPv4 mapped into it.
func trustKey(p netip.Prefix) peerTrustKey {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return peerTrustKey{Length: uint32(bits), Addr: p.Addr().As16()}
}

// attach attaches the programs to a cgroup. The one that learns clients comes
// last: when it learns the first, all others are there to tell it.
func (p *programs) attach(cgroup string) error {
	for _, a := range []struct {
		name   string
		attach ebpf.AttachType
		hook   string
		prog   *ebpf.Program
	}{
		{"fnatrs_peer4", ebpf.AttachCgroupInet4GetPeername, "getpeername4", p.objs.FnatrsPeer4},
		{"fnatrs_peer6", ebpf.AttachCgroupInet6GetPeername, "getpeername6", p.objs.FnatrsPeer6},
		{"fnatrs_sockopt", ebpf.AttachCGroupGetsockopt, "getsockopt", p.objs.FnatrsSockopt},
		{"fnatrs_sockops", ebpf.AttachCGroupSockOps, "sock_ops", p.objs.FnatrsSockops},
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: a.attach, Program: a.prog})
		if err != nil {
			return fmt.Errorf("cgroup %q: attach to %s: %w", cgroup, a.hook, explain(err))
		}
		p.links = append(p.links, l)
		info, err := a.prog.Info()
		if err != nil {
			return fmt.Errorf("bpf program %s: %w", a.name, err)
		}
		id, _ := info.ID()
		p.attached = append(p.attached, Attachment{Program: a.name, Hook: a.hook, ID: uint32(id)})
	}
	return nil
}

// close detaches and unloads everything.
func (p *programs) close() error {
	var errs []error
	for _, l := range p.links {
		errs = append(errs, l.Close())
	}
	errs = append(errs, p.objs.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	return nil
}

// checkFree is an error if the programs of another fnatrs are in force in the
// cgroup, attached to it or above it. Without CAP_SYS_ADMIN the kernel does
// not tell, and then the lock beside the control socket has to do.
func checkFree(cgroup string) error {
	dir, err := os.Open(cgroup)
	if err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	defer dir.Close()
	result, err := link.QueryPrograms(link.QueryOptions{
		Target: int(dir.Fd()), Attach: ebpf.AttachCGroupSockOps, QueryFlags: unix.BPF_F_QUERY_EFFECTIVE,
	})
	if err != nil {
		return fmt.Errorf("cgroup %q: programs in force: %w", cgroup, explain(err))
	}
	for _, found := range result.Programs {
		prog, err := ebpf.NewProgramFromID(found.ID)
		if err != nil {
			continue // ended meanwhile, or not for us to see
		}
		info, err := prog.Info()
		prog.Close()
		if err == nil && info.Name == "fnatrs_sockops" {
			return fmt.Errorf("cgroup %q: another fnatrs serves it (BPF program %d): stop that first", cgroup, found.ID)
		}
	}
	return nil
}
