package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/internal/cli"
	"github.com/fnatd/fnatd/internal/ctl"
)

// snapshots are two of the fake, a second apart, in which things have happened.
func snapshots() (before, now snapshot) {
	b := &fakeBackend{}
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	before = snapshot{at, b.Stats(), b.Services(), b.Drops()}
	now = snapshot{at.Add(time.Second), b.Stats(), b.Services(), b.Drops()}
	add := func(t *ctl.Traffic, n uint64) {
		*t = sum(*t, ctl.Traffic{Connections: n, InPackets: 100 * n, OutPackets: 200 * n, InBytes: 10_000 * n, OutBytes: 200_000 * n})
	}
	add(&now.services[0].Traffic, 120)
	add(&now.services[0].Servers[0].Traffic, 100)
	add(&now.services[0].Servers[2].Traffic, 20)
	add(&now.services[1].Traffic, 7)
	now.stats.Workers[0].IdleSeconds = before.stats.Workers[0].IdleSeconds + 0.25
	now.stats.Workers[1].IdleSeconds = before.stats.Workers[1].IdleSeconds + 1
	now.drops[0].Count += 1500
	now.drops[2].Count++
	return before, now
}

func TestView(t *testing.T) {
	before, now := snapshots()
	t.Run("top", func(t *testing.T) {
		golden(t, strings.Join((&view{}).lines(&before, &now), "\n")+"\n")
	})
	t.Run("top_on_a_small_screen", func(t *testing.T) {
		v := &view{width: 60, height: 11}
		lines := v.lines(&before, &now)
		if len(lines) != v.height {
			t.Errorf("got %d lines, want %d", len(lines), v.height)
		}
		for _, l := range lines {
			if n := utf8.RuneCountInString(l); n > v.width {
				t.Errorf("got a line of %d, want at most %d: %q", n, v.width, l)
			}
		}
		golden(t, strings.Join(lines, "\n")+"\n")
	})
	t.Run("the_first_view_has_no_rates", func(t *testing.T) {
		for _, l := range (&view{}).lines(&before, &before) {
			if strings.Contains(l, "NaN") || strings.Contains(l, "Inf") {
				t.Errorf("got %q", l)
			}
		}
	})
	t.Run("counters_that_began_anew_are_no_rate", func(t *testing.T) {
		got := (&view{}).lines(&now, &snapshot{at: now.at.Add(time.Second), services: before.services, drops: before.drops})
		if !strings.Contains(strings.Join(got, "\n"), "traffic  in 0 packets/s, 0bit/s; out 0 packets/s, 0bit/s\n") {
			t.Errorf("got\n%s", strings.Join(got, "\n"))
		}
	})
	t.Run("any_size_of_screen", func(t *testing.T) {
		for width := range 130 {
			for height := range 20 {
				v := &view{width: width, height: height, offset: 3}
				if lines := v.lines(&before, &now); height > headLines && len(lines) != height {
					t.Fatalf("%dx%d: got %d lines", width, height, len(lines))
				}
			}
		}
	})
}

func TestOrderOfServices(t *testing.T) {
	before, now := snapshots()
	first := func(v *view) string {
		return strings.Fields(v.lines(&before, &now)[headLines])[0]
	}
	now.services[0], now.services[1] = now.services[1], now.services[0]
	for o, want := range map[order]string{byConfig: "UDP", byPackets: "TCP", byConnections: "TCP"} {
		if got := first(&view{order: o}); got != want {
			t.Errorf("%s: got %s first, want %s", orderNames[o], got, want)
		}
	}
}

// A fakeScreen presses keys, one after each view, and keeps the views.
type fakeScreen struct {
	press  []key
	shown  [][]string
	typing chan key
	err    error
}

func (f *fakeScreen) size() (int, int) { return 120, headLines + 3 }

func (f *fakeScreen) keys() <-chan key {
	if f.typing == nil {
		f.typing = make(chan key, len(f.press))
		for _, k := range f.press {
			f.typing <- k
		}
		close(f.typing)
	}
	return f.typing
}

func (f *fakeScreen) show(lines []string) error {
	f.shown = append(f.shown, lines)
	return f.err
}

