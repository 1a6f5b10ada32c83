package ctl

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (f *fakeBackend) Status() Status { return f.status }

func (f *fakeBackend) Stop(_ context.Context, o StopOrder) Stopping {
	f.asked = o
	return f.stopping
}

func TestStatus(t *testing.T) {
	want := Status{
		Version: "v1", Workers: 2, State: State{Path: "/run/fnatd/state", Began: time.Unix(1, 0).UTC(), Adoptions: 3},
		Start: Start{Adopted: true, Kept: 7, Lost: []Loss{NewLoss(NoRoom, 4)}, TookSeconds: 0.5}, Notes: Notes{AgeSeconds: 0.25},
	}
	got, err := NewClient(serve(t, &fakeBackend{status: want})).Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestStop(t *testing.T) {
	for _, o := range []StopOrder{{}, {Forget: true}} {
		b := &fakeBackend{stopping: Stopping{PID: 4711, Connections: 7, State: "/run/fnatd/state"}}
		got, err := NewClient(serve(t, b)).Stop(context.Background(), o)
		if err != nil || got != b.stopping || b.asked != o {
			t.Errorf("%+v: got %+v, %v and asked %+v, want %+v", o, got, err, b.asked, b.stopping)
		}
	}
}
