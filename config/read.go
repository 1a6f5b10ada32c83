package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/fnatd/fnatd/lb/sched"
)

// read fills c from the values of a document, by way of its tables.
func (c *Config) read(r *report, values map[string]any, at *place) {
	root := newTable(r, "", "", element{values, at}, new(Where))
	c.Daemon = Daemon{Control: "/run/fnatd/fnatd.sock", Metrics: "127.0.0.1:9632", State: "/run/fnatd/state"}
	c.Dataplane = Dataplane{Mode: Auto, MaxConnections: 1_000_000, ManageAddresses: true, Orphaned: OrphanedDrop, OrphanedAfter: defaultOrphanedAfter}
	if t := root.sub("daemon", &c.Daemon.Where); t != nil {
		c.Daemon.read(t)
	}
	if t := root.sub("dataplane", &c.Dataplane.Where); t != nil {
		c.Dataplane.read(t)
	} else if !root.where.has("dataplane") {
		root.fail("dataplane", `missing (add [dataplane] with interfaces = ["eth0"])`)
	}
	pools := root.subs("local_pool")
	c.Pools = zeros[LocalPool](len(pools))
	for i, e := range pools {
		p := &c.Pools[i]
		p.label = label("local_pool", e)
		p.read(newTable(r, "local_pool", p.label, e, &p.Where))
	}
	services := root.subs("service")
	c.Services = zeros[Service](len(services))
	for i, e := range services {
		c.Services[i].readFrom(r, e)
	}
	root.finish()
	c.settle()
}

// label returns what messages about one of several tables begin with: its name,
// or its line if it has none.
func label(kind string, e element) string {
	if name, ok := e.values["name"].(string); ok && name != "" {
		return fmt.Sprintf("%s %q: ", kind, name)
	}
	return fmt.Sprintf("%s in line %d: ", kind, e.place.line)
}

// settle sets what depends on other tables: where there is only one interface or
// pool, a service need not name it.
func (c *Config) settle() {
	d := &c.Dataplane
	if !d.has("frames") {
		d.Frames = max(8192, 4096*len(d.Interfaces))
	}
	for i := range c.Pools {
		if p := &c.Pools[i]; !p.has("interface") && len(d.Interfaces) == 1 {
			p.Interface = d.Interfaces[0]
		}
	}
	for i := range c.Services {
		s := &c.Services[i]
		if !s.has("interface") && len(d.Interfaces) == 1 {
			s.Interface = d.Interfaces[0]
		}
		if !s.has("local_pool") && len(c.Pools) == 1 {
			s.Pool = c.Pools[0].Name
		}
	}
}

func (d *Daemon) read(t *table) {
	t.text("control", func(s string) error { d.Control = s; return checkControl(s) })
	t.text("control_group", func(s string) error { d.Group = s; return checkName(s) })
	t.text("metrics", func(s string) error { d.Metrics = s; return checkMetrics(s) })
	d.State = filepath.Join(filepath.Dir(d.Control), "state")
	t.text("state", func(s string) error { d.State = s; return checkState(s) })
	t.finish()
}

func (d *Dataplane) read(t *table) {
	d.readNames(t, "interfaces", `of names, as ["eth0"]`, &d.Interfaces)
	d.readNames(t, "vlans", `of names, as ["eth0.100"]`, &d.VLANs)
	if t.require("interfaces", `["eth0"]`); len(d.Interfaces) == 0 {
		t.fail("interfaces", `empty (want at least one, as ["eth0"])`)
	}
	d.readQueues(t)
	oneOf(t, "mode", &d.Mode, Auto, ZeroCopy, Copy, Generic)
	integer(t, "max_connections", &d.MaxConnections, 64, 1<<28)
	t.boolean("manage_addresses", &d.ManageAddresses)
	t.boolean("busy_poll", &d.BusyPoll)
	t.boolean("reflect_client_mac", &d.ReflectClientMAC)
	integer(t, "frames", &d.Frames, 4096*max(1, len(d.Interfaces)), 1<<20)
	d.readCPUs(t)
	d.readSecret(t)
	d.readOrphaned(t)
	for _, e := range t.subs("interface") {
		d.Settings = append(d.Settings, InterfaceSettings{Checksum: Incremental})
		s := &d.Settings[len(d.Settings)-1]
		s.read(newTable(t.report, "dataplane.interface", t.context+"interface: ", e, &s.Where))
	}
	t.finish()
}

func (s *InterfaceSettings) read(t *table) {
	t.text("name", func(name string) error { s.Name = name; return nil })
	t.require("name", `"eth0"`)
	oneOf(t, "checksum", &s.Checksum, Incremental, Full)
	t.finish()
}

