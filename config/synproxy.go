package config

import (
	"encoding/hex"
	"fmt"
)

// A SYNProxyMode says when a service's SYNs are answered by cookies.
type SYNProxyMode string

// The modes of [service.synproxy].
const (
	SYNProxyOff      SYNProxyMode = "off"
	SYNProxyOn       SYNProxyMode = "on"
	SYNProxyAdaptive SYNProxyMode = "adaptive" // while many handshakes are begun and not finished
)

// A SYNAnswer says where SYNs are answered.
type SYNAnswer string

// The places where SYNs can be answered.
const (
	AnswerAuto      SYNAnswer = "auto"      // by the XDP program if the interface can send from there
	AnswerXDP       SYNAnswer = "xdp"       // by the XDP program
	AnswerUserspace SYNAnswer = "userspace" // by the workers
)

// A BadACK says what becomes of a segment that belongs to no connection and brings
// no good cookie.
type BadACK string

// What may become of it.
const (
	DropBadACK  BadACK = "drop"
	ResetBadACK BadACK = "reset" // its sender gets a RST
)

// A SYNProxy is [service.synproxy]. MSS, WindowScale, SACK and Timestamps are what
// clients are offered until the real servers' own SYN-ACKs have shown better.
type SYNProxy struct {
	Where
	Mode          SYNProxyMode
	Answer        SYNAnswer
	MSS           int // 0 is what an Ethernet frame holds
	WindowScale   uint8
	SACK          bool
	Timestamps    bool
	Defer         bool // connect to a real server only when the client has sent data
	SYNRetries    int  // SYNs to one real server after the first
	ACKStormLimit int  // equal ACKs of a real server in a second; 0 is no limit
	SourceRate    int  // SYNs of one client address a second; 0 is no limit
	BadACK        BadACK
	AdaptiveOn    int // unfinished handshakes a second
	AdaptiveOff   int
}

// defaultSYNProxy is what a service has that does not say otherwise.
func defaultSYNProxy() SYNProxy {
	return SYNProxy{
		Mode: SYNProxyOff, Answer: AnswerAuto, WindowScale: 7, SACK: true, Timestamps: true,
		SYNRetries: 2, ACKStormLimit: 10, BadACK: DropBadACK, AdaptiveOn: 1000, AdaptiveOff: 500,
	}
}

// readSYNProxy reads synproxy: true, false or a table.
func (s *Service) readSYNProxy(t *table) {
	y := &s.SYNProxy
	y.Timestamps = s.Timestamps != Strip
	const key = "synproxy"
	v, _ := t.value(key)
	switch v := v.(type) {
	case nil:
	case bool:
		if v {
			y.Mode = SYNProxyOn
		}
	case map[string]any:
		y.Mode = SYNProxyOn
		y.read(t.sub(key, &y.Where), s.Timestamps)
	default:
		t.fail(key, "want true, false or a table [service.synproxy]")
	}
	if s.Protocol == UDP && y.Mode != SYNProxyOff {
		t.fail(key, "has no effect on a udp service (remove it)")
	}
}

func (y *SYNProxy) read(t *table, clients Timestamps) {
	oneOf(t, "mode", &y.Mode, SYNProxyOff, SYNProxyOn, SYNProxyAdaptive)
	oneOf(t, "answer", &y.Answer, AnswerAuto, AnswerXDP, AnswerUserspace)
	integer(t, "mss", &y.MSS, 216, 9000)
	integer(t, "window_scale", &y.WindowScale, 0, 14)
	t.boolean("sack", &y.SACK)
	t.boolean("timestamps", &y.Timestamps)
	if y.Timestamps && clients == Strip {
		t.fail("timestamps", `contradicts timestamps = "strip" of the service (remove one)`)
	}
	t.boolean("defer", &y.Defer)
	integer(t, "syn_retries", &y.SYNRetries, 0, 5)
	integer(t, "ack_storm_limit", &y.ACKStormLimit, 0, 15)
	integer(t, "source_rate", &y.SourceRate, 0, 65535)
	oneOf(t, "bad_ack", &y.BadACK, DropBadACK, ResetBadACK)
	integer(t, "adaptive_on", &y.AdaptiveOn, 1, 1<<30)
	if !t.where.has("adaptive_off") {
		y.AdaptiveOff = y.AdaptiveOn / 2
	}
	integer(t, "adaptive_off", &y.AdaptiveOff, 0, 1<<30)
	if y.AdaptiveOff >= y.AdaptiveOn {
		t.fail("adaptive_off", fmt.Sprintf("not below adaptive_on %d (want it lower)", y.AdaptiveOn))
	}
	t.finish()
}

// A CookieSecret is what SYN cookies are made with. It does not show itself in
// messages and logs.
type CookieSecret [16]byte

func (*CookieSecret) String() string { return "(secret)" }

// readSecret reads cookie_secret. Messages do not repeat it.
func (d *Dataplane) readSecret(t *table) {
	const key = "cookie_secret"
	v, ok := t.value(key)
	if !ok {
		return
	}
	text, _ := v.(string)
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(CookieSecret{}) {
		t.failAt(t.where.LineOf(key), key, nil, fmt.Sprintf("want %d hexadecimal digits in quotes, as `openssl rand -hex %d` prints",
			2*len(CookieSecret{}), len(CookieSecret{})))
		return
	}
	d.CookieSecret = (*CookieSecret)(b)
}
