package xsk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An RSS is how an interface spreads packets over its receive queues (receive
// side scaling): by a Toeplitz hash, whose low bits choose an entry of a table.
type RSS struct {
	Key    []byte
	Queues []uint32 // the indirection table: queue by hash modulo its length
	Ports  [NumFlowTypes]bool
}

// Equal reports whether r and o, either of which may be nil, are the same.
func (r *RSS) Equal(o *RSS) bool {
	if r == nil || o == nil {
		return r == o
	}
	return bytes.Equal(r.Key, o.Key) && slices.Equal(r.Queues, o.Queues) && r.Ports == o.Ports
}

// A FlowType is what an interface tells apart when it hashes. RSS.Ports says of
// which ones the hash covers the ports and not the addresses alone.
type FlowType uint8

const (
	TCP4 FlowType = iota
	UDP4
	TCP6
	UDP6
	NumFlowTypes
)

// From linux/ethtool.h.
const (
	hashToeplitz = 1 << 0 // ETH_RSS_HASH_TOP

	hashIPSrc   = 1 << 4 // RXH_IP_SRC
	hashIPDst   = 1 << 5
	hashSrcPort = 1 << 6 // RXH_L4_B_0_1
	hashDstPort = 1 << 7
)

// flowTypes are the kernel's numbers: TCP_V4_FLOW and so on.
var flowTypes = [NumFlowTypes]uint32{TCP4: 1, UDP4: 2, TCP6: 5, UDP6: 6}

// ethtoolRXFH is the head of struct ethtool_rxfh. The table and the key follow.
type ethtoolRXFH struct {
	cmd, context       uint32
	tableSize, keySize uint32 // entries, bytes
	hash               uint8
	transform          uint8 // of the hash's input; since 6.8
	_                  [6]byte
}

// ethtoolRXNFC is the part of struct ethtool_rxnfc that ETHTOOL_GRXFH uses.
type ethtoolRXNFC struct {
	cmd, flowType uint32
	fields        uint64
}

// ErrNoRSS is returned for an interface whose driver does not tell how it
// spreads packets, or does it otherwise than by a Toeplitz hash.
var ErrNoRSS = errors.New("no RSS key and indirection table to be had")

// ReadRSS asks how the named interface spreads packets (ETHTOOL_GRSSH and
// ETHTOOL_GRXFH).
func ReadRSS(name string) (*RSS, error) {
	size := ethtoolRXFH{cmd: unix.ETHTOOL_GRSSH}
	err := ethtool(name, unsafe.Pointer(&size))
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && (size.tableSize == 0 || size.keySize == 0) {
		return nil, ErrNoRSS
	}
	if err != nil {
		return nil, fmt.Errorf("rss: %w", err)
	}
	head := int(unsafe.Sizeof(size))
	// Of words, so that the kernel's struct is aligned.
	words := make([]uint64, (head+4*int(size.tableSize)+int(size.keySize)+7)/8)
	asked := (*ethtoolRXFH)(unsafe.Pointer(&words[0]))
	*asked = ethtoolRXFH{cmd: unix.ETHTOOL_GRSSH, tableSize: size.tableSize, keySize: size.keySize}
	if err := ethtool(name, unsafe.Pointer(&words[0])); err != nil {
		return nil, fmt.Errorf("rss: %w", err)
	}
	answer := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 8*len(words))
	r, err := parseRSS(asked, answer[head:])
	if err != nil {
		return nil, err
	}
	for t, number := range flowTypes {
		r.Ports[t] = hashesPorts(name, number)
	}
	return r, nil
}

// parseRSS reads the table and the key that follow head.
func parseRSS(head *ethtoolRXFH, tail []byte) (*RSS, error) {
	if head.hash != hashToeplitz || head.transform != 0 || 4*int(head.tableSize)+int(head.keySize) > len(tail) {
		return nil, ErrNoRSS
	}
	r := &RSS{Queues: make([]uint32, head.tableSize)}
	for i := range r.Queues {
		r.Queues[i] = binary.NativeEndian.Uint32(tail[4*i:])
	}
	r.Key = append(r.Key, tail[4*head.tableSize:][:head.keySize]...)
	return r, nil
}

// hashesPorts reports whether packets of a flow type are spread by addresses and
// ports. Of a driver that does not tell it is not known.
func hashesPorts(name string, flowType uint32) bool {
	request := ethtoolRXNFC{cmd: unix.ETHTOOL_GRXFH, flowType: flowType}
	err := ethtool(name, unsafe.Pointer(&request))
	return err == nil && request.fields == hashIPSrc|hashIPDst|hashSrcPort|hashDstPort
}
