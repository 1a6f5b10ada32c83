package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fnatd/fnatd/internal/ctl"
)

// A view is how fnatctl top looks at fnatd. The zero view has no bounds.
type view struct {
	width, height int // of the screen; 0: no bound
	offset        int // rows scrolled away
	order         order
	rows          int // that there were to scroll, in the last lines
	name          int // width of the column of names
}

// An order is that of services in a view.
type order uint8

const (
	byConfig order = iota
	byPackets
	byConnections
	numOrders
)

var orderNames = [numOrders]string{"as configured", "by packets", "by new connections"}

// A key is one that a view knows.
type key uint8

const (
	keyNone key = iota
	keyQuit
	keyUp
	keyDown
	keyPageUp
	keyPageDown
	keyOrder
)

// press does what a key says, and reports whether to go on.
func (v *view) press(k key) bool {
	page := max(v.height-headLines-1, 1)
	switch k {
	case keyQuit:
		return false
	case keyUp:
		v.offset--
	case keyDown:
		v.offset++
	case keyPageUp:
		v.offset -= page
	case keyPageDown:
		v.offset += page
	case keyOrder:
		v.order, v.offset = (v.order+1)%numOrders, 0
	}
	v.offset = max(min(v.offset, v.rows-page), 0)
	return true
}

// headLines is how many lines stand above what can be scrolled.
const headLines = 7

// lines returns the view of what happened between two snapshots, for a whole
// screen if it has bounds.
func (v *view) lines(before, now *snapshot) []string {
	v.name = nameWidth(now.services)
	lines := append(head(before, now), v.heading())
	rows := v.services(before, now)
	v.rows = len(rows)
	if v.height == 0 {
		return trim(append(lines, rows...))
	}
	room := max(v.height-len(lines)-1, 0)
	v.offset = max(min(v.offset, len(rows)-room), 0)
	shown := rows[min(v.offset, len(rows)):min(v.offset+room, len(rows))]
	lines = append(lines, shown...)
	for len(lines) < v.height-1 {
		lines = append(lines, "")
	}
	more := ""
	if hidden := len(rows) - len(shown); hidden > 0 {
		more = fmt.Sprintf("rows %d to %d of %d, ", v.offset+1, v.offset+len(shown), len(rows))
	}
	lines = append(lines, more+"order "+orderNames[v.order]+" (o), q quits")
	for i := range lines {
		lines[i] = fit(lines[i], v.width)
	}
	return trim(lines)
}

