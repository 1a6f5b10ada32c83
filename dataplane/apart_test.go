package dataplane

import "testing"

// TestWorkersApart runs what the worker's tests expect of one worker with two,
// where the two directions of every connection meet different ones.
func TestWorkersApart(t *testing.T) {
	apart = true
	defer func() { apart = false }()
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"handshake", TestHandshake},
		{"close", TestClose},
		{"fin_carries_the_address", TestFinCarriesTheAddress},
		{"sack", TestSACK},
		{"forged_option", TestForgedOption},
		{"option_that_does_not_fit", TestOptionThatDoesNotFit},
		{"retransmitted_syn", TestRetransmittedSYN},
		{"reuse_on_a_new_syn", TestReuseOnANewSYN},
		{"spoofed_syn", TestSpoofedSYNChangesNothing},
		{"reset", TestReset},
		{"idle_expiry", TestIdleExpiryResetsBothEnds},
		{"udp", TestUDP},
		{"udp_without_checksum", TestUDPWithoutChecksum},
		{"notice", TestNotice},
		{"udp_states", TestUDPStates},
		{"max_connections", TestMaxConnections},
		{"persistence", TestPersistence},
		{"reload", TestReload},
		{"next_hops", TestNextHops},
		{"families", TestFamilies},
		{"timestamps", TestTimestamps},
		{"fragments", TestFragments},
		{"icmp_errors", TestErrorsArePassedOn},
		{"drops", TestDrops},
	} {
		t.Run(test.name, test.run)
	}
}
