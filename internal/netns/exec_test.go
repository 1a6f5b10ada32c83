package netns

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	r := ForTest(t, Topology{})
	t.Run("is_in_the_namespace", func(t *testing.T) {
		out, err := r.Balancer.Run(t.Context(), "cat", "/proc/self/net/dev")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, "wan0") {
			t.Errorf("no wan0 among\n%s", out)
		}
	})
	t.Run("sees_the_mounts_of_this_process", func(t *testing.T) {
		out, err := r.Balancer.Run(t.Context(), "readlink", "/proc/self/ns/mnt")
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := os.Readlink("/proc/self/ns/mnt"); strings.TrimSpace(out) != want {
			t.Errorf("got %q, want %q", out, want)
		}
	})
	t.Run("error_says_what_the_program_said", func(t *testing.T) {
		_, err := r.Client.Run(t.Context(), "sh", "-c", "echo it broke; exit 3")
		if err == nil || !strings.Contains(err.Error(), "it broke") || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("ends_with_its_context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := r.Client.Run(ctx, "sh", "-c", "sleep 600; true"); err == nil {
			t.Error("no error")
		}
	})
	t.Run("no_such_program", func(t *testing.T) {
		if _, err := r.Client.Run(t.Context(), "/no/such/program"); err == nil {
			t.Error("no error")
		}
	})
}

func TestBackground(t *testing.T) {
	r := ForTest(t, Topology{})
	// It says when its trap is set: a shell that gets the signal earlier just dies.
	p, err := r.Client.Background("sh", "-c", `trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done`)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.Output(), "ready"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never ready: %q", p.Output())
		}
	}
	if err := p.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if got, want := p.Output(), "ready\nbye\n"; got != want {
		t.Errorf("output: got %q, want %q", got, want)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
	p.Kill() // of one that has ended does nothing
}
