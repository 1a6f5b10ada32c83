// Package netns is the rig: a client, a balancer and real servers in network
// namespaces of their own, for tests and for make demo. It builds the wires and
// addresses, runs programs and Go functions inside, and records frames. It knows
// nothing of fnatd, which runs in the Balancer's namespace like anything else.
//
// A Rig comes in two shapes. Both use the same addresses, so that a test may run
// in each of them unchanged.
//
// TwoArm has one interface towards the client and one towards the servers:
//
//	client            balancer                    switch        server0, server1 …
//	┌───────┐        ┌──────────────┐             ┌─────┐       ┌───────┐
//	│   eth0├────────┤wan0      lan0├─────────────┤ br0 ├───────┤eth0   │
//	└───────┘        └──────────────┘             └─────┘       └───────┘
//	198.18.0.2    198.18.0.1    198.19.0.1                      198.19.0.101 …
//	2001:db8:18::2    …:18::1   2001:db8:19::1                  2001:db8:19::101 …
//
// OneArm has a single wire that carries both networks:
//
//	client         switch                        server0, server1 …
//	┌───────┐      ┌─────┐                       ┌───────┐
//	│   eth0├──────┤     ├───────────────────────┤eth0   │
//	└───────┘      │ br0 │                       └───────┘
//	198.18.0.2     │     │   balancer            198.19.0.101 …
//	               │     │   ┌───────┐
//	               │     ├───┤eth0   │  198.18.0.1 and 198.19.0.1
//	               └─────┘   └───────┘
//
// VIPs are 198.18.0.100 and up, LIPs 198.19.0.10 and up (VIP, LIP); the rig does
// not assign them: fnatd does. Hosts have the two networks they are drawn with
// and nothing else. There is no default route and nobody forwards, so a server
// can answer the balancer alone, and a packet that reaches the other side has
// been carried there by fnatd.
package netns
