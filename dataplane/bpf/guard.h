/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * Guards a service against a flood of SYNs: they are answered on the spot, or
 * dropped before they stand in the way of anything else.
 */

#ifndef FNATD_GUARD_H
#define FNATD_GUARD_H

#include "again.h"
#include "counters.h"
#include "parse.h"
#include "synack.h"

/* Our choices. */
#define MAX_GUARDS 4096
#define FIRST_LOOK_FACTOR 0x9e3779b1 /* 2^32 by the golden ratio (Knuth, 6.4), a prime */
#define FIRST_LOOK_SHIFT 20	     /* to MAX_GUARDS */
#define MAX_SOURCES 65536
#define SECOND 1000000000ULL /* ns */

/*
 * SYNs that may wait in a ring of 2048. Each takes user space a microsecond or
 * less, so nothing else, nor a SYN that is admitted, waits for much longer than an eighth
 * of a millisecond behind them. Two batches: one is being answered, the other is there.
 */
#define SYN_BUDGET 128
#define AGAIN_BUDGET 384 /* ... so that one that comes again may */

enum __attribute__((packed)) guard_flag {
	GUARD_ANSWER = 1, /* on the spot, where it can be done */
	GUARD_SACK = 2,   /* what is offered */
	GUARD_TIMESTAMPS = 4,
	GUARD_KNOWN = 8, /* its connections are counted, see known.h */
};

/*
 * How a service is guarded, in epochs of each parity. User space changes what the
 * next epoch says before that begins, so a cookie tells what its SYN-ACK has said.
 */
struct guard {
	struct service_key at; /* whose it is */
	struct guard_half {
		__u16 mss, window;
		__u8 scale; /* or NO_SCALE */
		enum guard_flag flags;
		__u16 limit; /* SYNs a second from one source; 0: any number */
	} by_parity[2];
};

struct guard_counters {
	__u64 syns;     /* all that came */
	__u64 answered; /* of them: on the spot */
	__u64 limited;  /* ... dropped: their source sends too many */
	__u64 shed;     /* ... dropped: too many wait in the ring */
	__u64 bad_acks; /* dropped: of no connection, and without a good cookie */
	__u64 sampled;  /* ns of clock when one of these last went up */
	struct clock clock;
};

/* Index 0 is that of no guard. See first_look for the others. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_GUARDS);
	__type(key, __u32);
	__type(value, struct guard);
} guards SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_GUARDS);
	__type(key, __u32);
	__type(value, struct guard_counters);
} guard_counts SEC(".maps");

/*
 * SYNs that were handed to a socket, by its place in xsks. User space maps this
 * and counts what it has done with; see budget.go. A cache line for each queue.
 */
struct budget {
	__u32 in;
	__u32 done;
	__u8 pad[56];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_SOCKETS);
	__type(key, __u32);
	__type(value, struct budget);
} budgets SEC(".maps");

/*
 * Sources of SYNs to guards with a limit. A source that finds another in its place
 * takes it: a flood from many makes the limit forget, never hit anybody else. (In
 * an LRU hash each new source would cost 270 ns, three times what its answer does.)
 */
struct source {
	__u64 name; /* hash of source and guard */
	__u64 free; /* ns of clock: by when all that it sent were paid for */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SOURCES);
	__type(key, __u32);
	__type(value, struct source);
} sources SEC(".maps");

/*
 * first_look returns the index of a guard which, if it is that of the service with this
 * key, makes a lookup in services needless: a flood pays for no hash map. User space
 * gives services these places as long as they are free; see guard.go.
 */
static __always_inline __u32 first_look(const struct service_key *at)
{
	const __u32 *word = (const void *)at->addr;

	return ((word[0] ^ word[1] ^ word[2] ^ word[3] ^ at->port) * FIRST_LOOK_FACTOR) >> FIRST_LOOK_SHIFT;
}

