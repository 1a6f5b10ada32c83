// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)

//go:build ignore

/*
 * The XDP program of fnatd. It parts what is balanced from what is the host's
 * own:
 *
 *	Ethernet, up to two VLAN tags
 *	IPv4 or IPv6 with extension headers
 *	TCP or UDP to a service, or to a port that fnatd owns on a local address
 *	a fragment of such a datagram (only the first one has a port)
 *	the echo reply to a UDP notice
 *	an ICMP error that quotes what a service or such a port has sent
 *		-> the AF_XDP socket of this interface and queue, or dropped
 *		   while nobody serves it: the kernel has no connection to it
 *		   and would answer RST. Or left to the kernel all the same,
 *		   if the operator wants that after some time: see orphan.h
 *	a SYN to a service that is guarded, while somebody serves its queue
 *		-> its sender, made a SYN-ACK with a cookie, or the socket, or
 *		   dropped: see guard.h
 *	a segment to such a service that is of no connection and brings no cookie
 *		-> dropped: see known.h
 *	everything else
 *		-> the kernel
 *
 * User space fills the maps; see program.go.
 */

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Our choices for the sockets. */
#define MAX_PORTS 16
#define QUEUES_PER_PORT 256
#define MAX_SOCKETS (MAX_PORTS * QUEUES_PER_PORT)
#define NO_SOCKET MAX_SOCKETS

#include "counters.h"
#include "guard.h"
#include "known.h"
#include "orphan.h"
#include "parse.h"

/* From the standards. */
#define ICMP_ECHO_REPLY 0     /* RFC 792 */
#define ICMP6_ECHO_REPLY 129  /* RFC 4443, 4.2 */
#define ICMP_UNREACHABLE 3    /* RFC 792 */
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER 12
#define ICMP6_LAST_ERROR 4    /* RFC 4443, 2.1: 1 to 4 are the errors known */

/* Our choices. */
#define MAX_SERVICES 131072 /* with one wildcard key for each address and protocol */
#define MAX_LOCALS 16384
#define NOTICE_ID 0x3412 /* identifier of a UDP notice, as its bytes stand on the wire */

struct local_key {
	__u8 addr[16] __attribute__((aligned(4)));
};

struct port_range {
	__u16 min, max; /* both inclusive */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_SERVICES);
	__type(key, struct service_key);
	__type(value, __u32); /* index of its guard, or 0 */
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_LOCALS);
	__type(key, struct local_key);
	__type(value, struct port_range);
} locals SEC(".maps");

/* An interface that is served. */
struct port {
	__u32 ifindex; /* 0: none is */
	__u32 base;    /* index in xsks of its queue 0 */
};

/* Searched one by one, which for the first few is much faster than a hash. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, struct port);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_SOCKETS);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct l4_ports {
	__be16 src, dst;
};

struct echo {
	__u8 type, code;
	__be16 checksum, id, seq;
};

static __always_inline struct port_range *find_local(struct datagram *d)
{
	struct local_key key;

	__builtin_memcpy(key.addr, d->at.addr, sizeof(key.addr));
	return bpf_map_lookup_elem(&locals, &key);
}

/*
 * classify_fragment goes by address and protocol, also for the first fragment:
 * all fragments of a datagram must take one way.
 */
static __always_inline enum counter classify_fragment(struct datagram *d)
{
	if (d->at.proto != IPPROTO_TCP && d->at.proto != IPPROTO_UDP)
		return COUNTER_PASSED;
	if (bpf_map_lookup_elem(&services, &d->at) || find_local(d))
		return COUNTER_FRAGMENT;
	return COUNTER_PASSED;
}

/* note_guard notes the guard that a packet to its service has to pass. */
static __always_inline void note_guard(struct datagram *d, __u32 guard)
{
	struct tcp *tcp = d->payload;

	if (!guard || (void *)(tcp + 1) > d->end)
		return;
	d->syn = is_syn(tcp);
	if (!d->syn && !is_ack(tcp))
		return;
	d->guard = guard;
	d->l4 = d->payload - d->start;
}

/* find_service reports whether the end is a service, and tells its guard. */
static __always_inline bool find_service(const struct service_key *at, __u32 *guard)
{
	__u32 first = first_look(at), *found;
	struct guard *g = bpf_map_lookup_elem(&guards, &first);

	if (g && same_service(&g->at, at)) {
		*guard = first;
		return true;
	}
	found = bpf_map_lookup_elem(&services, at);
	if (found)
		*guard = *found;
	return found;
}

static __always_inline enum counter classify_transport(struct datagram *d, __u32 *guard)
{
	struct l4_ports *l4 = d->payload;
	struct port_range *range;

	if ((void *)(l4 + 1) > d->end)
		return COUNTER_PASSED;
	d->at.port = bpf_ntohs(d->which == SOURCE ? l4->src : l4->dst);
	/* Port 0 is no port, and in the map it is the wildcard. */
	if (d->at.port && find_service(&d->at, guard))
		return COUNTER_SERVICE;
	range = find_local(d);
	if (range && d->at.port >= range->min && d->at.port <= range->max)
		return COUNTER_LOCAL;
	return COUNTER_PASSED;
}

