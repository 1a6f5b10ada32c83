package ctl

import (
	"net/netip"
	"time"
)

// The states of a real server's health.
const (
	HealthUp        = "up"
	HealthDown      = "down"
	HealthUnchecked = "unchecked" // it has no check, and counts as up
)

// A ServiceHealth is what is known of a service's real servers.
type ServiceHealth struct {
	Name       string         `json:"name"`
	Protocol   string         `json:"protocol"`
	Virtual    netip.AddrPort `json:"virtual"`
	Quorum     int            `json:"quorum"`     // weight that must be up
	Hysteresis int            `json:"hysteresis"` // by which more, to regain it, or less, to lose it
	Weight     int            `json:"weight"`     // that is up
	HasQuorum  bool           `json:"has_quorum"`
	Sorry      netip.AddrPort `json:"sorry_server"` // empty: there is none
	Servers    []ServerHealth `json:"real_servers"`
}

// A ServerHealth is what is known of a real server.
type ServerHealth struct {
	Real        netip.AddrPort `json:"real"`
	State       string         `json:"state"` // up, down or unchecked
	Reason      string         `json:"reason"`
	Since       time.Time      `json:"since"`        // of the last transition; zero: there was none
	Weight      int            `json:"weight"`       // while it is up
	HeldSeconds float64        `json:"held_seconds"` // that it stays down yet though it passes, as it flaps
	Flaps       int            `json:"flaps"`        // times it went down soon after it had come up
	Checks      []CheckHealth  `json:"checks"`
}

// A CheckHealth is what one check has found out.
type CheckHealth struct {
	Name        string    `json:"name"`
	Passing     bool      `json:"passing"`
	Streak      int       `json:"streak"` // results in a row that speak against that
	At          time.Time `json:"at"`     // of the last attempt; zero: there was none
	TookSeconds float64   `json:"took_seconds"`
	Error       string    `json:"error"` // of the last attempt; empty: it passed
	Passed      uint64    `json:"passed"`
	Failed      uint64    `json:"failed"`
	BFD         *BFD      `json:"bfd,omitempty"` // null: it has no session
}

// A BFD is the session that tells a check how the server's host is (RFC 5880).
type BFD struct {
	Neighbor            netip.Addr `json:"neighbor"`
	State               string     `json:"state"` // admin-down, down, init or up
	RemoteState         string     `json:"remote_state"`
	Since               time.Time  `json:"since"`      // of state
	Diagnostic          string     `json:"diagnostic"` // why it last went down
	RemoteDiagnostic    string     `json:"remote_diagnostic"`
	Discriminator       uint32     `json:"discriminator"`
	RemoteDiscriminator uint32     `json:"remote_discriminator"` // 0: the neighbor is not heard
	IntervalSeconds     float64    `json:"interval_seconds"`     // between packets sent, at most; 0: none are
	DetectionSeconds    float64    `json:"detection_seconds"`    // without a packet after which the neighbor is lost; 0: it is not heard
	Downs               uint64     `json:"downs"`                // times that it was up and went down
}

type healthBody struct {
	Services []ServiceHealth `json:"services"`
}