static __always_inline bool same_service(const struct service_key *a, const struct service_key *b)
{
	const __u32 *x = (const void *)a, *y = (const void *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && x[4] == y[4];
}

/*
 * source_name returns the hash of guard and source: an IPv4 address, or the upper
 * half of an IPv6 one, since a host has all of the lower half to choose from (RFC
 * 4291, 2.5.1). Zero: there is none.
 */
static __always_inline __u64 source_name(struct xdp_md *ctx, __u32 l3, __u32 guard)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip6 = data + (l3 & 31);
	struct iphdr *ip4 = data + (l3 & 31);
	const struct cookie_secrets *secret;
	__u32 zero = 0;

	secret = bpf_map_lookup_elem(&secrets, &zero);
	if (!secret || (void *)(ip4 + 1) > end)
		return 0;
	if (ip4->version == 4)
		return siphash2(&secret->limits, ip4->saddr, (__u64)guard << 1);
	if ((void *)(ip6 + 1) > end)
		return 0;
	return siphash2(&secret->limits, word64(ip6->saddr.in6_u.u6_addr32), (__u64)guard << 1 | 1);
}

/*
 * over_limit reports whether the source of the packet has sent more than limit SYNs
 * in a second to this guard, as a bucket of limit tokens would find: each SYN books a
 * share of the time, and no more than a second may be booked ahead. CPUs that race
 * for one source may let it have a few more.
 */
static __always_inline bool over_limit(struct xdp_md *ctx, __u32 l3, __u32 guard, __u32 limit, __u64 now)
{
	__u64 name = source_name(ctx, l3, guard), share = SECOND / limit;
	__u32 place = name & (MAX_SOURCES - 1);
	struct source *s = bpf_map_lookup_elem(&sources, &place);

	if (!s)
		return false;
	if (s->name != name || s->free < now) {
		s->name = name;
		s->free = now;
	}
	if (s->free + share > now + SECOND)
		return true;
	s->free += share;
	return false;
}

/*
 * afford takes one from the budget of SYNs that may wait for a socket. User space
 * may be a little ahead of in, so the difference is signed.
 */
static __always_inline bool afford(__u32 socket, __s32 most)
{
	struct budget *b = bpf_map_lookup_elem(&budgets, &socket);

	if (!b || (__s32)(b->in - b->done) >= most)
		return false;
	__sync_fetch_and_add(&b->in, 1); /* in generic mode CPUs may share a queue */
	return true;
}

/* hash_syn returns the hash of a SYN that comes again as it was, or 0. */
static __always_inline __u64 hash_syn(struct xdp_md *ctx, __u32 l3, __u32 l4)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip6 = data + (l3 & 31);
	struct iphdr *ip4 = data + (l3 & 31);
	struct tcp *tcp = data + (l4 & MAX_L4);
	const struct cookie_secrets *secret;
	__u32 zero = 0;

	secret = bpf_map_lookup_elem(&secrets, &zero);
	if (!secret || l4 > MAX_L4 || (void *)(tcp + 1) > end || (void *)(ip4 + 1) > end)
		return 0;
	if (ip4->version == 4)
		return hash4(&secret->limits, ip4, names(tcp, bpf_ntohl(tcp->seq)));
	if ((void *)(ip6 + 1) > end)
		return 0;
	return hash6(&secret->limits, ip6, names(tcp, bpf_ntohl(tcp->seq)));
}

/*
 * meet_syn decides about a SYN to the service with this guard: COUNTER_SERVICE is to
 * hand it to the socket.
 */
static __always_inline int meet_syn(struct xdp_md *ctx, __u32 guard, __u32 l3, __u32 l4, __u32 socket)
{
	struct guard_counters *n = bpf_map_lookup_elem(&guard_counts, &guard);
	struct guard *both = bpf_map_lookup_elem(&guards, &guard);
	__u32 parity = current_parity();
	struct guard_half *g;

	if (!n || !both)
		return COUNTER_SERVICE;
	g = &both->by_parity[parity];
	n->syns++;
	if (g->limit && over_limit(ctx, l3, guard, g->limit, clock(&n->clock))) {
		n->limited++;
		return COUNTER_LIMITED;
	}
	if (g->flags & GUARD_ANSWER) {
		struct offer o = {
			.mss = g->mss, .window = g->window, .scale = g->scale,
			.sack = g->flags & GUARD_SACK, .timestamps = g->flags & GUARD_TIMESTAMPS,
		};

		if (answer(ctx, l3, o, parity, &n->clock)) {
			n->answered++;
			return COUNTER_ANSWERED;
		}
	}
	if (afford(socket, SYN_BUDGET))
		return COUNTER_SERVICE;
	if (comes_again(hash_syn(ctx, l3, l4), n->shed, clock(&n->clock)) && afford(socket, AGAIN_BUDGET))
		return COUNTER_SERVICE;
	n->shed++;
	return COUNTER_SHED;
}

#endif
