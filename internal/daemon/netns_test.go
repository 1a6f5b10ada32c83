package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fnatd/fnatd/dataplane/bpf"
)

func TestPinDirIsOfTheNamespace(t *testing.T) {
	ns, err := os.Readlink("/proc/self/ns/net") // net:[4026531833]
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(bpf.DefaultPinDir, strings.Trim(ns, "net:[]"))
	if got := pinDir(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRemovePinDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pins")
	pin := filepath.Join(dir, "eth0")
	if err := removePinDir(dir); err != nil {
		t.Errorf("no directory: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pin, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removePinDir(dir); err != nil {
		t.Errorf("with a pin: %v", err)
	}
	if err := os.Remove(pin); err != nil {
		t.Errorf("the pin has gone: %v", err)
	}
	if err := removePinDir(dir); err != nil {
		t.Errorf("empty: %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("empty: it is still there: %v", err)
	}
}
