package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/fnatd/fnatd/synproxy"
)

// SetCookieKeys sets the keys that cookies are made with, and what is added to the
// clock of timestamps (Secret.ClockOffset). Until it is first called, no SYN is answered
// on the spot. Call it whenever Secret.Keys returns others: at the lead before an
// epoch, and when it begins.
func (p *Program) SetCookieKeys(keys *synproxy.Keys, clockOffset uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.secrets
	for i, k := range keys.ByParity {
		next.ByParity[i].K0, next.ByParity[i].K1 = k.K0, k.K1
	}
	next.ClockOffset = clockOffset
	// A key is in its place before its parity is current. One that comes when it is
	// current already, in a call that is late, may spoil a packet's cookie or two.
	for _, parity := range []uint32{p.secrets.Current, keys.Current} {
		next.Current = parity
		if err := p.setSecretsLocked(next); err != nil {
			return err
		}
	}
	return nil
}

// newSecrets returns those of a program that has no cookie keys yet.
func newSecrets() (s xdpCookieSecrets) {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	s.Limits.K0, s.Limits.K1 = binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])
	return s
}

func (p *Program) setSecretsLocked(s xdpCookieSecrets) error {
	if s == p.secrets {
		return nil
	}
	if err := p.objs.Secrets.Put(uint32(0), s); err != nil {
		return fmt.Errorf("xdp program: cookie keys: %w", err)
	}
	p.secrets = s
	return nil
}
