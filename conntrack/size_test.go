package conntrack

import (
	"reflect"
	"testing"

	"github.com/fnatd/fnatd/internal/packet"
)

func TestHotDataIsWholeCacheLines(t *testing.T) {
	for _, c := range []struct {
		v    any
		want uintptr
	}{
		{Conn{}, 64}, {bucket{}, 64}, {bindingEntry{}, 64}, {localEntry{}, 32}, {[2]node{}, 16},
	} {
		if got := reflect.TypeOf(c.v).Size(); got != c.want {
			t.Errorf("%T: got %d bytes, want %d", c.v, got, c.want)
		}
	}
}

func TestMeasure(t *testing.T) {
	for _, c := range []struct {
		conns int
		most  float64 // bytes a connection
	}{
		{1_000_000, 115}, {10_000_000, 107}, {100_000_000, 105},
	} {
		if got := Measure(Config{MaxConnections: c.conns}).PerConnection(); got > c.most {
			t.Errorf("%d connections: %.1f bytes each, want at most %.0f", c.conns, got, c.most)
		}
	}
	z := Measure(Config{MaxConnections: 10_000_000})
	if addresses := int64(100); z.Total+addresses*z.PerLocal > 1_300_000_000 {
		t.Errorf("10 million connections on %d local addresses take %d bytes", addresses, z.Total+addresses*z.PerLocal)
	}
}

func TestShardsHoldTheBound(t *testing.T) {
	const bound = 20_000
	tb := newTestTable(t, Config{MaxConnections: bound})
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	l := []LocalID{mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)}
	for n := range bound {
		if _, why := open(tb, clientN(n), b, l, 0); why != packet.Kept {
			t.Fatalf("connection %d: %v", n, why)
		}
	}
}

func TestNew(t *testing.T) {
	for _, c := range []Config{
		{}, {MaxConnections: -1}, {MaxConnections: 10, Shards: 3}, {MaxConnections: 10, Shards: -2},
		{MaxConnections: 10, Shards: 1 << 13},
	} {
		if _, err := New(c, nil); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
	c := Config{MaxConnections: 1000}
	tb, err := New(c, mapped(t, c))
	if err != nil {
		t.Fatal(err)
	}
	b := mustBind(t, tb, packet.ProtoTCP, virtual, real1)
	l := mustAddLocal(t, tb, "10.0.1.10", 1024, 65535)
	for n := range 1000 {
		if c, why := open(tb, clientN(n), b, []LocalID{l}, 0); why != packet.Kept || !has(t, tb, c) {
			t.Fatalf("connection %d: %v", n, why)
		}
	}
	if err := tb.Check(); err != nil {
		t.Error(err)
	}
}
