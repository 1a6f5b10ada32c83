package realserver

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/cgroup"
)

// programs are the loaded BPF programs, and where they are attached. They are
// not pinned: whatever ends the process detaches them, and servers go on with
// LIPs.
type programs struct {
	spec     *ebpf.CollectionSpec
	maps     peerMaps
	loaded   map[string]*ebpf.Program
	features []feature
	attached []Attachment
	closers  []io.Closer // in the order in which they were made

	tcpTimeout, udpTimeout time.Duration
}

// An Attachment is a BPF program at a hook.
type Attachment struct {
	Program string `json:"program"`
	Hook    string `json:"hook"`
	ID      uint32 `json:"id"` // as bpftool prog shows it
}

// load loads the programs, attached to nothing yet. Those of a feature that the
// kernel does not have are left out.
func load(o *Options) (*programs, error) {
	// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK.
	if err := rlimit.RemoveMemlock(); err != nil {
		o.Log.Warn("locked memory limit stays as it is", "error", err)
	}
	spec, err := o.spec()
	if err != nil {
		return nil, fmt.Errorf("bpf programs: %w", err)
	}
	p := &programs{spec: spec, loaded: map[string]*ebpf.Program{}, tcpTimeout: o.TCPTimeout, udpTimeout: o.UDPTimeout}
	if err := p.loadMaps(); err != nil {
		return nil, errors.Join(fmt.Errorf("bpf maps: %w", explain(err)), p.close())
	}
	for _, t := range o.Trust {
		if err := p.maps.Trust.Put(trustKey(t), uint8(1)); err != nil {
			return nil, errors.Join(fmt.Errorf("trusted prefix %s: %w", t, err), p.close())
		}
	}
	for _, f := range o.features() {
		err := p.loadFeature(f)
		if err != nil && f.dearer != nil {
			f, err = p.fallBack(o, f, err)
		}
		if err := p.add(o, f, err); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	return p, nil
}

// add notes a feature, or that the kernel lacks it, which is an error if fnatrs
// cannot do without.
func (p *programs) add(o *Options, f feature, missing error) error {
	if missing != nil && (f.required || errors.Is(missing, unix.EPERM)) {
		return fmt.Errorf("%s: %w", f.Name, explain(missing))
	}
	if missing != nil {
		f.Missing, f.Dearer = missing.Error(), ""
		o.Log.Warn("this kernel lacks a feature", "feature", f.Name, "what", f.What, "needs", f.Kernel, "error", missing)
	}
	p.features = append(p.features, f)
	return nil
}

// spec returns the programs with the options as their constants.
func (o *Options) spec() (*ebpf.CollectionSpec, error) {
	spec, err := loadPeer()
	if err != nil {
		return nil, err
	}
	group, err := cgroup.ID(o.Cgroup)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]any{
		"kinds":           o.kindTable(),
		"cgroup_id":       group,
		"slots":           o.MaxMappings,
		"ttm_length":      o.TTM.Length,
		"tcp_timeout":     o.TCPTimeout.Nanoseconds(),
		"udp_timeout":     o.UDPTimeout.Nanoseconds(),
		"optval_register": optvalRegister[runtime.GOARCH],
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("constant %s: %w", name, err)
		}
	}
	for _, name := range []string{"connections", "noticed", "mappings", "replies", "handshakes"} {
		spec.Maps[name].MaxEntries = o.MaxMappings
	}
	if o.older != nil {
		o.older(spec)
	}
	return spec, nil
}

// optvalRegister is where getsockopt's fourth argument is in struct pt_regs: r10
// of x86-64, x3 of arm64.
var optvalRegister = map[string]uint32{"amd64": 7 * 8, "arm64": 3 * 8}

// loadMaps makes the maps, which all programs share.
func (p *programs) loadMaps() error {
	maps := p.spec.Copy()
	maps.Programs = nil
	if err := maps.LoadAndAssign(&p.maps, nil); err != nil {
		return err
	}
	p.closers = append(p.closers, &p.maps)
	return nil
}

