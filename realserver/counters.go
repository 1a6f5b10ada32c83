package realserver

import "fmt"

// A Counter says what became of a connection, a notice or a server's question.
type Counter uint8

// Counters, in the order of enum counter in bpf/common.h.
const (
	Learned       = Counter(peerCounterCOUNTER_LEARNED)
	LearnedAhead  = Counter(peerCounterCOUNTER_LEARNED_AHEAD)
	NoOption      = Counter(peerCounterCOUNTER_NO_OPTION)
	Untrusted     = Counter(peerCounterCOUNTER_UNTRUSTED)
	Malformed     = Counter(peerCounterCOUNTER_MALFORMED)
	WrongLength   = Counter(peerCounterCOUNTER_WRONG_LENGTH)
	Contradiction = Counter(peerCounterCOUNTER_CONTRADICTION)
	BadAddress    = Counter(peerCounterCOUNTER_BAD_ADDRESS)
	NoMemory      = Counter(peerCounterCOUNTER_NO_MEMORY)

	Noticed         = Counter(peerCounterCOUNTER_NOTICED)
	NoticeUntrusted = Counter(peerCounterCOUNTER_NOTICE_UNTRUSTED)
	NoticeLength    = Counter(peerCounterCOUNTER_NOTICE_LENGTH)
	NoticeChecksum  = Counter(peerCounterCOUNTER_NOTICE_CHECKSUM)
	NoticeMagic     = Counter(peerCounterCOUNTER_NOTICE_MAGIC)
	NoticeProtocol  = Counter(peerCounterCOUNTER_NOTICE_PROTOCOL)
	NoticeOption    = Counter(peerCounterCOUNTER_NOTICE_OPTION)
	NoticeAddress   = Counter(peerCounterCOUNTER_NOTICE_ADDRESS)

	Shown       = Counter(peerCounterCOUNTER_SHOWN)
	KeptLocal   = Counter(peerCounterCOUNTER_KEPT_LOCAL)
	Ambiguous   = Counter(peerCounterCOUNTER_AMBIGUOUS)
	Redirected  = Counter(peerCounterCOUNTER_REDIRECTED)
	Answered    = Counter(peerCounterCOUNTER_ANSWERED)
	ShortBuffer = Counter(peerCounterCOUNTER_SHORT_BUFFER)

	NumCounters = int(peerCounterNUM_COUNTERS)
)

var counterTexts = [NumCounters]struct{ name, meaning string }{
	Learned:       {"learned", "connections whose client is known"},
	LearnedAhead:  {"learned_ahead", "of these, by the option of the SYN or by a notice"},
	NoOption:      {"no_option", "connections that came without a client address"},
	Untrusted:     {"untrusted", "client addresses from outside --trust, ignored"},
	Malformed:     {"malformed", "TCP options that overrun their header, ignored"},
	WrongLength:   {"wrong_length", "options of a kind that is read with a length that is no address's, ignored"},
	Contradiction: {"contradiction", "segments that name two clients, ignored"},
	BadAddress:    {"bad_address", "options with an address or port that no client has, ignored"},
	NoMemory:      {"no_memory", "client addresses that the kernel had no memory to keep"},

	Noticed:         {"noticed", "notices that were believed"},
	NoticeUntrusted: {"notice_untrusted", "notices from outside --trust, ignored"},
	NoticeLength:    {"notice_length", "notices that are truncated or too long, ignored"},
	NoticeChecksum:  {"notice_checksum", "notices that were damaged on the way, ignored"},
	NoticeMagic:     {"notice_magic", "notices without their magic number, ignored"},
	NoticeProtocol:  {"notice_protocol", "notices for neither TCP nor UDP, ignored"},
	NoticeOption:    {"notice_option", "notices whose address is of another kind or length, ignored"},
	NoticeAddress:   {"notice_address", "notices with an address or port that no client has, ignored"},

	Shown:       {"shown", "times accept, getpeername or recvmsg told the client"},
	KeptLocal:   {"kept_local", "times they told the LIP, for a client of the other IP version"},
	Ambiguous:   {"ambiguous", "times recvmsg told the LIP, as two flows to two addresses of this host have the same"},
	Redirected:  {"redirected", "times what was sent to a client went to its LIP"},
	Answered:    {"answered", "times getsockopt told the client"},
	ShortBuffer: {"short_buffer", "times getsockopt was asked with too little room for the answer"},
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
		if err := p.maps.Counters.Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("counter %s: %w", Counter(i), err)
		}
		all[i] = Count{Name: counterTexts[i].name, Meaning: counterTexts[i].meaning}
		for _, n := range perCPU {
			all[i].Count += n
		}
	}
	return all, nil
}