static __always_inline enum counter classify_echo(struct datagram *d, __u8 reply)
{
	struct echo *echo = d->payload;

	if ((void *)(echo + 1) > d->end)
		return COUNTER_PASSED;
	if (echo->type == reply && echo->code == 0 &&
	    echo->id == bpf_htons(NOTICE_ID) && find_local(d))
		return COUNTER_NOTICE;
	return COUNTER_PASSED;
}

/*
 * classify_error goes by the sender of the datagram that the error at d's payload
 * quotes. Quoted fragments are left to the kernel: only the first has ports.
 */
static __always_inline enum counter classify_error(struct datagram *d, bool is4)
{
	struct datagram quoted = { .which = SOURCE, .end = d->end };
	void *quote = d->payload + sizeof(struct echo);
	__u32 guard;

	if (is4 ? !parse_ip4(&quoted, quote) : !parse_ip6(&quoted, quote))
		return COUNTER_PASSED;
	if (quoted.fragment ||
	    (quoted.at.proto != IPPROTO_TCP && quoted.at.proto != IPPROTO_UDP))
		return COUNTER_PASSED;
	return classify_transport(&quoted, &guard) == COUNTER_PASSED ? COUNTER_PASSED : COUNTER_ICMP_ERROR;
}

static __always_inline enum counter classify_icmp(struct datagram *d)
{
	struct echo *icmp = d->payload;

	if ((void *)(icmp + 1) > d->end)
		return COUNTER_PASSED;
	switch (icmp->type) {
	case ICMP_UNREACHABLE:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER:
		return classify_error(d, true);
	}
	return classify_echo(d, ICMP_ECHO_REPLY);
}

static __always_inline enum counter classify_icmp6(struct datagram *d)
{
	struct echo *icmp = d->payload;

	if ((void *)(icmp + 1) > d->end)
		return COUNTER_PASSED;
	if (icmp->type > 0 && icmp->type <= ICMP6_LAST_ERROR)
		return classify_error(d, false);
	return classify_echo(d, ICMP6_ECHO_REPLY);
}

static __always_inline enum counter classify(struct datagram *d)
{
	enum counter why;
	__u32 guard = 0;

	if (d->fragment)
		return classify_fragment(d);
	switch (d->at.proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		why = classify_transport(d, &guard);
		note_guard(d, guard);
		return why;
	case IPPROTO_ICMP:
		return classify_icmp(d);
	case IPPROTO_ICMPV6:
		return classify_icmp6(d);
	}
	return COUNTER_PASSED;
}

/* socket_of returns the index in xsks of the socket of the frame's interface and queue. */
static __always_inline __u32 socket_of(struct xdp_md *ctx)
{
	__u32 queue = ctx->rx_queue_index;

	if (queue >= QUEUES_PER_PORT)
		return NO_SOCKET;

#pragma unroll
	for (int i = 0; i < MAX_PORTS; i++) {
		__u32 key = i; /* which old verifiers do not follow through a loop */
		struct port *p = bpf_map_lookup_elem(&ports, &key);

		if (p && p->ifindex == ctx->ingress_ifindex)
			return p->base + queue;
	}
	return NO_SOCKET;
}

/* is_served reports whether there is a socket. */
static __always_inline bool is_served(__u32 socket)
{
	return bpf_map_lookup_elem(&xsks, &socket);
}

/* redirect hands the frame to its socket, or changes why if there is none. */
static __always_inline int redirect(__u32 socket, enum counter *why)
{
	int verdict = bpf_redirect_map(&xsks, socket, XDP_DROP);

	if (verdict == XDP_REDIRECT)
		return verdict;
	*why = is_orphaned() ? COUNTER_ORPHANED : COUNTER_UNSERVED;
	return *why == COUNTER_ORPHANED ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int fnatd_xdp(struct xdp_md *ctx)
{
	struct datagram d = {};
	enum counter why = COUNTER_PASSED;
	int verdict = XDP_PASS;
	__u32 socket;

	if (parse(ctx, &d))
		why = classify(&d);
	if (why != COUNTER_PASSED) {
		socket = socket_of(ctx);
		/* Nobody would take the ACK of an answer that is given while nobody serves. */
		if (d.guard && is_served(socket))
			why = d.syn ? meet_syn(ctx, d.guard, d.l3, d.l4, socket) : meet_ack(ctx, d.guard, d.l3, d.l4);
		if (why == COUNTER_ANSWERED)
			verdict = XDP_TX;
		else if (why == COUNTER_LIMITED || why == COUNTER_SHED || why == COUNTER_BAD_COOKIE)
			verdict = XDP_DROP;
		else
			verdict = redirect(socket, &why);
	}
	count(why);
	return verdict;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
