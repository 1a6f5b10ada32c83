package health

import "context"

// TCP is the check that a server accepts connections.
type TCP struct{}

func (TCP) String() string { return "tcp" }

// Probe implements Probe.
func (TCP) Probe(ctx context.Context, to Endpoint) (Result, error) {
	conn, err := to.dial(ctx, "tcp")
	if err != nil {
		return Result{}, err
	}
	return Result{}, conn.Close()
}
