package realserver

import "fmt"

// A Counter says what became of a connection, or of a server's question.
type Counter uint8

// Counters, in the order of enum counter in peer.c.
const (
	Learned       = Counter(peerCounterCOUNTER_LEARNED)
	NoOption      = Counter(peerCounterCOUNTER_NO_OPTION)
	Untrusted     = Counter(peerCounterCOUNTER_UNTRUSTED)
	Malformed     = Counter(peerCounterCOUNTER_MALFORMED)
	WrongLength   = Counter(peerCounterCOUNTER_WRONG_LENGTH)
	Contradiction = Counter(peerCounterCOUNTER_CONTRADICTION)
	BadAddress    = Counter(peerCounterCOUNTER_BAD_ADDRESS)
	NoMemory      = Counter(peerCounterCOUNTER_NO_MEMORY)
	Shown         = Counter(peerCounterCOUNTER_SHOWN)
	KeptLocal     = Counter(peerCounterCOUNTER_KEPT_LOCAL)
	Answered      = Counter(peerCounterCOUNTER_ANSWERED)
	ShortBuffer   = Counter(peerCounterCOUNTER_SHORT_BUFFER)

	NumCounters = int(peerCounterNUM_COUNTERS)
)

var counterTexts = [NumCounters]struct{ name, meaning string }{
	Learned:       {"learned", "connections whose client is known"},
	NoOption:      {"no_option", "connections that came without a client address"},
	Untrusted:     {"untrusted", "client addresses from outside --trust, ignored"},
	Malformed:     {"malformed", "TCP options that overrun their header, ignored"},
	WrongLength:   {"wrong_length", "options of a kind in --kinds with a length that is no address's, ignored"},
	Contradiction: {"contradiction", "segments that name two clients, ignored"},
	BadAddress:    {"bad_address", "addresses or ports that no client has, ignored"},
	NoMemory:      {"no_memory", "client addresses that the kernel had no memory to keep"},
	Shown:         {"shown", "times accept or getpeername told the client"},
	KeptLocal:     {"kept_local", "times they told the LIP, for an IPv6 client of an IPv4 socket"},
	Answered:      {"answered", "times getsockopt told the client"},
	ShortBuffer:   {"short_buffer", "times getsockopt was asked with less than 20 bytes of room"},
}

// String returns the counter's name, as status prints it.
func (c Counter) String() string {
	if int(c) < NumCounters {
		return counterTexts[c].name
	}
	return "unknown"
}

// A Count is a counter's value since the start, over all CPUs.
type Count struct {
	Name    string `json:"name"`
	Count   uint64 `json:"count"`
	Meaning string `json:"meaning"`
}

// counts reads all counters.
func (p *programs) counts() ([]Count, error) {
	all := make([]Count, NumCounters)
	var perCPU []uint64
	for i := range all {
		if err := p.objs.Counters.Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("counter %s: %w", Counter(i), err)
		}
		all[i] = Count{Name: counterTexts[i].name, Meaning: counterTexts[i].meaning}
		for _, n := range perCPU {
			all[i].Count += n
		}
	}
	return all, nil
}
