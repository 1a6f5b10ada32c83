package config

import (
	"net/netip"
	"time"
)

// A CheckType is the kind of a check.
type CheckType string

// The kinds of checks.
const (
	CheckTCP   CheckType = "tcp"
	CheckHTTP  CheckType = "http"
	CheckHTTPS CheckType = "https"
	CheckUDP   CheckType = "udp"
	CheckDNS   CheckType = "dns"
	CheckPing  CheckType = "ping"
	CheckSMTP  CheckType = "smtp"
	CheckExec  CheckType = "exec"
	CheckFile  CheckType = "file"
	CheckBFD   CheckType = "bfd"
)

// A Check is one [service.health]: a question that is asked a real server again
// and again.
type Check struct {
	Where
	Type CheckType

	Interval   time.Duration
	Timeout    time.Duration
	Retry      int
	RetryDelay time.Duration
	Warmup     time.Duration
	Jitter     time.Duration
	Rise       int
	Fall       int
	Alpha      bool // down until it has passed for the first time

	Address    netip.Addr // where it is asked; invalid: the real server's
	Port       int        // 0: the real server's
	Source     netip.Addr // where from; invalid: fnatd's choice
	SourcePort int
	Interface  string
	Mark       int

	Path      string // http, https
	Method    string
	Host      string
	Status    []StatusRange
	Digest    string // MD5 or SHA-256 in hexadecimal digits
	Regex     string
	RegexNot  bool
	RegexMin  int    // offset in the body from which on a match may begin
	RegexEnd  int    // offset from which on none may; 0: it may anywhere
	SNI       string // https
	TLSVerify bool

	CA          PEMFile // https: who signs the servers' certificates; no path: whom the host trusts
	Certificate PEMFile // https: of fnatd, and its key; no path: none
	Key         PEMFile

	Payload  string // udp: hexadecimal digits
	Reply    string // udp: hexadecimal digits, x for any; "" is none
	Answer   bool   // udp: there must be a reply
	MinReply int    // udp: bytes
	MaxReply int

	Query     string // dns: a type of record
	Name      string // dns, smtp
	Transport string // dns: udp or tcp

	Command []string // exec
	User    string
	Dynamic bool // exec, file: the answer is also a weight

	File   string // file
	Factor int

	BFD BFD // bfd
}

// A StatusRange is an inclusive range of HTTP status codes.
type StatusRange struct{ First, Last int }

// A DownAction is what becomes of a real server that fails its checks.
type DownAction string

// What becomes of a real server that is down.
const (
	Remove  DownAction = "remove"  // the scheduler does without it
	Inhibit DownAction = "inhibit" // it stays, with weight 0
)

// A DownConnections is what becomes of the TCP connections of a real server that
// goes down.
type DownConnections string

// What becomes of TCP connections of a real server that goes down.
const (
	Keep  DownConnections = "keep"  // they live on until they end
	Drain DownConnections = "drain" // for a while
	Reset DownConnections = "reset" // they end at once
)

// A Failover is what a service does about the health of its real servers.
type Failover struct {
	OnDown          DownAction
	DownConnections DownConnections
	DownDrain       time.Duration // until connections are reset, with Drain
	Damping         time.Duration // that a flapping server stays out; 0 is off
	Quorum          int           // weight that must be up
	Hysteresis      int
	Omega           bool           // scripts are run for what goes down with fnatd
	Sorry           netip.AddrPort // takes over without quorum; invalid: nobody does
	Scripts         Scripts
}

// Scripts are the commands to run at transitions; an empty one is none.
type Scripts struct {
	NotifyUp, NotifyDown []string // of the service's real servers, unless they have their own
	QuorumUp, QuorumDown []string
	Timeout              time.Duration
	User                 string // whose they run as; "": fnatd's
}
