package dataplane

import "github.com/fnatd/fnatd/internal/packet"

// lastDrops is what a worker remembers of the packets that it has dropped last,
// for whoever asks what became of one. It belongs to the worker. Our choice of its
// size: 12 KB, so that under a flood of drops it costs little of the first cache.
type lastDrops struct {
	notes [256]dropNote
	next  uint8 // wraps around with the notes
}

type dropNote struct {
	flow packet.Flow
	why  packet.Reason // Kept: no note yet
	at   uint32        // ms since the table's epoch
}

// note remembers why a packet was dropped. What could not be read has no flow,
// what is nobody's business no reader, and what was consumed is no loss.
func (l *lastDrops) note(j *job, why packet.Reason, now uint32) {
	if why.Consumed() || j.why != packet.Kept && j.why != packet.Fragment {
		return
	}
	l.notes[l.next] = dropNote{j.p.Flow, why, now}
	l.next++
}

// notePlain is note for a plain packet. What it writes it writes in its place: to copy
// what was just written in other widths costs a store's latency.
func (l *lastDrops) notePlain(p *packet.Plain, why packet.Reason, now uint32) {
	n := &l.notes[l.next]
	p.SetFlow(&n.flow, p.Proto)
	n.why, n.at = why, now
	l.next++
}

// last returns the latest note of one of these flows.
func (l *lastDrops) last(flows []packet.Flow) (latest dropNote) {
	for i := range l.notes {
		n := &l.notes[(int(l.next)-1-i)&(len(l.notes)-1)]
		if n.why == packet.Kept {
			return dropNote{}
		}
		for j := range flows {
			if n.flow == flows[j] {
				return *n
			}
		}
	}
	return dropNote{}
}

// LastDrop returns why the last packet of any of these flows was dropped, if some
// worker remembers, and how many milliseconds ago. A flow is as a packet of it
// comes, or as it would leave. Any goroutine may ask.
func (e *Engine) LastDrop(flows ...packet.Flow) (why packet.Reason, ago uint32) {
	now := e.Now()
	for _, w := range e.Workers() {
		var n dropNote
		w.inbox.ask(func() { n = w.dropped.last(flows) })
		if n.why != packet.Kept && (why == packet.Kept || now-n.at < ago) {
			why, ago = n.why, now-n.at
		}
	}
	return why, ago
}
