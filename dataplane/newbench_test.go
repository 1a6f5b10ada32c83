package dataplane

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fnatd/fnatd/conntrack"
)

// BenchmarkNewConnections is a connection from its SYN to the last ACK, seven
// packets, while the ones before wait for their end: some 880,000 a worker.
func BenchmarkNewConnections(b *testing.B) { benchmarkNew(b, func(*Worker) {}) }

// BenchmarkNewKnownConnections is the same of a service whose connections are counted
// for the XDP program.
func BenchmarkNewKnownConnections(b *testing.B) {
	benchmarkNew(b, func(w *Worker) {
		var all conntrack.BindingSet
		for id, t := range w.shared.View().targets {
			if t != nil {
				all.Add(conntrack.BindingID(id))
			}
		}
		places := w.conns.KnownPlaces()
		w.conns.Know(make([]uint8, places), make([]uint8, places/conntrack.KnownLine), &all)
	})
}

func benchmarkNew(b *testing.B, prepare func(*Worker)) {
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			mills := newMills(b, belt4, workers, workers*1_500_000)
			prepare(mills[0].worker)
			connect := func(m *mill) {
				m.lines = m.lines[:0]
				fresh := m.open(batchSize * beltBatches)
				m.all(fresh, (*mill).inbound, m.ends.frames.request)
				m.all(fresh, (*mill).outbound, m.ends.frames.finReal)
				m.all(fresh, (*mill).inbound, m.ends.frames.fin)
				m.all(fresh, (*mill).outbound, m.ends.frames.reply)
				// 7.3 s later they will have left, at some 120,000 a second and worker.
				m.clock = m.clock.Add(beltBatches * time.Second / 2000)
				m.idle()
				m.lap(batchSize * beltBatches)
			}
			each(mills, func(m *mill) {
				for range 9 * 128_000 / (batchSize * beltBatches) {
					connect(m)
				}
			})
			reset(b, mills)
			each(mills, func(m *mill) {
				for n := 0; n < b.N; n += batchSize * beltBatches {
					connect(m)
				}
			})
			report(b, mills, "connection")
			reportSteps(b, mills)
		})
	}
}

// newSteps are what a connection consists of, in the order in which connect has them.
var newSteps = [...]string{"syn", "synack", "ack", "request", "fin-real", "fin", "last-ack", "removal"}

// reportSteps reports what each took: in the best twentieth, and in the mean of all but the
// worst twentieth. A SYN finds ports at hand in some laps and not in others, and not as many
// connections are due each time.
func reportSteps(b *testing.B, mills []*mill) {
	for i, step := range newSteps {
		var spent []float64
		for _, m := range mills {
			for at := i; at < len(m.runs); at += len(newSteps) {
				spent = append(spent, float64(m.runs[at])/(batchSize*beltBatches))
			}
		}
		slices.Sort(spent)
		usual, sum := spent[:len(spent)-len(spent)/20], 0.0
		for _, ns := range usual {
			sum += ns
		}
		b.ReportMetric(spent[len(spent)/20], "best-ns/"+step)
		b.ReportMetric(sum/float64(len(usual)), "ns/"+step)
	}
}

// idle has the worker see to its timers, with no packet.
func (m *mill) idle() {
	begin := threadTime()
	m.worker.poll(m.clock)
	m.took(threadTime() - begin)
}

// took notes what a run has taken.
func (m *mill) took(t time.Duration) {
	m.inPoll += t
	m.runs = append(m.runs, t)
}
