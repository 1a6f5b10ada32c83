package ipvsadm

import (
	"fmt"
	"strings"
)

// A command is what the first option says.
type command uint8

const (
	none command = iota
	addService
	editService
	deleteService
	clear
	list
	addServer
	deleteServer
	editServer
	restore
	save
	zero
	addLocal
	deleteLocal
	getLocals
	help
	version
	set    // of timeouts, refused
	daemon // of synchronisation, refused
)

// names are those of the commands in messages.
var names = map[command]string{
	addService: "add-service", editService: "edit-service", deleteService: "delete-service", clear: "flush",
	list: "list", addServer: "add-server", deleteServer: "delete-server", editServer: "edit-server",
	restore: "restore", save: "save", zero: "zero",
	addLocal: "add-laddr", deleteLocal: "del-laddr", getLocals: "get-laddr",
}

// An option is what follows a command. Their order is that in which they are
// checked.
type option uint8

const (
	numeric option = iota
	connection
	serviceAddress
	scheduler
	persistent
	netmask
	realServer
	forwarding
	weight
	upper
	lower
	timeout
	stats
	rate
	thresholds
	nosort
	exact
	schedFlags
	local
	synproxy
	established
	sorted  // does nothing
	refused // fnatd has no such thing
	numOptions
)

var optionNames = [numOptions]string{
	"numeric", "connection", "service-address", "scheduler", "persistent", "netmask", "real-server",
	"forwarding-method", "weight", "u-threshold", "l-threshold", "timeout", "stats", "rate", "thresholds",
	"nosort", "exact", "sched-flags", "local-address", "synproxy", "vsestablish-timeout", "sort", "",
}

// legal says for each command what becomes of each option: + must be there,
// x must not, 1 excludes the others that have a 1, and a blank leaves it open.
var legal = map[command]string{
	//             n c S s p M r f w x y t S r t n X b z j V s
	addService:    "xx+   xxxxxxxxxxx x   ",
	editService:   "xx+   xxxxxxxxxxx x   ",
	deleteService: "xx+xxxxxxxxxxxxxxxxxx ",
	clear:         "xxxxxxxxxxxxxxxxxxxxx ",
	list:          " 11xxxxxxxx1     xxxx ",
	addServer:     "xx+xxx+    xxxxxxxxxx ",
	deleteServer:  "xx+xxx+xxxxxxxxxxxxxx ",
	editServer:    "xx+xxx+    xxxxxxxxxx ",
	restore:       "xxxxxxxxxxxxxxxxxxxxx ",
	save:          " xxxxxxxxxxxxxxxxxxxx ",
	zero:          "xx xxxxxxxxxxxxxxxxxx ",
	addLocal:      "xx+xxxxxxxxxxxxxxx+xx ",
	deleteLocal:   "xx+xxxxxxxxxxxxxxx+xx ",
	getLocals:     " x xxxxxxxxxxxxxxxxxx ",
}

// A word is one word of the command line's grammar.
type word struct {
	long    string
	short   byte // 0: none
	takes   takes
	command command
	option  option
	why     string // of what is refused
}

type takes uint8

const (
	nothing  takes = iota
	argument       // the next word, or what is attached
	perhaps        // the next word unless it begins with a dash
)

const noDaemon = "fnatd does not synchronise its connections: start no daemon"

var words = []word{
	{"add-service", 'A', nothing, addService, 0, ""},
	{"edit-service", 'E', nothing, editService, 0, ""},
	{"delete-service", 'D', nothing, deleteService, 0, ""},
	{"clear", 'C', nothing, clear, 0, ""},
	{"list", 'L', nothing, list, 0, ""},
	{"list", 'l', nothing, list, 0, ""},
	{"zero", 'Z', nothing, zero, 0, ""},
	{"add-server", 'a', nothing, addServer, 0, ""},
	{"edit-server", 'e', nothing, editServer, 0, ""},
	{"delete-server", 'd', nothing, deleteServer, 0, ""},
	{"add-laddr", 'P', nothing, addLocal, 0, ""},
	{"del-laddr", 'Q', nothing, deleteLocal, 0, ""},
	{"get-laddr", 'G', nothing, getLocals, 0, ""},
	{"set", 0, nothing, set, 0, "timeouts are set for each service: -E -t SERVICE -V SECONDS, or [service.timeout] in fnatd's configuration"},
	{"help", 'h', nothing, help, 0, ""},
	{"version", 'v', nothing, version, 0, ""},
	{"restore", 'R', nothing, restore, 0, ""},
	{"save", 'S', nothing, save, 0, ""},
	{"start-daemon", 0, argument, daemon, 0, noDaemon},
	{"stop-daemon", 0, argument, daemon, 0, noDaemon},

	{"tcp-service", 't', argument, none, serviceAddress, ""},
	{"udp-service", 'u', argument, none, serviceAddress, ""},
	{"sctp-service", 0, argument, none, refused, "fnatd balances TCP and UDP: use -t or -u"},
	{"fwmark-service", 'f', argument, none, refused, "fnatd knows no firewall marks: name the service by address and port, with -t or -u"},
	{"ipv6", '6', nothing, none, refused, "fnatd knows no firewall marks: name the service by address and port, with -t or -u"},
	{"scheduler", 's', argument, none, scheduler, ""},
	{"persistent", 'p', perhaps, none, persistent, ""},
	{"netmask", 'M', argument, none, netmask, ""},
	{"real-server", 'r', argument, none, realServer, ""},
	{"fullnat", 0, nothing, none, forwarding, ""},
	{"masquerading", 'm', nothing, none, forwarding, ""},
	{"ipip", 'i', nothing, none, refused, "fnatd forwards by FULLNAT: use -b, and take the VIP off the real server"},
	{"gatewaying", 'g', nothing, none, refused, "fnatd forwards by FULLNAT: use -b, and take the VIP off the real server"},
	{"weight", 'w', argument, none, weight, ""},
	{"u-threshold", 'x', argument, none, upper, ""},
	{"l-threshold", 'y', argument, none, lower, ""},
	{"numeric", 'n', nothing, none, numeric, ""},
	{"connection", 'c', nothing, none, connection, ""},
	{"timeout", 0, nothing, none, timeout, ""},
	{"daemon", 0, nothing, none, refused, noDaemon},
	{"stats", 0, nothing, none, stats, ""},
	{"rate", 0, nothing, none, rate, ""},
	{"thresholds", 0, nothing, none, thresholds, ""},
	{"persistent-conn", 0, nothing, none, refused, "fnatd does not count persistent clients by server: see fnatctl stats for their sum"},
	{"nosort", 0, nothing, none, nosort, ""},
	{"sort", 0, nothing, none, sorted, ""},
	{"exact", 'X', nothing, none, exact, ""},
	{"ops", 'o', nothing, none, refused, "fnatd keeps a UDP client on its server: shorten udp in [service.timeout] instead of -o"},
	{"pe", 0, argument, none, refused, "fnatd knows no persistence engines: leave --pe out"},
	{"sched-flags", 'b', argument, none, schedFlags, ""},
	{"laddr", 'z', argument, none, local, ""},
	{"synproxy", 'j', argument, none, synproxy, ""},
	{"vsestablish-timeout", 'V', argument, none, established, ""},
}