// readNames reads a list of interfaces, of which none may be named twice.
func (d *Dataplane) readNames(t *table, key, want string, to *[]string) {
	t.list(key, want, func(v any, _ int, fail func(string)) {
		name, _ := v.(string)
		if err := checkInterface(name); err != nil {
			fail(err.Error())
		} else if slices.Contains(d.Interfaces, name) || slices.Contains(d.VLANs, name) {
			fail("named twice (remove one)")
		}
		*to = append(*to, name)
	})
}

// readQueues reads queues: "auto" or a number.
func (d *Dataplane) readQueues(t *table) {
	if v, ok := t.value("queues"); !ok || v == "auto" {
		return
	}
	if n, ok := t.values["queues"].(int64); ok && n >= 1 && n <= 1024 {
		d.Queues = int(n)
		return
	}
	t.fail("queues", `want "auto" or a number from 1 to 1024`)
}

func (d *Dataplane) readCPUs(t *table) {
	t.list("cpus", "of numbers, as [2, 3]", func(v any, _ int, fail func(string)) {
		n, ok := v.(int64)
		if !ok || n < 0 || n > 4095 {
			fail("want the number of a CPU, from 0")
		} else if slices.Contains(d.CPUs, int(n)) {
			fail("named twice (remove one)")
		}
		d.CPUs = append(d.CPUs, int(n))
	})
	if d.Queues > 0 && len(d.CPUs) > 0 && len(d.CPUs) != d.Queues {
		t.fail("cpus", fmt.Sprintf("%d for %d queues (want one CPU for each)", len(d.CPUs), d.Queues))
	}
}

func (p *LocalPool) read(t *table) {
	t.name("name", &p.Name)
	t.require("name", `"lan"`)
	t.text("interface", func(s string) error { p.Interface = s; return nil })
	t.list("addresses", `of addresses, as ["10.0.1.10-10.0.1.13"]`, func(v any, line int, fail func(string)) {
		text, _ := v.(string)
		first, last, err := parseRange(text)
		if err != nil {
			fail(err.Error())
			return
		}
		if !p.add(first, last, line) {
			fail(fmt.Sprintf("the pool has more than %d addresses (use a smaller range)", maxLocals))
		}
	})
	if t.require("addresses", `["10.0.1.10-10.0.1.13"]`); len(p.Addresses) == 0 {
		t.fail("addresses", `empty (want at least one, as ["10.0.1.10"])`)
	}
	t.text("ports", func(s string) (err error) { p.Ports, err = parsePorts(s); return err })
	t.require("ports", `"1024-65535"`)
	t.finish()
}

// add writes a range out; it reports whether the pool has room for it.
func (p *LocalPool) add(first, last netip.Addr, line int) bool {
	for lip := first; lip.IsValid() && !last.Less(lip); lip = lip.Next() {
		if len(p.Addresses) == maxLocals {
			return false
		}
		p.Addresses = append(p.Addresses, lip)
		p.lines = append(p.lines, line)
	}
	return true
}

// readFrom reads s from a table of the document.
func (s *Service) readFrom(r *report, e element) {
	s.label = label("service", e)
	s.read(newTable(r, "service", s.label, e, &s.Where))
}

func (s *Service) read(t *table) {
	s.defaults()
	t.name("name", &s.Name)
	t.require("name", `"web"`)
	oneOf(t, "protocol", &s.Protocol, TCP, UDP)
	t.require("protocol", `"tcp" or "udp"`)
	t.text("address", func(text string) (err error) { s.Address, err = parseEndpoint(text); return err })
	t.require("address", `"203.0.113.10:80"`)
	t.text("interface", func(name string) error { s.Interface = name; return nil })
	t.str("local_pool", &s.Pool)

	oneOf(t, "scheduler", &s.Scheduler, sched.Names()...)
	t.boolean("sh_port", &s.SHPort)
	t.boolean("sh_fallback", &s.SHFallback)
	t.boolean("mh_port", &s.MHPort)
	t.boolean("mh_fallback", &s.MHFallback)
	s.readClientAddress(t)
	oneOf(t, "timestamps", &s.Timestamps, Translate, Strip)
	s.readPersistence(t)
	t.duration("drain", &s.Drain, time.Second, true)
	s.readSYNProxy(t)
	readChecks(t, &s.Checks)
	s.Failover.read(t)

	if sub := t.sub("timeout", new(Where)); sub != nil {
		s.Timeouts.read(sub, s.Protocol)
	}
	servers, context := t.subs("real_server"), t.context+"real_server: "
	s.Servers = zeros[RealServer](len(servers))
	for i, e := range servers {
		r := &s.Servers[i]
		r.Checks = s.Checks
		r.NotifyUp, r.NotifyDown = s.Failover.Scripts.NotifyUp, s.Failover.Scripts.NotifyDown
		r.read(newTable(t.report, "service.real_server", context, e, &r.Where))
	}
	t.finish()
}

