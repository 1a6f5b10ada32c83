package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// maxPEM is more than all authorities of a distribution take, in bytes.
const maxPEM = 4 << 20

// A PEMFile is a file of certificates or a key, and what was in it when the
// configuration was read.
type PEMFile struct{ Path, Text string }

// file reads the path of a PEM file and the file.
func (t *table) file(key string, to *PEMFile, check func(text string) error) {
	t.text(key, func(path string) error {
		if err := checkPath(path); err != nil {
			return err
		}
		text, err := readPEM(path)
		if err == nil {
			err = check(text)
		}
		*to = PEMFile{path, text}
		return err
	})
}

func readPEM(path string) (string, error) {
	info, err := os.Stat(path)
	var file *os.File
	if err == nil {
		if !info.Mode().IsRegular() { // a pipe might never end
			return "", errors.New("not a regular file (want one in PEM)")
		}
		file, err = os.Open(path)
	}
	var wrong *fs.PathError
	if errors.As(err, &wrong) {
		return "", fmt.Errorf("%w (want a file in PEM that fnatd may read)", wrong.Err)
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxPEM+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxPEM {
		return "", fmt.Errorf("more than %d MiB (want a file in PEM)", maxPEM>>20)
	}
	return string(data), nil
}

// checkCertificates makes sure that a text in PEM holds certificates, and none that
// cannot be read: an authority that is passed over in silence would be missed later.
func checkCertificates(text string) error {
	found := 0
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		found++
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d in it: %w", found, err)
		}
	}
	if found == 0 {
		return errors.New("has no certificate in it (want at least one in PEM, between BEGIN CERTIFICATE and END CERTIFICATE)")
	}
	return nil
}

// readTLS reads by whom and for whom certificates of an https check must be good.
func (c *Check) readTLS(t *table) {
	c.SNI = hostName(c.Host)
	t.text("sni", func(s string) error { c.SNI = s; return checkSNI(s) })
	c.TLSVerify = t.where.has("ca") // who names an authority wants it asked
	t.boolean("tls_verify", &c.TLSVerify)
	t.file("ca", &c.CA, checkCertificates)
	if t.where.has("ca") && !c.TLSVerify {
		t.fail("ca", "has no effect with tls_verify = false (remove one of the two)")
	}
	t.file("certificate", &c.Certificate, checkCertificates)
	t.file("key", &c.Key, func(string) error { return nil })
	switch cert, key := t.where.has("certificate"), t.where.has("key"); {
	case cert && !key:
		t.fail("certificate", "has no effect without its key (add key, the path of a file in PEM)")
	case key && !cert:
		t.fail("key", "has no effect without certificate (add that or remove this)")
	case cert && !t.where.bad["certificate"] && !t.where.bad["key"]:
		if _, err := tls.X509KeyPair([]byte(c.Certificate.Text), []byte(c.Key.Text)); err != nil {
			t.fail("key", fmt.Sprintf("does not go with certificate %q: %v", c.Certificate.Path, err))
		}
	}
}

// readsFiles reports whether more than the text of the configuration says what s is.
func (s *Service) readsFiles() bool {
	reads := func(all []Check) bool {
		for i := range all {
			if all[i].CA.Path != "" || all[i].Certificate.Path != "" || all[i].Key.Path != "" {
				return true
			}
		}
		return false
	}
	for i := range s.Servers {
		if reads(s.Servers[i].Checks) {
			return true
		}
	}
	return reads(s.Checks)
}
