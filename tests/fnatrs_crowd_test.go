package tests

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// aLIP stands for whichever LIP is shown.
const aLIP = "a LIP"

// want returns whom a server shows for a client: by 6to4 a LIP, if it has no room
// for more.
func (s *shower) want(way string, client netip.AddrPort) string {
	if way == "6to4" && !s.roomy {
		return aLIP
	}
	return client.String()
}

// plain returns aLIP for a LIP, and what else is shown as it is.
func plain(shown string) string {
	if isLIP(parts(shown)) {
		return aLIP
	}
	return shown
}

// crowd has 10,000 clients ask a server by all ways in turn, twenty at a time: so
// accept does not sleep when a connection comes, and local ports are used again.
// None may be taken for another.
func (s *shower) crowd(t *testing.T, r *realServer) {
	const clients = 10_000
	workers := 20
	if s.atOnce > 0 {
		workers = s.atOnce
	}
	var before map[string]int
	if s.logged != nil {
		before = s.logs()
	}
	var asked sync.WaitGroup
	var mu sync.Mutex
	byPort, byAddress := map[string]int{}, map[string]int{} // as many as there should be in the log
	for i := range workers {
		asked.Go(func() {
			for j := range clients / workers {
				way := []string{"4to4", "6to6", "6to4"}[(i+j)%3]
				got, client, err := s.askOnce(t, r, ways(s.port)[way])
				want := s.want(way, client)
				if err != nil || s.logged == nil && plain(got) != want {
					t.Errorf("%s: got %q, %v, want %s", way, got, err, want)
					return
				}
				mu.Lock()
				byPort[want]++
				if want != aLIP {
					want = client.Addr().String()
				}
				byAddress[want]++
				mu.Unlock()
			}
		})
	}
	asked.Wait()
	if s.logged == nil || t.Failed() {
		return
	}
	got := map[string]int{}
	r.eventually(fmt.Sprintf("%s has logged %d clients", s.name, clients), func() bool {
		clear(got)
		lines := 0
		for shown, n := range s.since(before) {
			got[plain(shown)] += n
			lines += n
		}
		return lines == clients
	})
	if !cmp.Equal(got, byPort) && !cmp.Equal(got, byAddress) {
		t.Errorf("in the log, -want +got:\n%s", cmp.Diff(byPort, got))
	}
}

// askOnce asks as one client, and leaves.
func (s *shower) askOnce(t *testing.T, r *realServer, at netip.AddrPort) (answer string, client netip.AddrPort, err error) {
	c, err := r.Client.Dial(t.Context(), s.protocol, at.String())
	if err != nil {
		return "", client, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", client, err
	}
	answer, err = s.ask(c)
	return answer, netip.MustParseAddrPort(c.LocalAddr().String()), err
}
