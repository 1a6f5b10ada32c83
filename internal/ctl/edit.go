package ctl

import "net/netip"

// An EditOp is what an Edit does.
type EditOp string

// The edits of the running configuration.
const (
	AddService    EditOp = "add_service"
	EditService   EditOp = "edit_service"
	DeleteService EditOp = "delete_service"
	AddServer     EditOp = "add_server"
	EditServer    EditOp = "edit_server"
	DeleteServer  EditOp = "delete_server"
	AddLocal      EditOp = "add_local"    // to the pool of a service
	DeleteLocal   EditOp = "delete_local" // from it
	Clear         EditOp = "clear"        // all services
	Zero          EditOp = "zero"         // the counters of a service; of all if Virtual is zero
)

// An Edit changes one thing of the running configuration, and leaves the file as
// it is: the next reload goes back to that.
type Edit struct {
	Op       EditOp           `json:"op"`
	Protocol string           `json:"protocol"` // of the service: tcp or udp
	Virtual  netip.AddrPort   `json:"virtual"`
	Real     netip.AddrPort   `json:"real"`              // for servers
	Local    netip.Addr       `json:"local"`             // for local addresses
	Service  *ServiceSettings `json:"service,omitempty"` // to add or edit one
	Server   *ServerSettings  `json:"server,omitempty"`
}

// ServiceSettings are what an Edit can set of a service. What it cannot, a new
// service has from the defaults, and an old one keeps.
type ServiceSettings struct {
	Scheduler              string `json:"scheduler"`
	HashPort               bool   `json:"hash_port"` // flags of sh and mh
	Fallback               bool   `json:"fallback"`
	PersistenceSeconds     int    `json:"persistence_seconds"`     // 0: none
	PersistenceGranularity int    `json:"persistence_granularity"` // length of a prefix; 0: one address
	EstablishedSeconds     int    `json:"established_seconds"`     // 0: as it is
	SYNProxy               string `json:"synproxy"`                // on, off, or "": as it is
}

// ServerSettings are what an Edit sets of a real server.
type ServerSettings struct {
	Weight         int `json:"weight"`
	UpperThreshold int `json:"upper_threshold"`
	LowerThreshold int `json:"lower_threshold"`
}

// Edited is the answer to a list of Edits. Those that were not refused are put
// into use together; if what they make is not a configuration that can be, none
// is, and the answer is an error.
type Edited struct {
	Changes []string  `json:"changes"` // one line each
	Refused []Refusal `json:"refused"`
}

// A Refusal says why one Edit was left out.
type Refusal struct {
	Edit  int         `json:"edit"` // its number in the list, from 0
	Code  RefusalCode `json:"code"`
	Error string      `json:"error"`
}

// A RefusalCode tells programs what an Edit met.
type RefusalCode string

// What an Edit may meet.
const (
	NoService     RefusalCode = "no_service"
	ServiceExists RefusalCode = "service_exists"
	NoServer      RefusalCode = "no_server"
	ServerExists  RefusalCode = "server_exists"
	NoLocal       RefusalCode = "no_local"
	LocalTaken    RefusalCode = "local_taken"
	NoScheduler   RefusalCode = "no_scheduler"
	Invalid       RefusalCode = "invalid"
)

// maxEdits is the size of a list of Edits: 10,000 are 4 MB.
const maxEdits = 16 << 20

type editsBody struct {
	Edits []Edit `json:"edits"`
}
