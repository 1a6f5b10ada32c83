package health

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = sign(t, template, nil)
	return a
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue returns a certificate that change has changed: for www.example.com and
// 127.0.0.1, and good for an hour, without.
func (a *authority) issue(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"www.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(template)
	cert, key := sign(t, template, a)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// sign signs by a, or by the certificate's own key if a is nil.
func sign(t *testing.T, template *x509.Certificate, a *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := template, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// httpsServer says ok by a certificate. It wants one of its clients that the
// authority has signed, unless that is nil.
func httpsServer(t *testing.T, cert tls.Certificate, clients *authority) netip.AddrPort {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	if clients != nil {
		server.TLS.ClientAuth, server.TLS.ClientCAs = tls.RequireAndVerifyClientCert, clients.pool()
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are to break off
	server.StartTLS()
	t.Cleanup(server.Close)
	return netip.MustParseAddrPort(server.Listener.Addr().String())
}

func TestHTTPSVerifies(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	good := func(*x509.Certificate) {}
	for name, test := range map[string]struct {
		cert   tls.Certificate
		server string // that is asked for
		roots  *authority
		want   string
	}{
		"good":                 {ours.issue(t, good), "www.example.com", ours, ""},
		"good_for_the_address": {ours.issue(t, good), "", ours, ""},
		"expired": {ours.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }), "www.example.com", ours,
			"TLS: tls: failed to verify certificate: x509: certificate has expired or is not yet valid"},
		"not_yet_valid": {ours.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), "www.example.com", ours,
			"TLS: tls: failed to verify certificate: x509: certificate has expired or is not yet valid"},
		"wrong_name": {ours.issue(t, good), "mail.example.com", ours,
			"TLS: tls: failed to verify certificate: x509: certificate is valid for www.example.com, not mail.example.com"},
		"wrong_address": {ours.issue(t, func(c *x509.Certificate) { c.IPAddresses = nil }), "", ours,
			"TLS: tls: failed to verify certificate: x509: cannot validate certificate for 127.0.0.1"},
		"unknown_authority": {other.issue(t, good), "www.example.com", ours,
			"TLS: tls: failed to verify certificate: x509: certificate signed by unknown authority"},
		"not_of_the_hosts_authorities": {ours.issue(t, good), "www.example.com", nil,
			"TLS: tls: failed to verify certificate: x509: certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			at := httpsServer(t, test.cert, nil)
			h := get("/")
			h.TLS = &TLS{ServerName: test.server, Verify: true}
			if test.roots != nil {
				h.TLS.Roots = test.roots.pool()
			}
			if _, got := ask(t, h, at, patience); test.want == "" && got != "" || !strings.HasPrefix(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			h.TLS.Verify = false
			if _, got := ask(t, h, at, patience); got != "" {
				t.Errorf("without verification: got %q, want it passed", got)
			}
		})
	}
}

func TestHTTPSShowsItsCertificate(t *testing.T) {
	ours, other := newAuthority(t), newAuthority(t)
	good := func(*x509.Certificate) {}
	at := httpsServer(t, ours.issue(t, good), ours)
	for name, test := range map[string]struct {
		own  []tls.Certificate
		good bool
	}{
		"none":  {nil, false},
		"good":  {[]tls.Certificate{ours.issue(t, good)}, true},
		"other": {[]tls.Certificate{other.issue(t, good)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := get("/")
			h.TLS = &TLS{Certificate: test.own}
			if _, got := ask(t, h, at, patience); (got == "") != test.good {
				t.Errorf("got %q, want it passed: %t", got, test.good)
			}
		})
	}
}

// TestRegexOffsets has matches begin where they may, and see what stands before.
func TestRegexOffsets(t *testing.T) {
	for _, test := range []struct {
		regex       string
		from, until int
		body        string
		want        bool
	}{
		{"ok", 0, 0, "xxok", true},
		{"ok", 2, 0, "xxok", true},
		{"ok", 3, 0, "xxok", false},
		{"ok", 3, 0, "okxok", true},
		{"ok", 0, 1, "ok", true},
		{"ok", 0, 1, "xok", false},
		{"ok", 1, 2, "okok", false},
		{"ok", 1, 3, "okok", true},
		{"ok", 2, 3, "okok", true},
		{"aa", 1, 2, "aaa", true},
		{"ok", 5, 0, "ok", false},
		{"ok", 2, 0, "ok", false},
		{"$", 2, 0, "ok", true},
		{"^ok", 0, 0, "ok", true},
		{"^ok", 2, 0, "xxok", false},
		{`\Aok`, 2, 0, "xxok", false},
		{"(?m)^ok", 2, 0, "xxok", false},
		{"(?m)^ok", 2, 0, "x\nok", true},
		{`\bok`, 2, 0, "xxok", false},
		{`\bok`, 2, 0, "x ok", true},
		{"(?i)no|OK", 2, 0, "xxok", true},
		{"x|(o)(k)", 1, 3, "x\nok", true},
		{"ok", 2, 0, "\xff\xfeok", true},
		{"ok", 3, 0, "€ok", true},
		{"ok", 2, 0, "€ok", true},
		{"ok", 4, 0, "€ok", false},
	} {
		h := &HTTP{Match: Within(test.regex, test.from), From: test.from, Until: test.until}
		if got := h.matches([]byte(test.body)); got != test.want {
			t.Errorf("%q in %q from %d until %d: got %t, want %t", test.regex, test.body, test.from, test.until, got, test.want)
		}
	}
}
