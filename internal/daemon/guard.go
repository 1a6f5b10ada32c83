package daemon

import (
	"context"
	"time"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/dataplane"
	"github.com/fnatd/fnatd/internal/ctl"
	"github.com/fnatd/fnatd/synproxy"
)

// guardTime is how often SYNPROXY is looked after: its keys change once a minute, and
// must be in place within the seconds that synproxy leaves for that.
const guardTime = 250 * time.Millisecond

// guard looks after SYNPROXY until ctx ends.
func (d *Daemon) guard(ctx context.Context) {
	ticks := time.NewTicker(guardTime)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks.C:
			d.tendGuards(now)
		}
	}
}

func (d *Daemon) tendGuards(now time.Time) {
	for _, s := range d.engine.Tend(now, func(*dataplane.Service) uint64 { return 0 }) {
		what := "SYN cookies off: handshakes are finished again"
		if s.On {
			what = "SYN cookies on: too many handshakes are begun and not finished"
		}
		d.log.Warn(what, "service", s.Service.Name, "unfinished_per_second", s.Unfinished,
			"on_at", s.Service.SYNProxy.On, "off_below", s.Service.SYNProxy.Off)
	}
}

// cookieSecret returns the configured secret of SYN cookies, or a random one.
func cookieSecret(c *config.CookieSecret) synproxy.Secret {
	if c == nil {
		return synproxy.NewSecret()
	}
	return synproxy.SecretFrom(*c)
}

// guards describes SYNPROXY of every TCP service.
func (d *Daemon) guards() (all []ctl.Guard) {
	parity := d.engine.CookieKeys().Current
	for _, s := range d.engine.View().Services {
		if s.Guard == nil {
			continue
		}
		offer := s.Guard.Offer(parity)
		g := ctl.Guard{
			Service: s.Name, Mode: s.SYNProxy.Mode.String(), On: s.Guard.On(), Answer: s.SYNProxy.Answer.String(),
			Offer: ctl.Offer{MSS: offer.MSS, Window: offer.Window, WindowScale: int(offer.Scale), SACK: offer.SACK, Timestamps: offer.Timestamps},
		}
		if offer.Scale == synproxy.NoScale {
			g.Offer.WindowScale = -1
		}
		for e, n := range s.Guard.Counts() {
			g.Events = append(g.Events, ctl.Event{Name: dataplane.GuardEvent(e).String(), Count: n})
		}
		all = append(all, g)
	}
	return all
}
