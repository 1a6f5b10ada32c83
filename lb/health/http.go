package health

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
)

// Our choices. A page by which a server says that it is well is short; what is
// longer is not read, so that a server without end costs no more than this.
const (
	maxHead = 64 << 10 // bytes of a status line and header
	maxBody = 1 << 20  // bytes of a body that a digest or a regular expression is about
	chunked = 8        // times as long it may be on the wire, in chunks of a byte
)

// HTTP is the check of what a web server answers. It follows no redirection.
type HTTP struct {
	Method  string // GET or HEAD
	Path    string
	Host    string         // of the Host field; "": the address asked
	Status  []CodeRange    // that are good
	Digest  string         // of the body, MD5 or SHA-256 in hexadecimal digits; "": any
	Match   *regexp.Regexp // that the body must match; nil: any body
	NoMatch bool           // the body must not match
	From    int            // offset in the body from which on a match may begin
	Until   int            // offset from which on none may; 0: it may anywhere
	TLS     *TLS           // nil: HTTP without
}

// TLS is how HTTPS is asked for.
type TLS struct {
	ServerName string // sent as SNI; "": none is
	Verify     bool   // the certificate must be good for ServerName, or the address asked

	Roots       *x509.CertPool    // who may have signed it; nil: whom the host trusts
	Certificate []tls.Certificate // to show if the server asks; none: it gets none
}

// A CodeRange is an inclusive range of status codes.
type CodeRange struct{ First, Last int }

func (h *HTTP) String() string {
	if h.TLS != nil {
		return "https " + h.Path
	}
	return "http " + h.Path
}

// Probe implements Probe.
func (h *HTTP) Probe(ctx context.Context, to Endpoint) (Result, error) {
	conn, err := to.dial(ctx, "tcp")
	if err != nil {
		return Result{}, err
	}
	raw := conn
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.Close() }) // ends every read and write
	defer stop()
	if h.TLS != nil {
		if conn, err = h.TLS.over(ctx, conn, to); err != nil {
			return Result{}, err
		}
	}
	return Result{}, h.exchange(conn, to)
}

// over puts TLS on conn.
func (t *TLS) over(ctx context.Context, conn net.Conn, to Endpoint) (net.Conn, error) {
	cfg := &tls.Config{
		ServerName: t.ServerName,
		// Most servers behind a balancer have a certificate for the name that
		// clients ask for; whether it is good, clients see.
		InsecureSkipVerify: !t.Verify,
		RootCAs:            t.Roots,
		Certificates:       t.Certificate,
		MinVersion:         tls.VersionTLS10, // it is the balancer's part to reach an old server, not to mend it
	}
	if t.Verify && t.ServerName == "" {
		cfg.ServerName = to.Addr().String()
	}
	c := tls.Client(conn, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", plain(err))
	}
	return c, nil
}

// exchange asks and judges the answer.
func (h *HTTP) exchange(conn net.Conn, to Endpoint) error {
	if err := h.ask(conn, to); err != nil {
		return fmt.Errorf("request: %w", plain(err))
	}
	head := &io.LimitedReader{R: conn, N: maxHead}
	in := bufio.NewReader(head)
	resp, err := http.ReadResponse(in, &http.Request{Method: h.Method})
	if err != nil {
		return explain(err, head)
	}
	head.N = chunked * maxBody
	defer resp.Body.Close()
	if !h.good(resp.StatusCode) {
		return fmt.Errorf("status %d, want %s", resp.StatusCode, codes(h.Status))
	}
	if h.Digest == "" && h.Match == nil {
		return nil
	}
	return h.judge(resp.Body)
}

// ask sends the request. Path goes as it is written: net/url would change what an
// operator has escaped as his server wants it.
func (h *HTTP) ask(conn net.Conn, to Endpoint) error {
	host := h.Host
	if host == "" {
		host = to.AddrPort.String()
	}
	_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: fnatd\r\nAccept: */*\r\nConnection: close\r\n\r\n",
		h.Method, h.Path, host)
	return err
}

// explain says what was wrong with the head of an answer.
func explain(err error, head *io.LimitedReader) error {
	switch {
	case head.N <= 0:
		return fmt.Errorf("not an answer in HTTP: no end of the header in %d KiB", maxHead>>10)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("connection closed before a whole answer")
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return plain(err)
	}
	return fmt.Errorf("not an answer in HTTP: %.200w", err)
}

// judge reads the body and compares.
func (h *HTTP) judge(body io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	switch {
	case len(data) > maxBody:
		return fmt.Errorf("body of more than %d KiB", maxBody>>10)
	case err != nil:
		return fmt.Errorf("body: %w", plain(err))
	}
	if h.Digest != "" {
		if got := h.digest(data); !strings.EqualFold(got, h.Digest) {
			return fmt.Errorf("digest of the body is %s, want %s", got, strings.ToLower(h.Digest))
		}
	}
	if h.Match == nil {
		return nil
	}
	if h.matches(data) == h.NoMatch {
		return fmt.Errorf("body of %d bytes matches regex %q: %t", len(data), h.Match, h.NoMatch)
	}
	return nil
}

// matches reports whether there is a match in data that begins where it may.
func (h *HTTP) matches(data []byte) bool {
	if h.From > len(data) {
		return false
	}
	// The byte before stays, so that ^ and \b find what is on both sides of them. It is
	// passed over by Within; without one a match may begin at once.
	at := h.Match.FindSubmatchIndex(data[max(h.From-1, 0):])
	if at == nil {
		return false
	}
	begin := at[0]
	if h.From > 0 {
		begin = at[2] + h.From - 1
	}
	return h.Until == 0 || begin < h.Until
}

// Within makes the expression for Match whose match begins at From or later, of one
// that may match anywhere and is valid.
func Within(expression string, from int) *regexp.Regexp {
	if from > 0 {
		expression = `\A(?s:.)(?s:.*?)(` + expression + `)`
	}
	return regexp.MustCompile(expression)
}

// digest returns the digest of data that has as many digits as the one wanted.
func (h *HTTP) digest(data []byte) string {
	if len(h.Digest) == hex.EncodedLen(md5.Size) {
		sum := md5.Sum(data) // as genhash of keepalived; nothing secret hangs on it
		return hex.EncodeToString(sum[:])
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (h *HTTP) good(code int) bool {
	for _, r := range h.Status {
		if r.First <= code && code <= r.Last {
			return true
		}
	}
	return false
}

func codes(all []CodeRange) string {
	var texts []string
	for _, r := range all {
		if r.First == r.Last {
			texts = append(texts, fmt.Sprint(r.First))
		} else {
			texts = append(texts, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	return strings.Join(texts, ", ")
}
