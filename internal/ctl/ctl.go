// Package ctl is the control socket of fnatd: what can be asked, what is
// answered, the HTTP server that answers and the client that asks. It computes
// nothing itself: a Backend knows the answers. It is not the metrics endpoint,
// which reads the same Backend.
package ctl

import (
	"context"
	"iter"
)

// DefaultSocket is where fnatd listens and fnatctl connects unless told otherwise.
const DefaultSocket = "/run/fnatd/fnatd.sock"

// The paths of the control socket. They are read with GET, unless it says POST.
const (
	PathServices    = "/v1/services"
	PathConnections = "/v1/connections"
	PathLocals      = "/v1/locals"
	PathStats       = "/v1/stats"
	PathDrops       = "/v1/drops"
	PathHealth      = "/v1/health"
	PathStatus      = "/v1/status"
	PathReload      = "/v1/reload"  // POST
	PathUpgrade     = "/v1/upgrade" // POST
	PathStop        = "/v1/stop"    // POST
	PathDiff        = "/v1/diff"    // POST
	PathDrain       = "/v1/drain"   // POST to change something
	PathEdit        = "/v1/edit"    // POST
	PathExplain     = "/v1/explain"
)

// A Backend knows the answers. Its methods are called from many goroutines at
// once and must not hold up the packet path. What they return is the caller's.
type Backend interface {
	// Services returns the services in the order of the configuration.
	Services() []Service
	// Connections returns the connections, in no order, and those that come
	// or go meanwhile perhaps. The caller may stop early or take minutes, so
	// an implementation copies a bounded slice at a time and holds no lock
	// while it yields.
	Connections() iter.Seq[Connection]
	// Locals returns the local addresses in the order of the configuration.
	Locals() []Local
	// Stats returns the figures of the whole program.
	Stats() Stats
	// Status returns how fnatd runs and what it has of an earlier one.
	Status() Status
	// Drops returns one entry for each reason, zero counts included; NewDrop
	// makes one.
	Drops() []Drop
	// Health returns what health checks have found out, service by service in
	// the order of the configuration.
	Health() []ServiceHealth
	// Reload reads the configuration file again and puts it into use, or
	// returns every reason why not and leaves the old one in use.
	Reload(context.Context) (Reload, error)
	// Upgrade has the binary at an absolute path, or "" for the one that it was
	// started from, take fnatd's place. On an error the old one goes on.
	Upgrade(ctx context.Context, binary string) (Upgrade, error)
	// Diff says what would change if the configuration toml, from a file of that
	// name, were put into use, or if toml is nil, what Reload would change. It
	// changes nothing. The error is what Reload's would be.
	Diff(ctx context.Context, name string, toml []byte) (Diff, error)
	// Drains returns the real servers that are being drained.
	Drains() []Drain
	// Drain carries out o and returns the servers that it concerns.
	Drain(ctx context.Context, o DrainOrder) ([]Drain, error)
	// Explain says what has become of a flow's packets, or would become of its
	// first.
	Explain(f Flow) Explanation
	// Stop has fnatd begin to stop. It returns before fnatd has, so that there can
	// be an answer.
	Stop(ctx context.Context, o StopOrder) Stopping
	// Edit changes the running configuration and not the file.
	Edit(ctx context.Context, edits []Edit) (Edited, error)
}
