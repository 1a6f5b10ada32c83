package daemon

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/lb"
)

// A family is a metric without its labels' values.
type family int

const (
	buildInfo family = iota
	startTime
	configLoaded
	configReloadOK
	tableCapacity
	tableConnections
	tableHalfOpen
	tableTemplates
	tableBytes
	stateBegan
	stateAdoptions
	stateKept
	stateLost
	stateNotes
	serviceConnections
	servicePackets
	serviceBytes
	realWeight
	realOverloaded
	realCurrent
	realConnections
	realPackets
	realBytes
	realSigns
	realUp
	realSince
	realFlaps
	checks
	checkSeconds
	checkPassing
	bfdDowns
	quorumMet
	optionsInserted
	optionsNotInserted
	optionsStripped
	notices
	localInUse
	localFree
	localConflicts
	guardOn
	guardFilters
	guardEvents
	drops
	events
	interfaceInfo
	workerPackets
	workerBytes
	workerBatch
	workerIdle
	workerFrames
	ringEvents
	numFamilies
)

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// families has one entry for each family, in its place.
var families = [numFamilies]struct {
	kind prometheus.ValueType // of workerBatch: not used, it is a histogram
	desc *prometheus.Desc
}{
	buildInfo:      {gauge, desc("build_info", "Always 1.", "version")},
	startTime:      {gauge, desc("start_time_seconds", "When fnatd started, in seconds since 1970.")},
	configLoaded:   {gauge, desc("config_loaded_time_seconds", "When the configuration in use was read, in seconds since 1970.")},
	configReloadOK: {gauge, desc("config_last_reload_successful", "0 if the last reload was refused, else 1.")},

	tableCapacity:    {gauge, desc("table_capacity", "Connections that the table can hold.")},
	tableConnections: {gauge, desc("table_connections", "Connections in the table, templates included.")},
	tableHalfOpen:    {gauge, desc("table_half_open", "Connections in the table that are not established yet.")},
	tableTemplates:   {gauge, desc("table_templates", "Persistence templates in the table.")},
	tableBytes:       {gauge, desc("table_bytes", "Memory of the table, fixed at the start.")},

	stateBegan:     {gauge, desc("state_began_time_seconds", "When the state that outlives fnatd was made, in seconds since 1970.")},
	stateAdoptions: {counter, desc("state_adoptions_total", "Times that a fnatd went on with the state of an earlier one.")},
	stateKept:      {gauge, desc("state_connections_kept", "Connections of an earlier fnatd that this one went on with at its start.")},
	stateLost:      {gauge, desc("state_connections_lost", "Connections of an earlier fnatd that this one could not keep at its start.", "reason")},
	stateNotes:     {gauge, desc("state_notes_time_seconds", "When health, drains and counters were last written to the state, in seconds since 1970; 0 if never.")},

	serviceConnections: {counter, desc("service_connections_total", "Connections made for a service.", "service")},
	servicePackets:     {counter, desc("service_packets_total", "Packets forwarded for a service; in is from the client.", "service", "direction")},
	serviceBytes:       {counter, desc("service_bytes_total", "Bytes of IP datagrams forwarded for a service.", "service", "direction")},

	realWeight:      {gauge, desc("real_server_weight", "Weight of a real server; 0 is draining.", "service", "real")},
	realOverloaded:  {gauge, desc("real_server_overloaded", "1 while a real server is kept out by its thresholds.", "service", "real")},
	realCurrent:     {gauge, desc("real_server_connections", "Connections of a real server now, active or inactive.", "service", "real", "state")},
	realConnections: {counter, desc("real_server_connections_total", "Connections made to a real server.", "service", "real")},
	realPackets:     {counter, desc("real_server_packets_total", "Packets forwarded for a real server; in is from the client.", "service", "real", "direction")},
	realBytes:       {counter, desc("real_server_bytes_total", "Bytes of IP datagrams forwarded for a real server.", "service", "real", "direction")},
	realSigns:       {counter, desc("real_server_signs_total", "Signs in the traffic that a real server is down: connections refused, SYNs left unanswered.", "service", "real", "sign")},
	realUp:          {gauge, desc("real_server_up", "1 if a real server passes its checks, or has none.", "service", "real")},
	realSince:       {gauge, desc("real_server_since_time_seconds", "When a real server last came up or went down, in seconds since 1970; 0 if it never has.", "service", "real")},
	realFlaps:       {gauge, desc("real_server_flaps", "Times that a real server went down soon after it had come up.", "service", "real")},

	checks:       {counter, desc("checks_total", "Health checks made of a real server; one that was tried again counts once.", "service", "real", "check", "result")},
	checkSeconds: {gauge, desc("check_duration_seconds", "How long the last attempt at a check took.", "service", "real", "check")},
	checkPassing: {gauge, desc("check_passing", "1 while a real server passes a check.", "service", "real", "check")},
	bfdDowns:     {counter, desc("bfd_session_downs_total", "Times that the BFD session of a check went down.", "service", "real", "check")},
	quorumMet:    {gauge, desc("service_quorum", "1 while enough of a service's real servers are up.", "service")},

	optionsInserted:    {counter, desc("client_address_inserted_total", "Segments that carried a client-address option to a real server.", "service")},
	optionsNotInserted: {counter, desc("client_address_not_inserted_total", "Segments that should have carried one and were forwarded without.", "service", "cause")},
	optionsStripped:    {counter, desc("client_address_stripped_total", "Client-address options that clients had forged.", "service")},
	notices:            {counter, desc("notices_total", "UDP notices sent, acknowledged, resent and given up.", "service", "event")},

	localInUse:     {gauge, desc("local_ports_in_use", "Ports of a local address that are in use towards a real server.", "pool", "address")},
	localFree:      {gauge, desc("local_ports_free", "Ports of a local address that are in use towards none.", "pool", "address")},
	localConflicts: {counter, desc("local_port_conflicts_total", "Times a port was tried that was in use towards the same real server.", "pool", "address")},

	guardFilters: {gauge, desc("synproxy_bad_acks_in_xdp", "1 while a service's segments of no connection, without a good cookie, are dropped by the XDP program.", "service")},
	guardOn:      {gauge, desc("synproxy_on", "1 while a service's SYNs are answered by cookies.", "service", "mode")},
	guardEvents:  {counter, desc("synproxy_events_total", "What SYNPROXY has done for a service.", "service", "event")},

	drops:  {counter, desc("drops_total", "Packets that were not forwarded.", "reason")},
	events: {counter, desc("events_total", "What happened to connections and their packets.", "event")},

	interfaceInfo: {gauge, desc("interface_info", "Always 1.", "interface", "mode")},
	workerPackets: {counter, desc("worker_packets_total", "Packets that a worker received and sent.", "worker", "direction")},
	workerBytes:   {counter, desc("worker_bytes_total", "Bytes of frames that a worker received and sent.", "worker", "direction")},
	workerBatch:   {gauge, desc("worker_batch_size", "Frames in a batch.", "worker")},
	workerIdle:    {counter, desc("worker_idle_seconds_total", "Time that a worker waited for frames.", "worker")},
	workerFrames:  {gauge, desc("worker_frames", "Where a worker's frames are.", "worker", "place")},
	ringEvents:    {counter, desc("ring_events_total", "What the kernel counts on an AF_XDP socket.", "interface", "queue", "event")},
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("fnatd_"+name, help, labels, nil)
}

