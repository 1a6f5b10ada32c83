package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestWatchdog(t *testing.T) {
	var log bytes.Buffer
	var silence []time.Duration
	w := watchdog{
		log:     slog.New(slog.NewTextHandler(&log, nil)),
		silence: func() []time.Duration { return silence }, limit: time.Second, stuck: map[int]bool{},
	}
	const ms = time.Millisecond
	for _, step := range []struct {
		name    string
		silence []time.Duration
		well    bool
		logs    string // nothing, if empty
	}{
		{"all_are_lively", []time.Duration{50 * ms, 0}, true, ""},
		{"one_is_stuck", []time.Duration{50 * ms, 1300 * ms}, false, "level=ERROR msg=\"worker is stuck: the service manager is not told that fnatd is well\" worker=1 for=1.3s"},
		{"and_still_is", []time.Duration{50 * ms, 2300 * ms}, false, ""},
		{"another_one_too", []time.Duration{1001 * ms, 3300 * ms}, false, "worker=0 for=1.001s"},
		{"one_goes_on", []time.Duration{2 * ms, 4300 * ms}, false, "level=WARN msg=\"worker goes on\" worker=0"},
		{"the_other_is_at_rest", []time.Duration{2 * ms, 0}, true, "msg=\"worker goes on\" worker=1"},
		{"one_more_comes", []time.Duration{2 * ms, 0, 1000 * ms}, true, ""},
		{"and_is_stuck", []time.Duration{2 * ms, 0, 2000 * ms}, false, "worker=2 for=2s"},
	} {
		silence = step.silence
		log.Reset()
		if got := w.well(); got != step.well {
			t.Errorf("%s: got %v, want %v", step.name, got, step.well)
		}
		if got := log.String(); strings.Count(got, "\n") > 1 || (got != "") != (step.logs != "") || !strings.Contains(got, step.logs) {
			t.Errorf("%s: got the log %q, want one line with %q", step.name, got, step.logs)
		}
	}
}
