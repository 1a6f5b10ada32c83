package tests

import (
	"testing"

	"github.com/fnatd/fnatd/internal/netns"
)

// TestUpgrade has fnatd replaced in mid-traffic. Nobody may notice.
func TestUpgrade(t *testing.T) {
	for _, v := range []variant{
		{netns.TwoArm, 1, fourToFour, false, ""},
		{netns.OneArm, 2, sixToSix, false, ""},
		{netns.TwoArm, 2, sixToFour, false, "userspace"},
		{netns.TwoArm, 1, fourToFour, false, "xdp"},
	} {
		t.Run(v.String(), func(t *testing.T) { upgraded(newBed(t, v, 2)) })
	}
}

func upgraded(b *bed) {
	b.nginx(0)
	b.nginx(1)
	b.start(b.web(0, 1))
	conns := b.kept(500, 80)
	b.request(conns)
	for range 3 {
		before := b.lb.PID()
		u, err := b.lb.Upgrade("")
		if err != nil {
			b.Fatalf("%v\n%s", err, b.lb.Log())
		}
		b.Logf("gap %v", u.Gap())
		if b.lb.PID() == before {
			b.Error("it is the same process")
		}
		b.request(conns)
		b.request(b.kept(10, 80))
	}
}
