/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The UDP flows that servers have received from of late: so recvmsg and sendmsg need
 * not look for them in the maps of mapping.h, whose keys cost 100 ns and more a lookup.
 *
 * A flow's slot follows from its LIP and port; that of the flow by which answers to a
 * client go, from answers. Slots are written and read without a lock. A sum tells what
 * was written by two at a time, or while it was read: that counts for nothing.
 */

#pragma once

#include "mapping.h"

/* Our choices. */
#define HEARD_BITS 12
#define HEARD_LASTS 64 /* jiffies, 64 to 640 ms: then the mapping is looked at and touched again */

/* One cache line. */
struct heard {
	__u32 turn;   /* goes up with each notice for the slot, and when answers are to go another way */
	__u32 filled; /* the turn before the mapping was read: what is below counts in that alone */
	__u64 sum;    /* of filled and all that follows */
	__u64 socket; /* that heard of it, of socket_of */
	__u32 at;     /* when it was filled, in jiffies */
	__be16 lport, cport;
	__be32 local[4], client[4];
};

_Static_assert(sizeof(struct heard) == 64, "one cache line");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* begins with a page, and so with a cache line */
	__uint(max_entries, 1 << HEARD_BITS);
	__type(key, __u32);
	__type(value, struct heard);
} heards SEC(".maps");

/* By client: the number of a slot. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << HEARD_BITS);
	__type(key, __u32);
	__type(value, __u32);
} answers SEC(".maps");

/* number_of spreads endpoints over slots. Ports differ most, and by little. */
static __always_inline __u32 number_of(const struct endpoint *e)
{
	__u32 h = e->addr[0] ^ e->addr[1] ^ e->addr[2] ^ e->addr[3];

	return (h * 0x85ebca6b + bpf_ntohs(e->port)) * 0x9e3779b1 >> (32 - HEARD_BITS);
}

static __always_inline struct heard *heard_of(const struct endpoint *local)
{
	__u32 number = number_of(local);

	return bpf_map_lookup_elem(&heards, &number);
}

/* turn_over has servers look again at what they were told of a LIP's port. */
static __always_inline void turn_over(const struct endpoint *local)
{
	struct heard *h = heard_of(local);

	if (h)
		__sync_fetch_and_add(&h->turn, 1);
}

/* sum_of is multilinear: odd factors, none of which waits for another. */
static __always_inline __u64 sum_of(const struct heard *h)
{
	__u64 word[8];

	__builtin_memcpy(word, h, sizeof(word)); /* words 0 and 1 are turn, filled and the sum itself */
	return 0xcbf29ce484222325 + (__u64)h->filled * 0x9e3779b97f4a7c15 + word[2] * 0xbf58476d1ce4e5b9 +
	       word[3] * 0x94d049bb133111eb + word[4] * 0xff51afd7ed558ccd + word[5] * 0xc4ceb9fe1a85ec53 +
	       word[6] * 0x2545f4914f6cdd1d + word[7] * 0xd6e8feb86659fd93;
}

/*
 * socket_of tells sockets apart that the maps of mapping.h do: by the address and port
 * that an IPv4 socket is bound to, which take no call to read; by its cookie, which
 * counts up and leaves the top bit alone, where the address is longer.
 */
static __always_inline __u64 socket_of(struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	if (sk->family == FAMILY_IPV6)
		return bpf_get_socket_cookie(ctx);
	return 1ULL << 63 | (__u64)sk->src_ip4 << 16 | sk->src_port;
}

/* read_heard copies a slot, and reports whether it counts for a socket. */
static __always_inline bool read_heard(struct heard *copy, const struct heard *slot, __u64 socket)
{
	*copy = *slot;
	asm volatile("" ::: "memory"); /* or it would be read again instead */
	return copy->socket == socket && copy->filled == copy->turn && (__u32)bpf_jiffies64() - copy->at < HEARD_LASTS &&
	       copy->sum == sum_of(copy);
}

/* hear fills a slot. turn is the slot's from before the mapping was read. */
static __always_inline void hear(struct heard *slot, __u32 turn, __u64 socket, const struct endpoint *local,
				 const struct endpoint *client)
{
	struct heard h = {
		.filled = turn, .socket = socket, .at = bpf_jiffies64(), .lport = local->port, .cport = client->port,
	};
	__u32 by_client = number_of(client), *answer;

	copy_addr(h.local, local->addr);
	copy_addr(h.client, client->addr);
	slot->sum = sum_of(&h);
	slot->filled = h.filled;
	slot->socket = h.socket;
	slot->at = h.at;
	slot->lport = h.lport;
	slot->cport = h.cport;
	copy_addr(slot->local, h.local);
	copy_addr(slot->client, h.client);
	answer = bpf_map_lookup_elem(&answers, &by_client);
	if (answer)
		*answer = number_of(local);
}
