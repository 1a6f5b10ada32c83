package lb

import (
	"fmt"
	"slices"

	"github.com/fnatd/fnatd/config"
	"github.com/fnatd/fnatd/internal/packet"
)

// A Mode says when a service's SYNs are answered by cookies.
type Mode uint8

// The modes of SYNProxy.
const (
	Off Mode = iota
	On
	Adaptive // while many handshakes are begun and not finished
)

var modeNames = [...]string{Off: "off", On: "on", Adaptive: "adaptive"}

func (m Mode) String() string { return modeNames[m] }

// An Answer says where SYNs are answered.
type Answer uint8

// The places where SYNs can be answered.
const (
	Auto Answer = iota // by the XDP program if the interface can send from there
	XDP
	Userspace
)

var answerNames = [...]string{Auto: "auto", XDP: "xdp", Userspace: "userspace"}

func (a Answer) String() string { return answerNames[a] }

// A SYNProxy says how a TCP service's SYNs are answered by cookies. MSS, Window,
// Scale, SACK and Timestamps are what clients are offered until the real servers
// have shown what they offer.
type SYNProxy struct {
	Mode       Mode
	Answer     Answer
	MSS        uint16
	Window     uint16
	Scale      uint8
	SACK       bool
	Timestamps bool

	Defer        bool // connect to a real server only when the client has sent data
	Retries      int  // SYNs to one real server after the first
	StormLimit   int  // equal ACKs of a real server in a second; 0 is no limit
	SourceRate   int  // SYNs of one client address a second; 0 is no limit
	ResetBadACKs bool // answer a segment without a good cookie by RST
	On, Off      int  // unfinished handshakes a second at which Adaptive switches
}

// Guarded reports whether SYNs to s may be answered by cookies.
func (s *Service) Guarded() bool { return s.SYNProxy.Mode != Off }

// Our choices. The sizes are what an Ethernet frame of 1500 bytes holds; the window
// is Linux's.
const (
	defaultMSS4   = 1460
	defaultMSS6   = 1440
	defaultWindow = 64240
)

func newSYNProxy(from *config.SYNProxy) SYNProxy {
	return SYNProxy{
		Mode: modes[from.Mode], Answer: answers[from.Answer],
		MSS: uint16(from.MSS), Window: defaultWindow, Scale: from.WindowScale, SACK: from.SACK, Timestamps: from.Timestamps,
		Defer: from.Defer, Retries: from.SYNRetries, StormLimit: from.ACKStormLimit, SourceRate: from.SourceRate,
		ResetBadACKs: from.BadACK == config.ResetBadACK, On: from.AdaptiveOn, Off: from.AdaptiveOff,
	}
}

// fitMSS sets the MSS that is offered where none is configured: what fits a frame with
// the longest header on the way, the client's or a real server's.
func (s *Service) fitMSS() {
	y := &s.SYNProxy
	if s.Proto != packet.ProtoTCP || y.MSS != 0 {
		return
	}
	y.MSS = defaultMSS4
	is6 := func(server *Server) bool { return !server.Real.Addr.Is4() }
	if !s.Virtual.Addr.Is4() || slices.ContainsFunc(s.Servers, is6) {
		y.MSS = defaultMSS6
	}
}

var modes = map[config.SYNProxyMode]Mode{
	config.SYNProxyOff:      Off,
	config.SYNProxyOn:       On,
	config.SYNProxyAdaptive: Adaptive,
}

var answers = map[config.SYNAnswer]Answer{
	config.AnswerAuto:      Auto,
	config.AnswerXDP:       XDP,
	config.AnswerUserspace: Userspace,
}

// describe enters y in the description of its service. What has no effect is left
// out.
func (y *SYNProxy) describe(o *object) {
	if y.Mode == Off {
		return
	}
	o.set("synproxy", y.Mode.String())
	if y.Mode == Adaptive {
		o.set("synproxy.adaptive", fmt.Sprintf("on at %d, off at %d", y.On, y.Off))
	}
	o.set("synproxy.answer", y.Answer.String())
	o.set("synproxy.offer", fmt.Sprintf("mss %d, window_scale %d, sack %t, timestamps %t", y.MSS, y.Scale, y.SACK, y.Timestamps))
	o.set("synproxy.defer", flag(y.Defer))
	o.set("synproxy.syn_retries", count(y.Retries))
	o.set("synproxy.ack_storm_limit", count(y.StormLimit))
	o.set("synproxy.source_rate", count(y.SourceRate))
	o.set("synproxy.reset_bad_acks", flag(y.ResetBadACKs))
}
