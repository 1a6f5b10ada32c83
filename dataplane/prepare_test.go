package dataplane

import (
	"testing"

	"github.com/fnatd/fnatd/conntrack"
	"github.com/fnatd/fnatd/internal/packet"
)

// SYNs that come in one batch are prepared together.
func TestSYNsOfABatch(t *testing.T) {
	syn := func(w *world, port uint16) {
		k := talk{world: w, client: at(port), virtual: vip, seq: clientISN}
		w.put(wan, k.fromClient(packet.SYN, synOptions, "").Bytes())
	}
	// loads returns the connections of both real servers.
	loads := func(w *world) (n [2]int) {
		for i, server := range w.engine.View().Services[0].Servers {
			n[i] = server.Load.Total()
		}
		return n
	}
	check := func(t *testing.T, w *world) {
		t.Helper()
		if err := w.conns.Check(); err != nil {
			t.Error(err)
		}
	}
	t.Run("take_turns_at_the_servers", func(t *testing.T) {
		w := newWorld(t, twoServers)
		for i := range uint16(40) {
			syn(w, 1+i)
		}
		sent := w.run()[lan]
		if got, want := loads(w), [2]int{20, 20}; len(sent) != 40 || got != want {
			t.Errorf("got %d SYNs and loads %v, want 40 and %v", len(sent), got, want)
		}
		check(t, w)
	})
	t.Run("go_to_the_server_with_least_connections", func(t *testing.T) {
		w := newWorld(t, `[[service]]
name = "web"
protocol = "tcp"
address = "198.18.0.100:80"
interface = "wan0"
scheduler = "lc"
local_pool = "lan"
[[service.real_server]]
address = "198.19.0.101:8080"
[[service.real_server]]
address = "198.19.0.102:8080"
`)
		for i := range uint16(40) {
			syn(w, 1+i)
		}
		w.run()
		if got, want := loads(w), [2]int{20, 20}; got != want {
			t.Errorf("loads: got %v, want %v", got, want)
		}
		check(t, w)
	})
	t.Run("of_one_flow_make_one_connection", func(t *testing.T) {
		w := newWorld(t, tcpService)
		for range 3 {
			syn(w, 1)
		}
		sent := w.run()[lan]
		if got, want := loads(w), [2]int{1}; len(sent) != 3 || got != want || w.conns.Stats().Connections != 1 {
			t.Errorf("got %d SYNs, loads %v and %d connections, want 3, %v and 1", len(sent), got, w.conns.Stats().Connections, want)
		}
		check(t, w)
	})
	t.Run("keep_no_place_that_they_do_not_need", func(t *testing.T) {
		w := newWorld(t, tcpService, maxConnections(4))
		for range 3 {
			syn(w, 1)
		}
		w.run()
		for i := range uint16(3) {
			syn(w, 100+i)
		}
		w.run()
		if got, want := loads(w), [2]int{4}; got != want || w.counts().Events[ConnEvicted] != 0 {
			t.Errorf("got loads %v and %d evicted, want %v and none", got, w.counts().Events[ConnEvicted], want)
		}
		check(t, w)
	})
	t.Run("leave_nothing_where_the_table_is_full", func(t *testing.T) {
		w := newWorld(t, tcpService, maxConnections(4))
		for i := range uint16(4) {
			w.connect(at(1 + i))
		}
		for i := range uint16(10) {
			syn(w, 100+i)
		}
		w.run()
		if got, want := loads(w), [2]int{4}; got != want || w.counts().Drops[packet.TableFull] != 10 {
			t.Errorf("got loads %v and drops %v, want %v and 10 of %v", got, w.drops(), want, packet.TableFull)
		}
		check(t, w)
	})
	t.Run("share_the_ports_that_there_are", func(t *testing.T) {
		w := newWorld(t, twoServers, onePort, func(_ *world, _ *Config, c *conntrack.Config) { c.Shards = 64 })
		for range 4 {
			for i := range uint16(60) {
				syn(w, 1+i)
			}
			w.run()
		}
		if got := loads(w); got[0]+got[1] != w.conns.Stats().Connections || w.counts().Drops[packet.NoLocalPort] == 0 {
			t.Errorf("got loads %v, %d connections and drops %v", got, w.conns.Stats().Connections, w.drops())
		}
		check(t, w)
	})
}
