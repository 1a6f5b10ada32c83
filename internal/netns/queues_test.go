package netns

import (
	"testing"

	"github.com/fnatd/fnatd/dataplane/xsk"
)

func TestSetQueues(t *testing.T) {
	r := ForTest(t, Topology{Queues: 2, MaxQueues: 4})
	check := func(want int) {
		t.Helper()
		var got int
		if err := r.Client.Do(func() (err error) {
			got, err = xsk.Queues("eth0")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("got %d queues, want %d", got, want)
		}
	}
	check(2)
	for _, n := range []int{4, 1, 3} {
		if err := r.Client.SetQueues("eth0", n); err != nil {
			t.Fatal(err)
		}
		check(n)
	}
	if err := r.Client.SetQueues("eth0", 5); err == nil {
		t.Error("5 queues of 4: want an error")
	}
	check(3)
}
