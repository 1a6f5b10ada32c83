package keepalived

// A setting is one line of TOML, and the place in the keepalived.conf that it
// comes from. Package config judges the value.
type setting struct {
	key, value string // value is a TOML literal
	at         pos
}

// A table is one TOML table.
type table struct {
	at       pos
	source   string // the statement that it comes from, for the comment
	settings []setting
}

func (t *table) set(key, value string, at pos) {
	t.settings = append(t.settings, setting{key, value, at})
}

// A pool is a [[local_pool]].
type pool struct {
	table
	name      string
	addresses []setting // without keys: each range with its place
	ifname    string    // "" if the file does not say
	ifAt      pos
	used      bool
}

// A service is a virtual_server: a [[service]] for each of its addresses.
type service struct {
	table
	targets  []target
	protocol string // "tcp" or "udp"
	method   string // lb_kind in capitals, "" if there is none
	pool     string // name of the pool
	poolAt   pos    // of its name
	ifname   string
	ifAt     pos

	persistent bool
	granular   *statement // persistence_granularity
	timeout    *statement // est_timeout
	level      level
	scripts    []*statement
	checks     []*table // that all servers have
	servers    []server
	in         *server  // that is being read, or nil
	leftOut    []string // keywords that have no counterpart yet
}

// A server is a real_server.
type server struct {
	table
	level    level
	checkers []*statement
	scripts  []*statement
	checks   []*table
}

// A target is one address of a virtual_server, and the name of its service.
type target struct {
	name    string
	member  bool   // of a group, in which at is
	address string // with port
	at      pos
}

// A draft is everything that is to be written.
type draft struct {
	interfaces []string
	vlans      []string
	pools      []*pool
	services   []*service
	incomplete bool // a pool or interface is missing, which is reported once for all that lack it
}
