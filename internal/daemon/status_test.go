package daemon

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/ctl"
)

func TestLegacyAnswer(t *testing.T) {
	t.Run("nothing_found", func(t *testing.T) {
		got := (&legacy{}).answer()
		if got.Adopted || got.Kept != 0 || got.LostSum() != 0 {
			t.Errorf("got %+v, want nothing adopted and nothing lost", got)
		}
	})
	t.Run("what_is_not_kept_is_lost", func(t *testing.T) {
		found := &conntrack.Adoption{Kept: 100, Undone: 2, Entries: 1}
		found.Dropped[conntrack.Damaged], found.Dropped[conntrack.Repeated] = 3, 4
		l := &legacy{found: found, left: 10, gone: 5}
		got := l.answer()
		counts := map[string]int{}
		for _, loss := range got.Lost {
			counts[loss.Reason] = loss.Count
		}
		want := map[string]int{
			"damaged": 3, "unlisted": 0, "no_real_server": 0, "no_local_address": 0, "repeated": 4, ctl.NoRoom: 10, ctl.NotConfigured: 5,
		}
		if d := cmp.Diff(want, counts); d != "" {
			t.Errorf("lost (-want +got):\n%s", d)
		}
		if !got.Adopted || got.Kept != 85 || got.Undone != 2 || got.DamagedEntries != 1 || got.LostSum() != l.lost() {
			t.Errorf("got %+v, want 85 kept, 2 undone, 1 damaged entry and %d lost", got, l.lost())
		}
	})
	t.Run("every_loss_has_a_meaning", func(t *testing.T) {
		for _, loss := range (&legacy{}).losses() {
			if loss.Meaning == "" {
				t.Errorf("%s: no meaning", loss.Reason)
			}
		}
	})
}
