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
}

type healthBody struct {
	Services []ServiceHealth `json:"services"`
}
