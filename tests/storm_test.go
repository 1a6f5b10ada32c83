package tests

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// A cable carries frames between the two ends of a host that has no address, and
// treats them badly, each way: of a hundred frames it loses five, carries two
// twice, and lets two be overtaken. Not every kernel has netem.
type cable struct {
	ends [2]*os.File

	mu                    sync.Mutex
	lost, twice, overtook int
}

// The chances are one in so many; a frame is held until so many others have gone,
// or for so long.
const (
	loseOne, repeatOne, holdOne = 20, 50, 50

	overtaking  = 4
	longestHeld = 3 * time.Millisecond
)

// lay makes a cable of the host between, until the test ends.
func (b *bed) lay(between *netns.Host) *cable {
	b.Helper()
	c := &cable{}
	for i, name := range []string{"left", "right"} {
		index, err := between.Index(name)
		b.must(err)
		b.must(between.Do(func() error {
			// Protocol 0 receives nothing until bind has named the interface.
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			c.ends[i] = os.NewFile(uintptr(fd), name)
			all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL})
			return errors.Join(
				unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20),
				unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}),
			)
		}))
		b.Cleanup(func() { c.ends[i].Close() })
	}
	for i := range c.ends {
		go c.carry(c.ends[i], c.ends[1-i])
	}
	return c
}

// carry carries one way, until an end is closed.
func (c *cable) carry(from, to *os.File) {
	buf := make([]byte, 1<<16)
	var held []byte
	ahead := 0
	release := func() {
		to.Write(held) // a full queue is one more way to lose a frame
		held = nil
		from.SetReadDeadline(time.Time{})
	}
	for {
		n, err := from.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			release()
			continue
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil: // the link is down
			continue
		}
		switch frame := buf[:n]; {
		case rand.N(loseOne) == 0:
			c.count(&c.lost)
		case held == nil && rand.N(holdOne) == 0:
			held, ahead = bytes.Clone(frame), 0
			from.SetReadDeadline(time.Now().Add(longestHeld))
		default:
			to.Write(frame)
			if rand.N(repeatOne) == 0 {
				c.count(&c.twice)
				to.Write(frame)
			}
			if held == nil {
				continue
			}
			if ahead++; ahead == overtaking {
				c.count(&c.overtook)
				release()
			}
		}
	}
}

func (c *cable) count(n *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n++
}

// behindCable puts a host behind edge and a bad cable.
func (b *bed) behindCable(edge *netns.Host) (*farHost, *cable) {
	b.Helper()
	f := b.wireFar(edge)
	for _, version := range []int{4, 6} {
		far := f.network(version)
		b.must(edge.AddAddress("eth1", first(far)))
		b.must(f.AddAddress("eth0", second(far)))
		b.must(f.AddRoute(everything(version), first(far).Addr()))
		b.must(b.Balancer.AddRoute(far, b.on(edge, version)))
	}
	return f, b.lay(f.between)
}

// TestTransfersSurviveBadCables has 200 transfers of 5 MB, in every family, half of
// them up and half down, go through a bad cable on either side of fnatd.
func TestTransfersSurviveBadCables(t *testing.T) {
	const (
		size      = 5 << 20
		transfers = 200
		stuck     = 4 * time.Minute
	)
	b := newBed(t, variant{netns.TwoArm, 2, fourToFour, false, ""}, 1)
	client, atClient := b.behindCable(b.Client)
	server, atServer := b.behindCable(b.Servers[0])
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{3}).Read(data)
	want := sha256.Sum256(data)

	var services []harness.Service
	for i, f := range everyFamily {
		at := netip.AddrPortFrom(server.addr(f.server), uint16(8080+i))
		services = append(services, harness.Service{Name: f.String(), Virtual: f.vip(uint16(80 + i)), Servers: []harness.Server{{Real: at}}})
		l, err := server.Listen("tcp", at.String())
		b.must(err)
		go serveTransfers(l, data)
	}
	b.start(services...)

	var all sync.WaitGroup
	dialing := make(chan struct{}, 50) // a dial holds a thread: see Host.Do
	for i := range transfers {
		s := services[i%len(services)]
		all.Go(func() {
			begin := time.Now()
			dialing <- struct{}{}
			c, err := client.Dial(t.Context(), "tcp", s.Virtual.String())
			<-dialing
			if err == nil {
				c.SetDeadline(begin.Add(stuck))
				var got []byte
				got, err = transfer(c.(*net.TCPConn), i/len(services)%2 == 0, data)
				if err == nil && !bytes.Equal(got, want[:]) {
					err = fmt.Errorf("arrived with hash %x, want %x", got, want)
				}
				c.Close()
			}
			if err != nil {
				t.Errorf("%s: transfer %d, after %v: %v", s.Name, i, time.Since(begin), err)
			}
		})
	}
	all.Wait()
	for _, c := range []*cable{atClient, atServer} {
		c.mu.Lock()
		if least := transfers * size / 1500 / 100; c.lost < least || c.twice < least/10 || c.overtook < least/10 {
			t.Errorf("a cable has lost %d frames, repeated %d, let %d be overtaken: not bad enough", c.lost, c.twice, c.overtook)
		}
		t.Logf("frames lost: %d, repeated: %d, overtaken: %d", c.lost, c.twice, c.overtook)
		c.mu.Unlock()
	}
}

// What a client of serveTransfers says first.
const (
	upload   = 'u'
	download = 'd'
)

// serveTransfers answers an upload with its hash, and a download with data.
func serveTransfers(l net.Listener, data []byte) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var what [1]byte
			if _, err := io.ReadFull(c, what[:]); err != nil {
				return
			}
			if what[0] == download {
				c.Write(data)
				return
			}
			h := sha256.New()
			if _, err := io.Copy(h, c); err == nil {
				c.Write(h.Sum(nil))
			}
		}()
	}
}

// transfer makes one transfer and returns the hash of what has arrived.
func transfer(c *net.TCPConn, up bool, data []byte) ([]byte, error) {
	if up {
		if _, err := c.Write(append([]byte{upload}, data...)); err != nil {
			return nil, err
		}
		if err := c.CloseWrite(); err != nil {
			return nil, err
		}
		return io.ReadAll(c)
	}
	if _, err := c.Write([]byte{download}); err != nil {
		return nil, err
	}
	h := sha256.New()
	_, err := io.Copy(h, c)
	return h.Sum(nil), err
}
