// The whole program on the rig. fnatd runs in the balancer's namespace, between
// programs that know nothing of it:
//
//	client              balancer                  switch       server0, server1 …
//	198.18.0.2         198.18.0.1  198.19.0.1                  198.19.0.101 …
//	┌───────┐         ┌──────────────────────┐    ┌─────┐      ┌────────────┐
//	│   eth0├─────────┤wan0   fnatd      lan0├────┤ br0 ├──────┤eth0        │   two-arm
//	└───────┘         └──────────────────────┘    └─────┘      └────────────┘
//	curl, iperf3       VIP          LIP                        nginx, iperf3
//	dnsperf, ping      198.18.0.100 198.19.0.10, .11           unbound
//
//	┌───────┐                                     ┌─────┐      ┌────────────┐
//	│   eth0├─────────────────────────────────────┤     ├──────┤eth0        │   one-arm
//	└───────┘         ┌──────────────────────┐    │ br0 │      └────────────┘
//	                  │       fnatd      eth0├────┤     │
//	                  └──────────────────────┘    └─────┘
//
// Addresses are the same in both. Nobody else forwards: what reaches the other
// side has been carried there by fnatd. TestFnatd runs every scenario on every
// variant, each on a rig and a fnatd of its own.
package tests

import (
	"fmt"
	"os"
	"testing"

	"github.com/fnatd/fnatd/internal/netns"
	"github.com/fnatd/fnatd/tests/harness"
)

// bin is where TestMain has built fnatd, fnatctl and fnatrs.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if addr := os.Getenv(httpServer); addr != "" {
		return serveHTTP(addr)
	}
	var err error
	if bin, err = os.MkdirTemp("", "fnatd-bin-"); err == nil {
		defer os.RemoveAll(bin)
		err = harness.Build("..", bin)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// A variant is one point of the matrix that every scenario is run on.
type variant struct {
	shape  netns.Shape
	queues int
}

var matrix = []variant{
	{netns.TwoArm, 1},
	{netns.OneArm, 1},
	{netns.TwoArm, 2},
}

func (v variant) String() string {
	if v.queues == 1 {
		return v.shape.String()
	}
	return fmt.Sprintf("%v_%d_queues", v.shape, v.queues)
}

// scenarios is what fnatd does for its users.
var scenarios = []struct {
	name string
	run  func(*bed)
}{
	{"download_and_upload_of_100_MB_are_intact", downloadAndUpload},
	{"1000_connections_at_a_time_do_not_mix", thousandConnections},
	{"many_requests_on_one_connection", keepAlive},
	{"iperf3_completes_both_ways", iperfBothWays},

	{"either_end_may_close_its_half", halfClose},
	{"reset_reaches_the_other_end", resetReachesOtherEnd},
	{"idle_connection_is_reset_at_both_ends", idleConnectionIsReset},
	{"client_learns_that_its_server_died", serverDies},
	{"connection_survives_links_down_and_up", linkDownAndUp},
	{"connection_follows_a_new_mac_address", newMACAddress},
	{"connection_follows_a_new_route", routeChanges},
	{"lost_packets_are_sent_again", lossyLinks},

	{"round_robin_counts_are_exact", roundRobinIsExact},
	{"persistence_keeps_a_client_on_its_server", persistenceKeepsServer},
	{"weight_0_drains", weightZeroDrains},
	{"upper_threshold_is_respected", upperThresholdIsRespected},

	{"udp_clients_get_their_own_answers", udpEcho},
	{"dns_under_load_loses_nothing", dnsUnderLoad},

	{"servers_are_told_the_client_by_tcp_option", clientAddressOptions},
	{"forged_options_are_blanked", forgedOptionsAreBlanked},
	{"servers_are_told_the_client_by_udp_notice", udpNotices},

	{"reload_in_mid_stream_is_not_noticed", reloadInMidStream},
	{"bad_reload_changes_nothing", badReloadChangesNothing},
	{"figures_are_true", figuresAreTrue},

	{"host_keeps_everything_else", hostKeepsEverythingElse},
	{"stop_under_load_is_clean", stopUnderLoad},
	{"killed_fnatd_leaves_silence_and_the_next_takes_over", killAndReturn},

	{"idle_fnatd_hardly_uses_a_processor", idleIsCheap},
	{"busy_poll_uses_its_core", busyPollUsesItsCore},
}

func TestFnatd(t *testing.T) {
	for _, v := range matrix {
		t.Run(v.String(), func(t *testing.T) {
			for _, s := range scenarios {
				t.Run(s.name, func(t *testing.T) { s.run(newBed(t, v, 3)) })
			}
		})
	}
}
