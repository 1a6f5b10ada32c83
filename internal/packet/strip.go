package packet

// A StripList says which TCP options carry a client's address and must not come
// from a client. An option matches by kind and exact length, because kinds 253
// and 254 belong to anybody's experiments (RFC 4727), which tell themselves apart
// by an identifier (RFC 6994) and may be legitimate. The zero StripList is empty;
// one that is in use is read-only.
type StripList struct {
	lengths [256]uint64 // bit n of lengths[k]: kind k, length n
}

// maxOptionLen is how long an option can be: the header's 60 bytes less 20.
const maxOptionLen = tcpMaxLen - tcpMinLen

// Add puts the options of that kind and length on the list. A length that no
// option can have is ignored.
func (l *StripList) Add(kind, length uint8) {
	if length >= 2 && length <= maxOptionLen {
		l.lengths[kind] |= 1 << length
	}
}

// AddOption puts the forms that o encodes on the list.
func (l *StripList) AddOption(o *AddressOption) {
	client4, client6 := Addr{10: 0xff, 11: 0xff}, Addr{}
	l.Add(o.Kind4, uint8(o.size(&client4)))
	l.Add(o.Kind6, uint8(o.size(&client6)))
}

// Has reports whether the options of that kind and length are on the list.
func (l *StripList) Has(kind, length uint8) bool {
	return length <= maxOptionLen && l.lengths[kind]>>length&1 != 0
}

// knownOptions are the client-address options that balancers are known to
// insert and real servers to believe.
var knownOptions = [...]struct{ kind, length uint8 }{
	{200, 8},  // LVS of 2012, Tencent, UCloud: port, IPv4 address
	{201, 6},  // Tencent: network identifier
	{202, 8},  // Tencent: virtual port and address
	{249, 40}, // Alibaba: client and virtual IPv6 addresses
	{250, 8},  // Alibaba: virtual port and address
	{252, 20}, // Alibaba: client, tunnel and virtual address
	{253, 8},  // Akamai, UCloud: port, IPv4 address
	{253, 20}, // LVS: port, IPv6 address
	{254, 8},  // LVS, DPVS, Huawei: port, IPv4 address
	{254, 16}, // DPVS forks: port, IPv4 address, virtual port and address
	{254, 20}, // DPVS: port, IPv6 address
}

// DefaultStripList returns a list of the options that balancers are known to use.
func DefaultStripList() *StripList {
	l := new(StripList)
	for _, o := range knownOptions {
		l.Add(o.kind, o.length)
	}
	return l
}

// StripOptions overwrites by NOPs every option of a TCP segment that l lists,
// and returns how many there were. The header keeps its length.
func (p *Packet) StripOptions(l *StripList) (stripped int) {
	t := p.TCP()
	o := t.Options()
	if len(o) == 0 || onlyTimestamps(o) {
		return 0
	}
	for i, n := nextOption(o, 0); n > 0; i, n = nextOption(o, i+n) {
		if l.Has(o[i], uint8(n)) {
			t.blank(i, n)
			stripped++
		}
	}
	return stripped
}