func trim(lines []string) []string {
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// head returns the lines about the whole program.
func head(before, now *snapshot) []string {
	s := &now.stats
	var was, is ctl.Traffic
	for i := range before.services {
		was = sum(was, before.services[i].Traffic)
	}
	for i := range now.services {
		is = sum(is, now.services[i].Traffic)
	}
	r := ratesOf(before, now, was, is)
	idle := make([]string, len(s.Workers))
	for i := range s.Workers {
		idle[i] = fmt.Sprintf("%d %s", s.Workers[i].ID, percent(busy(before, now, i), 1))
	}
	t := &s.Table
	return []string{
		fmt.Sprintf("fnatd %s, pid %d, up %s, %s", s.Version, s.PID, uptime(s.UptimeSeconds), now.at.Format("15:04:05")),
		fmt.Sprintf("table    %d of %d connections (%s), %d half-open, %s new/s",
			t.Connections, t.Capacity, percent(float64(t.Connections), float64(t.Capacity)), t.HalfOpen, short(r.connections)),
		fmt.Sprintf("traffic  in %s packets/s, %sbit/s; out %s packets/s, %sbit/s",
			short(r.inPackets), short(8*r.inBytes), short(r.outPackets), short(8*r.outBytes)),
		"busy     " + strings.Join(idle, ", "),
		"drops    " + dropsBetween(before, now),
		"",
	}
}

// busy returns the share of the time that worker i did not wait.
func busy(before, now *snapshot, i int) float64 {
	span := now.at.Sub(before.at).Seconds()
	if span <= 0 || i >= len(before.stats.Workers) {
		return 0
	}
	idle := now.stats.Workers[i].IdleSeconds - before.stats.Workers[i].IdleSeconds
	return max(min(1-idle/span, 1), 0)
}

// maxDrops is how many reasons of drops are shown.
const maxDrops = 5

// dropsBetween returns the drops in a second by their reasons, the most first.
func dropsBetween(before, now *snapshot) string {
	was := map[string]uint64{}
	for _, d := range before.drops {
		was[d.Reason] = d.Count
	}
	type rate struct {
		reason string
		n      float64
	}
	var all []rate
	for _, d := range now.drops {
		if n := perSecond(before, now, was[d.Reason], d.Count); n > 0 {
			all = append(all, rate{d.Reason, n})
		}
	}
	if len(all) == 0 {
		return "none"
	}
	slices.SortStableFunc(all, func(a, b rate) int { return cmp.Compare(b.n, a.n) })
	var texts []string
	for _, r := range all[:min(len(all), maxDrops)] {
		texts = append(texts, r.reason+" "+short(r.n)+"/s")
	}
	return strings.Join(texts, ", ")
}

const serviceRow = "%-4s %-*s %7s %7s %7s %8s %8s %8s %8s %6s  %s"

func (v *view) heading() string {
	return fmt.Sprintf(serviceRow, "Prot", v.name, "Virtual / Real", "New/s", "In/s", "Out/s", "In bit/s", "Outbit/s", "Active", "Inactive", "Weight", "Service / state")
}

// services returns a row for each service and below it one for each of its real
// servers.
func (v *view) services(before, now *snapshot) (rows []string) {
	type measured struct {
		*ctl.Service
		rates  rates
		before map[string]ctl.Traffic // by real server
	}
	old := map[string]*ctl.Service{}
	for i := range before.services {
		s := &before.services[i]
		old[s.Protocol+s.Virtual.String()] = s
	}
	all := make([]measured, len(now.services))
	for i := range now.services {
		s := &now.services[i]
		m := measured{Service: s, before: map[string]ctl.Traffic{}}
		if was := old[s.Protocol+s.Virtual.String()]; was != nil {
			m.rates = ratesOf(before, now, was.Traffic, s.Traffic)
			for _, r := range was.Servers {
				m.before[r.Real.String()] = r.Traffic
			}
		}
		all[i] = m
	}
	slices.SortStableFunc(all, func(a, b measured) int {
		switch v.order {
		case byPackets:
			return cmp.Compare(b.rates.inPackets+b.rates.outPackets, a.rates.inPackets+a.rates.outPackets)
		case byConnections:
			return cmp.Compare(b.rates.connections, a.rates.connections)
		}
		return 0
	})
	for _, s := range all {
		active, inactive := 0, 0
		for i := range s.Servers {
			active, inactive = active+s.Servers[i].Active, inactive+s.Servers[i].Inactive
		}
		rows = append(rows, v.row(strings.ToUpper(s.Protocol), s.Virtual.String(), &s.rates, active, inactive, "", s.Name))
		for i := range s.Servers {
			r := &s.Servers[i]
			var between rates
			if was, known := s.before[r.Real.String()]; known {
				between = ratesOf(before, now, was, r.Traffic)
			}
			state := cmp.Or(note(r), "ok")
			rows = append(rows, v.row("  ->", r.Real.String(), &between, r.Active, r.Inactive, fmt.Sprint(r.Weight), state))
		}
	}
	return rows
}

func (v *view) row(kind, name string, r *rates, active, inactive int, weight, what string) string {
	return fmt.Sprintf(serviceRow, kind, v.name, name, short(r.connections), short(r.inPackets), short(r.outPackets),
		short(8*r.inBytes), short(8*r.outBytes), count(uint64(active)), count(uint64(inactive)), weight, what)
}

// rates are what went through in a second.
type rates struct{ connections, inPackets, outPackets, inBytes, outBytes float64 }

func ratesOf(before, now *snapshot, was, is ctl.Traffic) rates {
	per := func(was, is uint64) float64 { return perSecond(before, now, was, is) }
	return rates{
		per(was.Connections, is.Connections),
		per(was.InPackets, is.InPackets), per(was.OutPackets, is.OutPackets),
		per(was.InBytes, is.InBytes), per(was.OutBytes, is.OutBytes),
	}
}

// perSecond returns by how much a counter rose in a second. One that fell began
// anew with fnatd.
func perSecond(before, now *snapshot, was, is uint64) float64 {
	span := now.at.Sub(before.at).Seconds()
	if span <= 0 || is < was {
		return 0
	}
	return float64(is-was) / span
}

func sum(a, b ctl.Traffic) ctl.Traffic {
	return ctl.Traffic{
		Connections: a.Connections + b.Connections,
		InPackets:   a.InPackets + b.InPackets, OutPackets: a.OutPackets + b.OutPackets,
		InBytes: a.InBytes + b.InBytes, OutBytes: a.OutBytes + b.OutBytes,
	}
}

// short formats a rate in three digits and a unit: 0, 7.5, 12k, 1.2M.
func short(n float64) string {
	const units = "\x00kMGTP"
	i := 0
	for n >= 999.5 && i < len(units)-1 {
		n /= 1000
		i++
	}
	text := fmt.Sprintf("%.1f", n)
	if n >= 9.95 || i == 0 && n == float64(int(n)) {
		text = fmt.Sprintf("%.0f", n)
	}
	return text + strings.Trim(units[i:i+1], "\x00")
}

// fit cuts text to width, unless that is 0. What cannot be shown in a place of its
// own becomes a question mark.
func fit(text string, width int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, text)
	if runes := []rune(text); width > 0 && len(runes) > width {
		return string(runes[:width])
	}
	return text
}
