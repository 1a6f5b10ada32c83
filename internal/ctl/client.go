package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// Our choices.
const (
	dialTime   = 5 * time.Second
	headerTime = answerTime // to the first byte of an answer
	maxError   = 1 << 20    // of an error answer; a bad configuration is long
)

// A Client asks a running fnatd. It is safe for use by many goroutines.
type Client struct {
	socket string
	http   http.Client
}

// NewClient returns a client of the control socket at the path socket. It
// connects when it asks.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket, http.Client{Transport: &http.Transport{
		DialContext:           dial,
		ResponseHeaderTimeout: headerTime,
		DisableKeepAlives:     true, // one question a run; an idle connection would be one more thing to close
	}}}
}

// Services asks for the services.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	b, err := ask[servicesBody](ctx, c, Get(PathServices))
	return b.Services, err
}

// Locals asks for the local addresses.
func (c *Client) Locals(ctx context.Context) ([]Local, error) {
	b, err := ask[localsBody](ctx, c, Get(PathLocals))
	return b.Locals, err
}

// Stats asks for the figures of the whole program.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	return ask[Stats](ctx, c, Get(PathStats))
}

// Status asks how fnatd runs.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, Get(PathStatus))
}

// Drops asks for the drops by reason.
func (c *Client) Drops(ctx context.Context) ([]Drop, error) {
	b, err := ask[dropsBody](ctx, c, Get(PathDrops))
	return b.Drops, err
}

// Health asks for what health checks have found out.
func (c *Client) Health(ctx context.Context) ([]ServiceHealth, error) {
	b, err := ask[healthBody](ctx, c, Get(PathHealth))
	return b.Services, err
}

// Reload has the configuration file read again. The error is fnatd's list of
// what is wrong with the file, one error a line.
func (c *Client) Reload(ctx context.Context) (Reload, error) {
	return ask[Reload](ctx, c, Post(PathReload, nil))
}

// Stop has fnatd stop cleanly. It returns when fnatd begins to.
func (c *Client) Stop(ctx context.Context, o StopOrder) (Stopping, error) {
	return ask[Stopping](ctx, c, Post(PathStop, o))
}

// Diff asks what DiffQuestion does.
func (c *Client) Diff(ctx context.Context, name string, toml []byte) (Diff, error) {
	return ask[Diff](ctx, c, DiffQuestion(name, toml))
}

// Drains asks for the real servers that are being drained.
func (c *Client) Drains(ctx context.Context) ([]Drain, error) {
	b, err := ask[drainsBody](ctx, c, Get(PathDrain))
	return b.Drains, err
}

// Drain drains real servers, or ends that, and returns which.
func (c *Client) Drain(ctx context.Context, o DrainOrder) ([]Drain, error) {
	b, err := ask[drainsBody](ctx, c, Post(PathDrain, o))
	return b.Drains, err
}

// Edit changes the running configuration.
func (c *Client) Edit(ctx context.Context, edits []Edit) (Edited, error) {
	return ask[Edited](ctx, c, Post(PathEdit, editsBody{edits}))
}

// Connections asks for the connections that f selects and yields them as they
// arrive. An error ends the sequence. A second value that is ErrMore ends it
// too and says that f.Limit left some out.
func (c *Client) Connections(ctx context.Context, f Filter) iter.Seq2[Connection, error] {
	return func(yield func(Connection, error) bool) {
		body, err := c.do(ctx, Get(ConnectionsPath(f)))
		if err != nil {
			yield(Connection{}, err)
			return
		}
		defer body.Close()
		if err := decodeConnections(json.NewDecoder(body), yield); err != nil {
			yield(Connection{}, err)
		}
	}
}

// ErrMore ends a listing that its limit cut off.
var ErrMore = errors.New("more connections than the limit")

// ConnectionsPath returns the path and query that ask for what f selects.
func ConnectionsPath(f Filter) string {
	u := url.URL{Path: PathConnections, RawQuery: f.query().Encode()}
	return u.String()
}

// decodeConnections reads {"connections":[…],"more":bool}. It returns nil also
// when yield wants no more.
func decodeConnections(dec *json.Decoder, yield func(Connection, error) bool) error {
	for range 3 { // { "connections" [
		if _, err := dec.Token(); err != nil {
			return answerError(err)
		}
	}
	for dec.More() {
		var c Connection
		if err := dec.Decode(&c); err != nil {
			return answerError(err)
		}
		if !yield(c, nil) {
			return nil
		}
	}
	var more json.Token
	for range 3 { // ] "more" bool
		var err error
		if more, err = dec.Token(); err != nil {
			return answerError(err)
		}
	}
	if more == true {
		return ErrMore
	}
	return nil
}

// Copy writes the answer to w as it comes, for programs to read.
func (c *Client) Copy(ctx context.Context, w io.Writer, q Question) error {
	body, err := c.do(ctx, q)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err = io.Copy(w, body); err != nil {
		return answerError(err)
	}
	return nil
}

// ask puts one question and decodes its answer.
func ask[T any](ctx context.Context, c *Client, q Question) (answer T, err error) {
	body, err := c.do(ctx, q)
	if err != nil {
		return answer, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return answer, answerError(err)
	}
	return answer, nil
}

// do puts one question and returns the body of an answer that is not an error.
func (c *Client) do(ctx context.Context, q Question) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, "http://fnatd"+q.path, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var e errorBody
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxError)).Decode(&e); err != nil || e.Error == "" {
		return nil, fmt.Errorf("%s %s: %s: is %s the socket of fnatd?", q.method, q.path, resp.Status, c.socket)
	}
	return nil, errors.New(e.Error)
}

// explain says in an operator's words why a request got no answer.
func (c *Client) explain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // without the made-up host name
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("connect %s: no such file: is fnatd running? (--socket names another)", c.socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("connect %s: nobody answers: fnatd has died: start it again", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("connect %s: permission denied: run as root, or as the group of the socket", c.socket)
	}
	return fmt.Errorf("fnatd at %s: %w", c.socket, err)
}

// answerError is for an answer that breaks off or is not what was asked for.
func answerError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the answer broke off: fnatd stopped, or the reader was too slow")
	}
	return fmt.Errorf("answer of fnatd: %w", err)
}
