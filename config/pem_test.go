package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newPair returns a certificate and its key, in PEM.
func newPair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return text("CERTIFICATE", der), text("PRIVATE KEY", pkcs8)
}

func httpsPiece(keys string) string {
	return strings.Replace(piece(1, ""), `type = "http"`, "type = \"https\"\n"+keys, 1)
}

func TestPEMFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := newPair(t)
	_, otherKey := newPair(t)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, test := range map[string]struct{ ca, cert, key, more, want string }{
		"good":           {ca: "junk\n" + cert + cert, cert: cert, key: key},
		"empty":          {ca: "", want: "has no certificate in it (want at least one in PEM, between BEGIN CERTIFICATE and END CERTIFICATE)"},
		"other_content":  {ca: key, want: "has no certificate in it"},
		"cut_off":        {ca: cert[:len(cert)/2], want: "has no certificate in it"},
		"second_damaged": {ca: cert + strings.Replace(cert, "MI", "AA", 1), want: "certificate 2 in it: x509: "},
		"other_key":      {ca: cert, cert: cert, key: otherKey, want: "does not go with certificate"},
		"not_verified":   {ca: cert, more: "tls_verify = false", want: "has no effect with tls_verify = false (remove one of the two)"},
		"key_missing":    {ca: cert, more: fmt.Sprintf("certificate = %q", file("own.pem", cert)), want: "has no effect without its key"},
		"key_alone":      {ca: cert, more: fmt.Sprintf("key = %q", file("own.key", key)), want: "has no effect without certificate"},
		"unreadable":     {ca: cert, more: fmt.Sprintf("certificate = %q", dir), want: "not a regular file"},
		"no_key":         {ca: cert, cert: cert, key: cert, want: "does not go with certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			keys := fmt.Sprintf("ca = %q\n%s", file("ca.pem", test.ca), test.more)
			if test.cert != "" {
				keys += fmt.Sprintf("\ncertificate = %q\nkey = %q", file("cert.pem", test.cert), file("key.pem", test.key))
			}
			c, err := Parse("lb.toml", []byte(piecesHead+httpsPiece(keys)))
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if check := c.Services[0].Checks[0]; check.CA.Text != test.ca || !check.TLSVerify || check.Key.Text != key {
					t.Errorf("got %+v", check)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "lb.toml:") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q with file and line", err, test.want)
			}
		})
	}
}

// TestPEMFileIsReadAgain has a configuration of the same text mean something else,
// because a file that it names has changed.
func TestPEMFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	doc := piecesHead + httpsPiece(fmt.Sprintf("ca = %q", path)) + piece(2, "")
	read := func(before *Config, text string) (*Config, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return parseAfter("lb.toml", []byte(doc), before)
	}
	one, _ := newPair(t)
	two, _ := newPair(t)
	first, err := read(nil, one)
	if err != nil {
		t.Fatal(err)
	}
	second, err := read(first, two)
	if err != nil {
		t.Fatal(err)
	}
	if got := second.Services[0].Checks[0].CA.Text; got != two {
		t.Errorf("got %q, want %q", got, two)
	}
	if first.Services[0].SameAs(&second.Services[0]) {
		t.Error("the services are the same, though their authorities are not")
	}
	if _, err := read(second, ""); err == nil || !strings.Contains(err.Error(), "has no certificate in it") {
		t.Errorf("got %v, want the empty file refused", err)
	}
}
