package tests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// newPEMFiles has files change that https checks name, while the configuration says
// the same: what counts is what they hold when fnatd reads its configuration.
func newPEMFiles(b *bed) {
	b.nginx(0)
	was := b.secureServer(0, 8443)
	other := b.ownCertificate(0)
	ca := filepath.Join(b.dir, "ca.pem")
	write := func(text string) {
		if err := os.WriteFile(ca, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	pemOf := func(c tls.Certificate) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
	}
	write(pemOf(was))
	web := b.web(0)
	web.Health = fmt.Sprintf("type = \"https\"\nport = 8443\npath = \"/\"\nca = %q\n%s", ca, quickCheck) + "alpha = true\n"
	web.Keys += "\ndamping = \"0s\""
	b.start(web)
	b.becomes("web", "up")
	if got := b.reload(web); len(got) != 0 {
		b.Errorf("nothing has changed: got changes %v", got)
	}

	write(pemOf(other))
	time.Sleep(time.Second) // five checks
	if got := b.state("web"); got != "up" {
		b.Errorf("the file has changed and there was no reload: got %s, want up", got)
	}
	if got := b.reload(web); len(got) != 1 || !strings.Contains(got[0], ca) {
		b.Errorf("got changes %v, want one of the check that names %s", got, ca)
	}
	b.becomes("web", "down")
	if got := b.service("web").Servers[0].Reason; !strings.Contains(got, "certificate") {
		b.Errorf("got reason %q, want it to be the certificate", got)
	}

	write("-----BEGIN CERTIFICATE-----\nrubbish\n")
	_, err := b.lb.Ctl.Reload(b.Context())
	if err == nil || !strings.Contains(err.Error(), ca) || !strings.Contains(err.Error(), "lb.toml:") {
		b.Errorf("rubbish: got %v, want a refusal that names the file and the line that names it", err)
	}
	if got := b.state("web"); got != "down" {
		b.Errorf("the refused reload: got %s, want down as before", got)
	}

	write(pemOf(other) + pemOf(was))
	b.reload(web)
	b.becomes("web", "up")
	if got := b.answersFrom(3); got["0"] != 3 {
		b.Errorf("got answers %v, want 3", got)
	}
}

// secureServer makes server i answer HTTPS on a port, and returns its certificate.
func (b *bed) secureServer(i int, port uint16) tls.Certificate {
	b.Helper()
	own := b.ownCertificate(i)
	l, err := b.Servers[i].Listen("tcp", b.rip(i, port).String())
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{
		Handler:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }),
		ErrorLog: log.New(io.Discard, "", 0), // of checks that do not trust it
	}
	go s.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{own}}))
	b.Cleanup(func() { s.Close() })
	return own
}

// ownCertificate returns one for the address of server i, signed by itself.
func (b *bed) ownCertificate(i int) tls.Certificate {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{b.rip(i, 1).Addr().AsSlice()}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		b.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
