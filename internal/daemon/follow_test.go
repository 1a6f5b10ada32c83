package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWorkers(t *testing.T) {
	for _, test := range []struct {
		counts      []int
		limit, want int
	}{
		{[]int{4}, 0, 4},
		{[]int{8, 2, 4}, 0, 2},
		{[]int{8, 4}, 3, 3},
		{[]int{8, 2}, 4, 2}, // fewer than at the start: served all the same
	} {
		if got := workers(test.counts, test.limit); got != test.want {
			t.Errorf("queues %v, limit %d: got %d, want %d", test.counts, test.limit, got, test.want)
		}
	}
}

func TestMoreWorkersThanQueues(t *testing.T) {
	d := &Daemon{ports: []port{{name: "eth0"}, {name: "eth1"}}}
	if err := d.checkQueues([]int{4, 2}); err != nil {
		t.Errorf("auto: got %v", err)
	}
	d.settings.Queues = 2
	if err := d.checkQueues([]int{4, 2}); err != nil {
		t.Errorf("the smallest number: got %v", err)
	}
	d.settings.Queues = 4
	want := "interface \"eth1\": 2 receive queues for 4 workers: run `ethtool -L eth1 combined 4`, or set queues in [dataplane] to 2 or \"auto\""
	if err := d.checkQueues([]int{4, 2}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestQueuesServedWhenAChangeFails(t *testing.T) {
	for _, test := range []struct{ before, now, want []int }{
		{[]int{2, 2}, []int{4, 2}, []int{2, 2}}, // more: those there were
		{[]int{4, 2}, []int{2, 4}, []int{2, 2}}, // fewer: those that are left
		{[]int{0, 0}, []int{2, 2}, []int{1, 1}}, // none were: as few as possible
	} {
		if diff := cmp.Diff(test.want, common(test.before, test.now)); diff != "" {
			t.Errorf("%v to %v (-want +got):\n%s", test.before, test.now, diff)
		}
	}
}

func TestRetry(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	four, two := []int{4}, []int{2}
	t.Run("at_once_at_first", func(t *testing.T) {
		var r retry
		if !r.due(four, start) {
			t.Error("a change is not followed")
		}
	})
	t.Run("ever_later", func(t *testing.T) {
		var r retry
		var waits []time.Duration
		now := start
		for range 8 {
			wait := r.failed(four, now)
			if r.due(four, now.Add(wait-1)) || !r.due(four, now.Add(wait)) {
				t.Errorf("not due after just %v", wait)
			}
			waits = append(waits, wait/time.Second)
			now = now.Add(wait)
		}
		if diff := cmp.Diff([]time.Duration{1, 2, 4, 8, 16, 32, 60, 60}, waits); diff != "" {
			t.Errorf("seconds (-want +got):\n%s", diff)
		}
	})
	t.Run("another_number_at_once", func(t *testing.T) {
		var r retry
		r.failed(four, start)
		r.failed(four, start)
		if !r.due(two, start) {
			t.Error("another change has to wait")
		}
		if got := r.failed(two, start); got != firstRetry {
			t.Errorf("got %v, want to begin anew with %v", got, firstRetry)
		}
	})
	t.Run("an_error_is_logged_once", func(t *testing.T) {
		var r retry
		gone := errors.New("no such device")
		var news []bool
		for _, err := range []error{gone, gone, nil, gone} {
			news = append(news, r.isNews(err))
		}
		if diff := cmp.Diff([]bool{true, false, false, true}, news); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