// loadFeature loads the programs of a feature.
func (p *programs) loadFeature(f feature) error {
	own := p.spec.Copy()
	own.Programs = map[string]*ebpf.ProgramSpec{}
	for _, h := range f.hooks {
		own.Programs[h.program] = p.spec.Programs[h.program]
	}
	if err := own.Variables["by_cookie"].Set(f.dearer != nil); err != nil {
		return err
	}
	c, err := ebpf.NewCollectionWithOptions(own, ebpf.CollectionOptions{MapReplacements: p.shared()})
	if err != nil {
		return err
	}
	p.closers = append(p.closers, closerFunc(func() error { c.Close(); return nil }))
	for name, prog := range c.Programs {
		p.loaded[name] = prog
	}
	return nil
}

// fallBack loads a feature's dearer hooks instead, and returns it with those.
func (p *programs) fallBack(o *Options, f feature, why error) (feature, error) {
	f.hooks, f.dearer, f.Dearer = f.dearer, nil, why.Error()
	o.Log.Info("this kernel has a feature only in a way that costs more", "feature", f.Name, "what", f.What, "error", why)
	return f, p.loadFeature(f)
}

// shared returns the maps by the names that they have in the programs.
func (p *programs) shared() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		"answers": p.maps.Answers, "clients": p.maps.Clients, "connections": p.maps.Connections, "counters": p.maps.Counters, "handshakes": p.maps.Handshakes, "heards": p.maps.Heards,
		"links": p.maps.Links, "mappings": p.maps.Mappings, "noticed": p.maps.Noticed, "replies": p.maps.Replies,
		"ports": p.maps.Ports, "trust": p.maps.Trust,
	}
}

// closerFunc is a function as an io.Closer.
type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// explain says what to do where the kernel's error does not.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: run fnatrs as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW and CAP_PERFMON", err)
	}
	return err
}

// trustKey returns the prefix in IPv6 form, IPv4 mapped into it.
func trustKey(p netip.Prefix) peerTrustKey {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return peerTrustKey{Length: uint32(bits), Addr: words(p.Addr())}
}

// attach attaches the programs of all features that are there.
func (p *programs) attach(o *Options) error {
	loaded := p.features
	p.features = nil
	for _, f := range loaded {
		if f.Missing != "" {
			p.features = append(p.features, f)
			continue
		}
		err := p.attachFeature(o, f)
		if err != nil && f.dearer != nil {
			if f, err = p.fallBack(o, f, err); err == nil {
				err = p.attachFeature(o, f)
			}
		}
		if err := p.add(o, f, err); err != nil {
			return err
		}
	}
	return nil
}

// attachFeature attaches all of a feature's programs or none.
func (p *programs) attachFeature(o *Options, f feature) error {
	before := len(p.closers)
	var attached []Attachment
	for _, h := range f.hooks {
		prog := p.loaded[h.program]
		at, err := h.attach(o, prog)
		p.closers = append(p.closers, at...)
		if err != nil {
			err = fmt.Errorf("attach to %s: %w", h.name, err)
			for _, c := range p.closers[before:] {
				err = errors.Join(err, c.Close())
			}
			p.closers = p.closers[:before]
			return err
		}
		info, err := prog.Info()
		if err != nil {
			return fmt.Errorf("bpf program %s: %w", h.program, err)
		}
		id, _ := info.ID()
		attached = append(attached, Attachment{Program: h.program, Hook: h.name, ID: uint32(id)})
	}
	p.attached = append(p.attached, attached...)
	return nil
}

// close detaches and unloads everything, the last first.
func (p *programs) close() error {
	var errs []error
	for i := len(p.closers); i > 0; i-- {
		errs = append(errs, p.closers[i-1].Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	return nil
}

// checkFree is an error if the programs of another fnatrs are in force in the
// cgroup, attached to it or above it. Without CAP_SYS_ADMIN the kernel does
// not tell, and then the lock beside the control socket has to do.
func checkFree(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	defer dir.Close()
	result, err := link.QueryPrograms(link.QueryOptions{
		Target: int(dir.Fd()), Attach: ebpf.AttachCGroupSockOps, QueryFlags: unix.BPF_F_QUERY_EFFECTIVE,
	})
	if err != nil {
		return fmt.Errorf("cgroup %q: programs in force: %w", path, explain(err))
	}
	for _, found := range result.Programs {
		prog, err := ebpf.NewProgramFromID(found.ID)
		if err != nil {
			continue // ended meanwhile, or not for us to see
		}
		info, err := prog.Info()
		prog.Close()
		if err == nil && info.Name == "fnatrs_sockops" {
			return fmt.Errorf("cgroup %q: another fnatrs serves it (BPF program %d): stop that first", path, found.ID)
		}
	}
	return nil
}