// find returns the word that a long or short option means. LVS has -b without an
// argument for servers, and ipvsadm with one for services.
func find(long string, short byte, c command) *word {
	if short == 'b' && (c == addServer || c == editServer) {
		long, short = "fullnat", 0
	}
	for i := range words {
		if w := &words[i]; short != 0 && w.short == short || short == 0 && w.long == long {
			return w
		}
	}
	return nil
}

// A given is an option as it was given.
type given struct {
	*word
	text     string // the argument it stands in, for messages
	argument string
	absent   bool // it has no argument and need not
}

// A scanner cuts arguments into options, as popt does: short ones may be run
// together, and a long one may have its argument after an equals sign.
type scanner struct {
	args    []string
	text    string   // the argument at hand
	run     string   // the rest of it, of short options that are run together
	left    []string // what is no option
	command command
}

// next returns the next option, or nil at the end.
func (s *scanner) next() (*given, error) {
	for s.run == "" {
		if len(s.args) == 0 {
			return nil, nil
		}
		s.text, s.args = s.args[0], s.args[1:]
		switch {
		case s.text == "--":
			s.left, s.args = append(s.left, s.args...), nil
		case strings.HasPrefix(s.text, "--"):
			long, attached, has := strings.Cut(s.text[2:], "=")
			return s.option(find(long, 0, s.command), attached, has)
		case strings.HasPrefix(s.text, "-") && len(s.text) > 1:
			s.run = s.text[1:]
		default:
			s.left = append(s.left, s.text)
		}
	}
	short := s.run[0]
	s.run = s.run[1:]
	return s.option(find("", short, s.command), "", false)
}

func (s *scanner) option(w *word, attached string, has bool) (*given, error) {
	if w == nil {
		return nil, &failure{exitRefused, s.text + ": unknown option"}
	}
	g := given{word: w, text: s.text}
	return &g, s.argument(&g, attached, has)
}

// argument finds the argument of g, if it takes one.
func (s *scanner) argument(g *given, attached string, has bool) error {
	switch {
	case g.takes == nothing:
		if has {
			return &failure{exitRefused, g.text + ": option does not take an argument"}
		}
	case has:
		g.argument = attached
	case s.run != "":
		g.argument, s.run = strings.TrimPrefix(s.run, "="), ""
	case len(s.args) > 0 && (g.takes == argument || !strings.HasPrefix(s.args[0], "-")):
		g.argument, s.args = s.args[0], s.args[1:]
	case g.takes == argument:
		return &failure{exitRefused, g.text + ": missing argument"}
	default:
		g.absent = true
	}
	return nil
}

// check makes sure that the options go with the command and with each other.
func check(c command, has *[numOptions]bool) error {
	only := -1
	for o, rule := range legal[c] {
		switch {
		case rule == '+' && !has[o]:
			return usage("You need to supply the '%s' option for the '%s' command", optionNames[o], names[c])
		case rule == 'x' && has[o]:
			return usage("Illegal '%s' option with the '%s' command", optionNames[o], names[c])
		case rule == '1' && has[o]:
			if only >= 0 {
				return usage("The option '%s' conflicts with the '%s' option in the '%s' command", optionNames[o], optionNames[only], names[c])
			}
			only = o
		}
	}
	if has[connection] || has[timeout] {
		if has[stats] || has[rate] || has[thresholds] {
			return usage("options conflicts in the list command")
		}
	}
	return nil
}

func (p *program) tryHelp() error {
	return &failure{exitRefused, fmt.Sprintf("Try `%s -h' or '%[1]s --help' for more information.", p.Name)}
}