// MetricsHandler returns the handler of the metrics endpoint over b: /metrics,
// with the Go runtime's and the process's own figures, and nothing else.
func MetricsHandler(b ctl.Backend) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(NewCollector(b), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return mux
}

// NewCollector returns a collector that asks b at each scrape, so that metrics
// and fnatctl cannot disagree.
func NewCollector(b ctl.Backend) prometheus.Collector { return collector{b} }

type collector struct{ b ctl.Backend }

// Describe implements prometheus.Collector.
func (collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range families {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	s := c.b.Stats()
	m := metrics(out)
	m.program(&s)
	status := c.b.Status()
	m.state(&status)
	for _, service := range c.b.Services() {
		m.service(&service)
	}
	for _, h := range c.b.Health() {
		m.health(&h)
	}
	for _, l := range c.b.Locals() {
		m.put(localInUse, float64(l.PortsInUse), l.Pool, l.Address.String())
		m.put(localFree, float64(l.PortsFree), l.Pool, l.Address.String())
		m.put(localConflicts, float64(l.Conflicts), l.Pool, l.Address.String())
	}
	for _, d := range c.b.Drops() {
		m.put(drops, float64(d.Count), d.Reason)
	}
	for _, g := range s.Guards {
		m.put(guardOn, truth(g.On), g.Service, g.Mode)
		m.put(guardFilters, truth(g.BadACKs == lb.XDP.String()), g.Service)
		for _, e := range g.Events {
			m.put(guardEvents, float64(e.Count), g.Service, e.Name)
		}
	}
	for _, i := range s.Interfaces {
		m.put(interfaceInfo, 1, i.Name, i.Mode)
	}
	for _, w := range s.Workers {
		m.worker(&w)
	}
}

// metrics is where the metrics of one scrape go.
type metrics chan<- prometheus.Metric

func (m metrics) put(f family, value float64, labels ...string) {
	m <- prometheus.MustNewConstMetric(families[f].desc, families[f].kind, value, labels...)
}

// twoWays puts a counter of each direction; its name is the last label.
func (m metrics) twoWays(f family, in, out uint64, labels ...string) {
	n := len(labels)
	m.put(f, float64(in), append(labels[:n:n], "in")...)
	m.put(f, float64(out), append(labels[:n:n], "out")...)
}

func (m metrics) program(s *ctl.Stats) {
	m.put(buildInfo, 1, s.Version)
	m.put(startTime, unixSeconds(s.Started))
	m.put(configLoaded, unixSeconds(s.ConfigLoaded))
	m.put(configReloadOK, truth(s.ReloadError == ""))
	m.put(tableCapacity, float64(s.Table.Capacity))
	m.put(tableConnections, float64(s.Table.Connections))
	m.put(tableHalfOpen, float64(s.Table.HalfOpen))
	m.put(tableTemplates, float64(s.Table.Templates))
	m.put(tableBytes, float64(s.Table.Bytes))
	for _, e := range s.Events {
		m.put(events, float64(e.Count), e.Name)
	}
}

func (m metrics) state(s *ctl.Status) {
	m.put(stateBegan, unixSeconds(s.State.Began))
	m.put(stateAdoptions, float64(s.State.Adoptions))
	m.put(stateKept, float64(s.Start.Kept))
	for _, l := range s.Start.Lost {
		m.put(stateLost, float64(l.Count), l.Reason)
	}
	m.put(stateNotes, unixSeconds(s.Notes.Written))
}

func (m metrics) service(s *ctl.Service) {
	t, c := &s.Traffic, &s.ClientAddresses
	m.put(serviceConnections, float64(t.Connections), s.Name)
	m.twoWays(servicePackets, t.InPackets, t.OutPackets, s.Name)
	m.twoWays(serviceBytes, t.InBytes, t.OutBytes, s.Name)
	m.put(optionsInserted, float64(c.Inserted), s.Name)
	m.put(optionsNotInserted, float64(c.NotInserted.NoRoom), s.Name, "no_room")
	m.put(optionsNotInserted, float64(c.NotInserted.OverMTU), s.Name, "over_mtu")
	m.put(optionsStripped, float64(c.Stripped), s.Name)
	m.put(notices, float64(c.Notices.Sent), s.Name, "sent")
	m.put(notices, float64(c.Notices.Acknowledged), s.Name, "acknowledged")
	m.put(notices, float64(c.Notices.Resent), s.Name, "resent")
	m.put(notices, float64(c.Notices.GivenUp), s.Name, "given_up")
	for _, r := range s.Servers {
		m.server(s.Name, &r)
	}
}

func (m metrics) server(service string, r *ctl.Server) {
	real, t := r.Real.String(), &r.Traffic
	m.put(realWeight, float64(r.Weight), service, real)
	m.put(realOverloaded, truth(r.Overloaded), service, real)
	m.put(realCurrent, float64(r.Active), service, real, "active")
	m.put(realCurrent, float64(r.Inactive), service, real, "inactive")
	m.put(realConnections, float64(t.Connections), service, real)
	m.twoWays(realPackets, t.InPackets, t.OutPackets, service, real)
	m.twoWays(realBytes, t.InBytes, t.OutBytes, service, real)
	m.put(realSigns, float64(t.Refused), service, real, "refused")
	m.put(realSigns, float64(t.Unanswered), service, real, "unanswered")
}

func (m metrics) health(s *ctl.ServiceHealth) {
	m.put(quorumMet, truth(s.HasQuorum), s.Name)
	for _, r := range s.Servers {
		real := r.Real.String()
		m.put(realUp, truth(r.State != ctl.HealthDown), s.Name, real)
		m.put(realFlaps, float64(r.Flaps), s.Name, real)
		m.put(realSince, unixSeconds(r.Since), s.Name, real)
		seen := map[string]int{}
		for _, c := range r.Checks {
			name := c.Name
			if seen[name]++; seen[name] > 1 {
				name += " #" + strconv.Itoa(seen[c.Name])
			}
			m.put(checks, float64(c.Passed), s.Name, real, name, "passed")
			m.put(checks, float64(c.Failed), s.Name, real, name, "failed")
			m.put(checkSeconds, c.TookSeconds, s.Name, real, name)
			m.put(checkPassing, truth(c.Passing), s.Name, real, name)
			if c.BFD != nil {
				m.put(bfdDowns, float64(c.BFD.Downs), s.Name, real, name)
			}
		}
	}
}

func (m metrics) worker(w *ctl.Worker) {
	id := strconv.Itoa(w.ID)
	m.put(workerPackets, float64(w.RxPackets), id, "rx")
	m.put(workerPackets, float64(w.TxPackets), id, "tx")
	m.put(workerBytes, float64(w.RxBytes), id, "rx")
	m.put(workerBytes, float64(w.TxBytes), id, "tx")
	m.put(workerIdle, w.IdleSeconds, id)
	m <- prometheus.MustNewConstHistogram(families[workerBatch].desc, w.Batches, float64(w.RxPackets), cumulative(w.BatchSizes), id)
	for _, p := range []struct {
		place string
		n     int
	}{
		{"fill", w.Frames.Fill}, {"rx", w.Frames.Rx}, {"tx", w.Frames.Tx},
		{"completion", w.Frames.Completion}, {"free", w.Frames.Free}, {"held", w.Frames.Held},
	} {
		m.put(workerFrames, float64(p.n), id, p.place)
	}
	for _, r := range w.Rings {
		m.ring(&r)
	}
}

func (m metrics) ring(r *ctl.Ring) {
	for _, e := range []struct {
		event string
		n     uint64
	}{
		{"rx_dropped", r.RxDropped}, {"rx_ring_full", r.RxRingFull}, {"fill_ring_empty", r.FillRingEmpty},
		{"rx_invalid", r.RxInvalid}, {"tx_invalid", r.TxInvalid}, {"tx_ring_empty", r.TxRingEmpty},
		{"kick_errors", r.KickErrors},
	} {
		m.put(ringEvents, float64(e.n), r.Interface, strconv.Itoa(r.Queue), e.event)
	}
}

// cumulative returns the buckets of a histogram of batch sizes: Prometheus
// wants each to count the smaller ones as well.
func cumulative(sizes []uint64) map[float64]uint64 {
	buckets := make(map[float64]uint64, len(ctl.BatchBounds))
	var sum uint64
	for i, bound := range ctl.BatchBounds {
		if i < len(sizes) {
			sum += sizes[i]
		}
		buckets[float64(bound)] = sum
	}
	return buckets
}

// unixSeconds returns t in seconds since 1970, and the zero time as 0.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
