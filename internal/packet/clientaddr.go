package packet

import "encoding/binary"

// Layouts of the options that tell a real server its client's address.
const (
	// TOA, as LVS, DPVS and their readers have it: kind, length, port, address.
	toaLen4 = 8
	toaLen6 = 20

	// DefaultTOAKind is the kind that the readers of LVS and DPVS know. It is an
	// experimental one (RFC 4727).
	DefaultTOAKind = 254

	// TTM: kind, length, and a struct of family (little-endian, as the machines
	// that publish it store it), port and 16 bytes of address.
	ttmStructLen   = 20
	ttmAddr        = 4 // offset of the address in the struct
	ttmFamily4     = 2
	ttmFamily6     = 10
	ttmMinLen4     = 2 + ttmAddr + 4
	ttmMinLen6     = 2 + ttmStructLen
	ttmDefaultLen  = 2 + ttmStructLen
	ttmMaxLen      = 24
	optionOverhead = 2 // kind and length
)

// MaxAddressOption is the most bytes that AddressOption.Encode writes.
const MaxAddressOption = 24

// An AddressOption is a form of the TCP option that tells a real server its
// client's address and port.
type AddressOption struct {
	Kind4 uint8 // option kind for an IPv4 client
	Kind6 uint8 // option kind for an IPv6 client
	TTM   bool  // the layout is TTM's, not TOA's

	// TTMLength is the length byte of a TTM option; 0 means 22, which holds the
	// whole struct. A smaller one cuts the struct's tail, so that 10 still holds
	// an IPv4 client; a larger one, 24 at most, adds zero bytes.
	TTMLength uint8
}

// TOA returns the TOA option of the default kind for IPv4 clients, and of kind6
// for IPv6 clients: 254 as DPVS has it or 253 as LVS.
func TOA(kind6 uint8) AddressOption {
	return AddressOption{Kind4: DefaultTOAKind, Kind6: kind6}
}

// size returns the option's length byte for the client, 0 if the option cannot
// hold its address.
func (o *AddressOption) size(client *Addr) int {
	is4 := client.Is4()
	if !o.TTM {
		if is4 {
			return toaLen4
		}
		return toaLen6
	}
	n := int(o.TTMLength)
	if n == 0 {
		n = ttmDefaultLen
	}
	if n > ttmMaxLen || n < ttmMinLen4 || !is4 && n < ttmMinLen6 {
		return 0
	}
	return n
}

// kind returns the option kind for the client.
func (o *AddressOption) kind(client *Addr) uint8 {
	if client.Is4() {
		return o.Kind4
	}
	return o.Kind6
}

// Len returns how many bytes of header the option takes for that client, padding
// included: a multiple of four, 0 if the option cannot hold such an address.
func (o *AddressOption) Len(client *Addr) int { return (o.size(client) + 3) &^ 3 }

// Encode writes the option for client to dst, which holds at least
// MaxAddressOption bytes, and returns what Len does. Padding is NOPs behind the
// option, so that its kind is always the first byte after the fixed header.
func (o *AddressOption) Encode(dst []byte, client Endpoint) int {
	size := o.size(&client.Addr)
	if size == 0 {
		return 0
	}
	is4 := client.Addr.Is4()
	addr := client.Addr[:]
	if is4 {
		addr = client.Addr[12:]
	}
	n := (size + 3) &^ 3
	b := dst[:MaxAddressOption]
	clear(b)
	b[0], b[1] = o.kind(&client.Addr), uint8(size)
	body := b[optionOverhead:]
	if o.TTM {
		binary.LittleEndian.PutUint16(body, ttmFamily(is4))
		binary.BigEndian.PutUint16(body[2:], client.Port)
		copy(body[ttmAddr:], addr)
	} else {
		binary.BigEndian.PutUint16(body, client.Port)
		copy(body[2:], addr)
	}
	for i := size; i < n; i++ {
		b[i] = optNOP
	}
	return n
}

func ttmFamily(is4 bool) uint16 {
	if is4 {
		return ttmFamily4
	}
	return ttmFamily6
}

// Decode returns the client that the first such option in the option area opts
// tells, as a real server would read it.
func (o *AddressOption) Decode(opts []byte) (client Endpoint, ok bool) {
	for i, n := nextOption(opts, 0); n > 0; i, n = nextOption(opts, i+n) {
		if client, ok = o.decode(opts[i : i+n]); ok {
			return client, true
		}
	}
	return Endpoint{}, false
}

// decode reads one option, whose length byte is len(b).
func (o *AddressOption) decode(b []byte) (client Endpoint, ok bool) {
	if !o.TTM {
		switch {
		case b[0] == o.Kind4 && len(b) == toaLen4:
			return Endpoint{AddrFrom4(b[4:]), binary.BigEndian.Uint16(b[2:])}, true
		case b[0] == o.Kind6 && len(b) == toaLen6:
			return Endpoint{AddrFrom16(b[4:]), binary.BigEndian.Uint16(b[2:])}, true
		}
		return client, false
	}
	if len(b) < ttmMinLen4 {
		return client, false
	}
	body := b[optionOverhead:]
	client.Port = binary.BigEndian.Uint16(body[2:])
	switch family := binary.LittleEndian.Uint16(body); {
	case family == ttmFamily4 && b[0] == o.Kind4:
		client.Addr = AddrFrom4(body[ttmAddr:])
	case family == ttmFamily6 && b[0] == o.Kind6 && len(b) >= ttmMinLen6:
		client.Addr = AddrFrom16(body[ttmAddr:])
	default:
		return client, false
	}
	// Only an option of the very form that Encode writes counts.
	return client, o.size(&client.Addr) == len(b)
}
