package unit

import (
	"net"
	"path/filepath"
	"testing"
)

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	Notify("nobody listens")

	path := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", path)
	Notify("nobody listens yet")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	Notify("READY=1")
	buf := make([]byte, 64)
	n, err := l.Read(buf)
	if got := string(buf[:n]); err != nil || got != "READY=1" {
		t.Errorf("got %q, %v, want READY=1", got, err)
	}
}
