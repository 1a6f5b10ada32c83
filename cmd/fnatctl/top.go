package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fnatd/fnatd/internal/ctl"
)

// minInterval keeps fnatctl top from being a load itself. Our choice.
const minInterval = 100 * time.Millisecond

// top is the command top.
func (p *program) top() *cobra.Command {
	var interval time.Duration
	var frames int
	cmd := &cobra.Command{
		Use: "top", Short: "Watch services, servers, rates and drops", Args: cobra.NoArgs,
		Long: "Watch services, servers, rates and drops on the terminal, until q is pressed.\n" +
			"The arrow keys, page up and down scroll; o changes the order. Where the output\n" +
			"is no terminal, or with --frames, the views are printed one after the other.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case p.json:
				return errors.New("top is for people: ask services, stats and drops with --json")
			case interval < minInterval:
				return fmt.Errorf("--interval %v: want at least %v", interval, minInterval)
			case frames < 0:
				return fmt.Errorf("--frames %d: want 1 or more, or 0 for no end", frames)
			}
			t := &topper{ask: p.snapshot, interval: interval}
			stdin, stdout := asFile(p.env.Stdin), asFile(p.env.Stdout)
			if cmd.Flags().Changed("frames") || stdin == nil || stdout == nil || !isTerminal(stdin, stdout) {
				return t.print(context.Background(), p.env.Stdout, frames)
			}
			return onTerminal(stdin, stdout, func(s screen) error { return t.watch(context.Background(), s) })
		},
	}
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "look again after this `TIME`")
	cmd.Flags().IntVar(&frames, "frames", 0, "print so many views and end; 0 is no end")
	return cmd
}

// asFile returns v if it is a file, and nil otherwise.
func asFile(v any) *os.File {
	f, _ := v.(*os.File)
	return f
}

// A snapshot is what fnatd said at one moment.
type snapshot struct {
	at       time.Time
	stats    ctl.Stats
	services []ctl.Service
	drops    []ctl.Drop
}

func (p *program) snapshot(ctx context.Context) (s snapshot, err error) {
	c := p.client()
	s.at = time.Now()
	if s.services, err = c.Services(ctx); err != nil {
		return s, err
	}
	if s.stats, err = c.Stats(ctx); err != nil {
		return s, err
	}
	s.drops, err = c.Drops(ctx)
	return s, err
}

// A topper watches fnatd.
type topper struct {
	ask      func(context.Context) (snapshot, error)
	interval time.Duration
	view     view
}

// A screen shows views and hears keys.
type screen interface {
	size() (width, height int)
	keys() <-chan key // closed when nobody will press any more
	show(lines []string) error
}

// watch shows views on a screen until q is pressed. When fnatd does not answer it
// says so, and goes on: it may be restarting.
func (t *topper) watch(ctx context.Context, s screen) error {
	ticks := time.NewTicker(t.interval)
	defer ticks.Stop()
	now, err := t.ask(ctx)
	before := now
	for {
		t.view.width, t.view.height = s.size()
		lines := t.view.lines(&before, &now)
		if err != nil {
			lines[len(lines)-1] = fit(err.Error(), t.view.width)
		}
		if err := s.show(lines); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case k, ok := <-s.keys():
			if !ok || !t.view.press(k) {
				return nil
			}
		case <-ticks.C:
			var next snapshot
			if next, err = t.ask(ctx); err == nil {
				before, now = now, next
			}
		}
	}
}

// print prints so many views, or goes on for ever if frames is 0.
func (t *topper) print(ctx context.Context, w io.Writer, frames int) error {
	before, err := t.ask(ctx)
	for n := 0; err == nil && (frames == 0 || n < frames); n++ {
		time.Sleep(t.interval)
		var now snapshot
		if now, err = t.ask(ctx); err != nil {
			break
		}
		if n > 0 {
			fmt.Fprintln(w)
		}
		if _, err = fmt.Fprintln(w, strings.Join(t.view.lines(&before, &now), "\n")); err != nil {
			break
		}
		before = now
	}
	return err
}
