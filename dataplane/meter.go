package dataplane

import (
	"sync/atomic"

	"github.com/fnatd/fnatd/conntrack"
)

// A Traffic is what was forwarded for a service or a real server, and how its
// clients' addresses fared. Bytes are those of IP datagrams as they arrived.
type Traffic struct {
	Connections          uint64 `json:",omitzero"`
	InPackets, InBytes   uint64 `json:",omitzero"` // client to real server
	OutPackets, OutBytes uint64 `json:",omitzero"`
	Inserted             uint64 `json:",omitzero"` // segments that got the client-address option
	NoRoom               uint64 `json:",omitzero"` // did not: the TCP header would exceed 60 bytes
	TooLong              uint64 `json:",omitzero"` // did not: the datagram would exceed the MTU
	Forged               uint64 `json:",omitzero"` // clients' own client-address options, blanked
	NoticeSent           uint64 `json:",omitzero"` // UDP notices for new connections
	NoticeAcked          uint64 `json:",omitzero"` // acknowledged by their echo reply
	NoticeResent         uint64 `json:",omitzero"` // repeated: unanswered, or to keep the mapping alive
	NoticeGivenUp        uint64 `json:",omitzero"` // unanswered after every resend
	Refused              uint64 `json:",omitzero"` // connections that the real server, or a router, refused
	Unanswered           uint64 `json:",omitzero"` // SYNs that were sent again, as no answer had come
}

// fields returns every counter of t, in one fixed order.
func (t *Traffic) fields() [numTraffic]*uint64 {
	return [numTraffic]*uint64{
		&t.Connections, &t.InPackets, &t.InBytes, &t.OutPackets, &t.OutBytes,
		&t.Inserted, &t.NoRoom, &t.TooLong, &t.Forged,
		&t.NoticeSent, &t.NoticeAcked, &t.NoticeResent, &t.NoticeGivenUp,
		&t.Refused, &t.Unanswered,
	}
}

const numTraffic = 15

// A Meter sums up the Traffic of every worker. Each worker writes a cell of its
// own, once per batch; anybody may read. Workers that came after the Meter share
// the cells there are.
type Meter struct {
	cells []meterCell

	// seen is what a real server offered in its last SYN-ACK that said all, see
	// synproxy.Offer.Pack; 0 is nothing yet.
	seen atomic.Uint64
}

type meterCell struct {
	counters [numTraffic]atomic.Uint64
	_        [128 - 8*numTraffic]byte // whole cache lines: cells do not share one
}

func newMeter(workers int) *Meter { return &Meter{cells: make([]meterCell, max(workers, 1))} }

func (m *Meter) publish(worker int, t *Traffic) {
	cell := &m.cells[worker%len(m.cells)]
	for i, n := range t.fields() {
		if *n != 0 {
			cell.counters[i].Add(*n)
		}
	}
}

// Read returns the sum over all workers.
func (m *Meter) Read() (t Traffic) {
	for i := range m.cells {
		for j, n := range t.fields() {
			*n += m.cells[i].counters[j].Load()
		}
	}
	return t
}

// A ledger gathers traffic by binding, and what has become of connections, so that the shared
// meters and loads are written once per real server and batch, or more seldom, instead of once
// per packet. That a connection is opened schedulers have to know at once; see place.
type ledger struct {
	rows    []row // by BindingID
	touched []conntrack.BindingID
}

type row struct {
	Traffic
	active, inactive int32 // connections by which these are more than the real server's Load says
	listed           bool  // in touched
}

// shift notes by how many more connections are active and inactive.
func (r *row) shift(active, inactive int32) {
	r.active += active
	r.inactive += inactive
}

// fit makes rows for so many bindings.
func (l *ledger) fit(bindings int) {
	if more := bindings - len(l.rows); more > 0 {
		l.rows = append(l.rows, make([]row, more)...)
	}
}

// row returns the row of b, for the caller to add to.
func (l *ledger) row(b conntrack.BindingID) *row {
	r := &l.rows[b]
	if !r.listed {
		r.listed = true
		l.touched = append(l.touched, b)
	}
	return r
}

// publish empties the ledger into the meters and the loads of the targets.
func (l *ledger) publish(worker int, targets []*Target) {
	for _, b := range l.touched {
		t, r := targets[b], &l.rows[b]
		t.Meter.publish(worker, &r.Traffic)
		t.Service.Meter.publish(worker, &r.Traffic)
		t.Server.Load.Add(r.active, r.inactive)
		*r = row{}
	}
	l.touched = l.touched[:0]
}
