package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fnatd/fnatd/tests/bench/load"
)

// inFlight is how many short connections are under way: fewer do not fill two
// processors here.
const inFlight = 128

// connContenders are who carry connections.
func connContenders() []contender {
	return []contender{direct(), nft(), haproxy(), nginx(), fnatd("fnatd", "", false), fnatd("fnatd synproxy", "synproxy = true", false)}
}

const placement = `
Client and servers have CPU 0, the balancer CPU 1; offloads are off everywhere. Direct is a wire of its own,
without the balancer's two.`

var shortColumns = []column{
	{"connections", "/s", thousands},
	{"failed", "", thousands},
	{"p50", "ms", millis},
	{"p99", "ms", millis},
}

const shortNote = "Short connections: connect, 64 bytes, 128 bytes back, the server closes; 128 at a time." + placement

// runShort measures how many short connections a second each contender carries.
func (r *run) runShort() error {
	t := r.report.table("Short connections", shortNote, shortColumns...)
	return r.rounds(t, connContenders(), func(c contender) error {
		return r.measured(c, func(b *bed) error {
			got, err := (&load.Short{
				Target: c.at(load.ShortPort), Sources: sources(), InFlight: inFlight,
				Patience: clientPatience, Warmup: settle, Time: r.time,
			}).Run(b.ctx, b.Client, loadCPU)
			if err != nil {
				return err
			}
			t.row("", c.name).add(
				float64(got.Done)/got.Elapsed.Seconds(), float64(got.Failed),
				got.Exchanges.Quantile(0.5).Seconds(), got.Exchanges.Quantile(0.99).Seconds())
			return nil
		})
	})
}

var latencyColumns = []column{
	{"p50", "us", micros},
	{"p99", "us", micros},
	{"p99.9", "us", micros},
}

// halfLoad is about half of the short connections that the slowest contender
// carries.
const halfLoad = 4000

const latencyNote = `Round trips of one byte on one kept connection, one at a time: alone, and beside 4,000 short connections a
second, which is about half of what the slowest can do.` + placement

// runLatency measures what each contender adds to a round trip.
func (r *run) runLatency() error {
	t := r.report.table("Latency", latencyNote, latencyColumns...)
	return r.rounds(t, connContenders(), func(c contender) error {
		return r.measured(c, func(b *bed) error {
			for _, loaded := range []bool{false, true} {
				setting, stop := "alone", func() error { return nil }
				if loaded {
					setting = "half load"
					stop = b.background(func(ctx context.Context) error {
						_, err := (&load.Short{
							Target: c.at(load.ShortPort), Sources: sources(), InFlight: inFlight,
							Patience: clientPatience, Rate: halfLoad, Time: 2*settle + r.time,
						}).Run(ctx, b.Client, loadCPU)
						return canceled(err)
					})
				}
				got, err := load.PingPong(b.ctx, b.Client, loadCPU, c.at(load.EchoPort), settle, r.time)
				if err := errors.Join(err, stop()); err != nil {
					return err
				}
				t.row(setting, c.name).add(got.Quantile(0.5).Seconds(), got.Quantile(0.99).Seconds(), got.Quantile(0.999).Seconds())
			}
			return nil
		})
	})
}

var bulkColumns = []column{{"download", "Gbit/s", gigabits}}

const bulkNote = "Four connections that the servers fill." + placement

// runBulk measures how much each contender carries.
func (r *run) runBulk() error {
	t := r.report.table("Bulk", bulkNote, bulkColumns...)
	return r.rounds(t, connContenders(), func(c contender) error {
		return r.measured(c, func(b *bed) error {
			rate, err := load.Download(b.ctx, b.Client, loadCPU, c.at(load.BulkPort), 4, settle, r.time)
			if err == nil {
				t.row("", c.name).add(rate)
			}
			return err
		})
	})
}

// measured calls measure with a contender that serves, everything in its place.
func (r *run) measured(c contender, measure func(*bed) error) (err error) {
	b, err := r.bedOf(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.serve(loadCPU); err != nil {
		return err
	}
	if c.kernel {
		if err := b.receiveSteered(); err != nil {
			return err
		}
	}
	return measure(b)
}

func micros(v float64) string { return fmt.Sprintf("%.1f", 1e6*v) }

func gigabits(v float64) string { return fmt.Sprintf("%.2f", 8*v/float64(time.Second)) }

// canceled returns err, unless it is that of what was stopped.
func canceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