// defaults sets what a service has that says nothing of it.
func (s *Service) defaults() {
	s.Scheduler = "wlc"
	s.TOAKind6, s.TTMLength, s.NoticeLength = 254, 22, 42
	s.Timestamps, s.Drain = Translate, DefaultDrain
	s.SYNProxy, s.Failover = defaultSYNProxy(), DefaultFailover()
}

// clientAddresses returns the ways in which servers may be told the client, the
// default first.
func (s *Service) clientAddresses() []ClientAddress {
	switch s.Protocol {
	case TCP:
		return []ClientAddress{TOA, TTM, NoAddress}
	case UDP:
		return []ClientAddress{ICMPEcho, NoAddress}
	}
	return []ClientAddress{TOA, TTM, NoAddress, ICMPEcho} // unknown which ones would be right
}

func (s *Service) readClientAddress(t *table) {
	choices := s.clientAddresses()
	s.ClientAddress = choices[0]
	oneOf(t, "client_address", &s.ClientAddress, choices...)
	integer(t, "toa_kind6", &s.TOAKind6, 253, 254)
	t.boolean("toa_on_syn", &s.TOAOnSYN)
	integer(t, "ttm_kind", &s.TTMKind, 1, 255)
	integer(t, "ttm_length", &s.TTMLength, 10, 24)
	integer(t, "notice_length", &s.NoticeLength, 42, 44)
	if s.NoticeLength == 43 {
		t.fail("notice_length", "want 42, which ip_vs_ca has read since 2017, or 44, which it read before")
	}
}

func (s *Service) readPersistence(t *table) {
	t.duration("persistence", &s.Persistence, time.Second, true)
	const key = "persistence_granularity"
	bits := s.Address.Addr().BitLen() // 0 if the address is wrong
	if _, ok := t.values[key].(string); ok && bits <= 32 {
		t.text(key, func(text string) (err error) { s.PersistenceGranularity, err = parseMask(text); return err })
		return
	}
	if bits == 0 {
		bits = 128
	}
	integer(t, key, &s.PersistenceGranularity, 1, bits)
}

func (to *Timeouts) read(t *table, p Protocol) {
	read := func(of Protocol, key string, d *time.Duration) {
		t.duration(key, d, time.Second, false)
		if t.where.has(key) && p != "" && p != of {
			t.fail(key, fmt.Sprintf("has no effect on a %s service (remove it)", p))
		}
	}
	read(TCP, "established", &to.Established)
	read(TCP, "syn_sent", &to.SynSent)
	read(TCP, "syn_received", &to.SynReceived)
	read(TCP, "fin_wait", &to.FinWait)
	read(TCP, "time_wait", &to.TimeWait)
	read(TCP, "close", &to.Close)
	read(TCP, "close_wait", &to.CloseWait)
	read(TCP, "last_ack", &to.LastAck)
	read(UDP, "udp", &to.UDP)
	read(UDP, "udp_one_way", &to.UDPOneWay)
	t.finish()
}

// lowerAbove says what is wrong where the lower threshold is above the upper one.
func (r *RealServer) lowerAbove() string {
	return fmt.Sprintf("above upper_threshold %d (want it lower)", r.UpperThreshold)
}

func (r *RealServer) read(t *table) {
	r.Weight = 1
	t.text("address", func(s string) (err error) { r.Address, err = parseEndpoint(s); return err })
	t.require("address", `"10.0.2.11:8080"`)
	integer(t, "weight", &r.Weight, 0, maxWeight)
	integer(t, "upper_threshold", &r.UpperThreshold, 0, maxThreshold)
	integer(t, "lower_threshold", &r.LowerThreshold, 0, maxThreshold)
	if r.LowerThreshold > r.UpperThreshold {
		t.fail("lower_threshold", r.lowerAbove())
	}
	if t.where.has("health") {
		readChecks(t, &r.Checks)
	} else {
		t.known = append(t.known, "health")
	}
	t.command("notify_up", &r.NotifyUp)
	t.command("notify_down", &r.NotifyDown)
	t.finish()
}