func TestWatch(t *testing.T) {
	before, now := snapshots()
	asked := 0
	ask := func(context.Context) (snapshot, error) {
		asked++
		if asked == 1 {
			return before, nil
		}
		return now, nil
	}
	firstRow := func(lines []string) string { return lines[headLines] }
	t.Run("scrolls_and_quits", func(t *testing.T) {
		s := &fakeScreen{press: []key{keyDown, keyDown, keyUp, keyPageDown, keyPageDown, keyPageDown, keyPageUp, keyNone, keyQuit, keyDown}}
		w := &topper{ask: ask, interval: time.Hour}
		if err := w.watch(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		if len(s.shown) != 9 {
			t.Fatalf("got %d views, want one at the start and one after each key before q", len(s.shown))
		}
		var got []string
		for _, lines := range s.shown {
			got = append(got, strings.Fields(firstRow(lines))[1])
		}
		real := func(n int) string { return fmt.Sprintf("10.0.2.%d:8080", n) }
		want := []string{
			"203.0.113.10:80", real(11), real(12), real(11), real(13), real(13), real(13), real(11), real(11),
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("first rows (-got +want):\n%s", diff)
		}
	})
	t.Run("ends_with_its_keyboard", func(t *testing.T) {
		w := &topper{ask: ask, interval: time.Hour}
		if err := w.watch(context.Background(), &fakeScreen{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("ends_when_the_screen_is_gone", func(t *testing.T) {
		w := &topper{ask: ask, interval: time.Hour}
		gone := errors.New("gone")
		if err := w.watch(context.Background(), &fakeScreen{err: gone}); !errors.Is(err, gone) {
			t.Errorf("got %v, want %v", err, gone)
		}
	})
	t.Run("says_that_fnatd_is_away_and_goes_on", func(t *testing.T) {
		s := &fakeScreen{press: []key{keyNone, keyQuit}}
		w := &topper{ask: func(context.Context) (snapshot, error) { return snapshot{}, errors.New("nobody answers") }, interval: time.Hour}
		if err := w.watch(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		if last := s.shown[1]; last[len(last)-1] != "nobody answers" {
			t.Errorf("got %q in the last line", last[len(last)-1])
		}
	})
}

func TestReadKey(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("jk\x1b[A\x1b[B\x1bOA\x1b[5~\x1b[6~ ox\x1b[1;5C\x1b[[[[[[[[[[[[q\x1b"))
	r.Peek(1) // all is there, as a terminal sends it
	var got []key
	for {
		k, err := readKey(r)
		if err != nil {
			break
		}
		if k != keyNone {
			got = append(got, k)
		}
	}
	want := []key{keyDown, keyUp, keyUp, keyDown, keyUp, keyPageUp, keyPageDown, keyPageDown, keyOrder, keyQuit}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestShort(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0", 1: "1", 7.5: "7.5", 9.94: "9.9", 9.96: "10", 12: "12", 999: "999", 999.6: "1.0k", 1200: "1.2k", 12345: "12k", 999_600: "1.0M", 1.5e9: "1.5G", 1e18: "1000P",
	} {
		if got := short(n); got != want {
			t.Errorf("%v: got %s, want %s", n, got, want)
		}
	}
}

func TestFitShowsNoControlSequences(t *testing.T) {
	if got, want := fit("a\x1b[2Jb\xff\n", 0), "a?[2Jb??"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTopWithoutATerminal(t *testing.T) {
	socket := serve(t, &fakeBackend{})
	var out, errs bytes.Buffer
	args := []string{"--socket", socket, "top", "--frames", "2", "--interval", "100ms"}
	code := run(cli.Env{Args: args, Stdout: &out, Stderr: &errs})
	if code != cli.OK || strings.Count(out.String(), "\nProt ") != 2 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("got exit code %d, %s and\n%s", code, errs.String(), out.String())
	}
	for _, bad := range [][]string{{"top", "--json"}, {"top", "--interval", "1ms"}, {"top", "--frames", "-1"}} {
		if code, _, _ := fnatctl(append([]string{"--socket", socket}, bad...)...); code != cli.Failure {
			t.Errorf("%v: got exit code %d, want %d", bad, code, cli.Failure)
		}
	}
}
