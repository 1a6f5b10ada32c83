package unit

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestLock(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "run", "fnatd.sock")
	lock, err := Lock("fnatd", socket, "do otherwise")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock("fnatd", socket, "do otherwise"); err == nil || !strings.Contains(err.Error(), "another fnatd (pid ") || !strings.HasSuffix(err.Error(), "or do otherwise") {
		t.Errorf("second lock: got %v, want it refused", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock("fnatd", socket, "do otherwise")
	if err != nil {
		t.Errorf("after unlock: got %v", err)
	} else {
		again.Close()
	}
}
