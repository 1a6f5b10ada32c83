package health

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// Ping is the check that a server answers an ICMP echo request.
type Ping struct{}

func (Ping) String() string { return "ping" }

// From the standards.
const (
	protoICMP   = 1
	protoICMPv6 = 58
)

// noticeID is the identifier of fnatd's UDP notices, whose replies do not reach
// the kernel.
const noticeID = 0x3412

// Probe implements Probe. Its socket is a raw one, connected, so that it gets what
// comes from this server alone; the random payload tells its reply from others'.
func (Ping) Probe(ctx context.Context, to Endpoint) (Result, error) {
	network, proto := "ip4:icmp", protoICMP
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if to.Addr().Is6() {
		network, proto = "ip6:ipv6-icmp", protoICMPv6
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	conn, err := to.dialIP(ctx, network)
	if err != nil {
		return Result{}, err
	}
	defer conn.Close()
	if err := deadline(ctx, conn); err != nil {
		return Result{}, err
	}
	var data [16]byte
	rand.Read(data[:]) // never fails: crypto/rand
	id := int(binary.BigEndian.Uint16(data[:]))
	if id == noticeID {
		id++
	}
	m := icmp.Message{Type: request, Body: &icmp.Echo{ID: id, Data: data[:]}}
	out, err := m.Marshal(nil)
	if err != nil {
		return Result{}, err
	}
	if _, err := conn.Write(out); err != nil {
		return Result{}, plain(err)
	}
	buf := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buf) // unlike Read it takes the IPv4 header off
		if err != nil {
			return Result{}, plain(err)
		}
		m, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil || m.Type != reply {
			continue
		}
		if echo, ok := m.Body.(*icmp.Echo); ok && echo.ID == id && bytes.Equal(echo.Data, data[:]) {
			return Result{}, nil
		}
	}
}

// dialIP connects a raw socket to e.
func (e *Endpoint) dialIP(ctx context.Context, network string) (*net.IPConn, error) {
	d := net.Dialer{Control: e.control}
	if src, _ := e.source(); src.IsValid() {
		d.LocalAddr = &net.IPAddr{IP: src.AsSlice()}
	}
	conn, err := d.DialContext(ctx, network, e.Addr().String())
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("%w: fnatd needs CAP_NET_RAW to ping", plain(err))
		}
		return nil, plain(err)
	}
	return conn.(*net.IPConn), nil
}
