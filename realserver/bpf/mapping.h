/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who is behind a LIP's port, where no socket can hold it: clients of UDP
 * servers, and of TCP connections that are not made yet.
 *
 * A notice makes an entry of noticed. When a server receives from there, the
 * entry moves to mappings: a flood of notices pushes out what nobody has used,
 * and nothing else. The way back, from a client to its LIP, is in replies, and
 * counts only while the mapping it leads to still names that client: a LIP's
 * port that has passed to another client gets nothing meant for the last one.
 */

#pragma once

#include "common.h"

/* Our choices. */
#define REFRESH 1000000000 /* ns: a mapping's age is not exact to more than that */

/* A flow as the real server has it, or the client's side of it. */
struct flow {
	struct endpoint peer; /* LIP and port; in replies, the client */
	__be32 rip[4];        /* zero: of a socket that is bound to no address */
	__be16 rport;
	__u8 proto;
	__u8 zero;
};

struct mapping {
	__u64 seen;             /* when it was told or used last, of clock */
	struct endpoint client; /* port 0: two of them, so none is told */
	union {
		__be32 rip[4]; /* of UDP */
		__u32 isn;     /* of TCP, if told by_syn: that SYN's sequence number */
	};
	__u32 by_syn : 1;
	__u32 replied : 1; /* replies leads here; to be looked at again after REFRESH */
};

/* User space sets max_entries of all four. */
#define FLOWS(value_type)                     \
	__uint(type, BPF_MAP_TYPE_LRU_HASH);  \
	__uint(max_entries, 1);               \
	__type(key, struct flow);             \
	__type(value, value_type)

struct { FLOWS(struct mapping); } noticed SEC(".maps");
struct { FLOWS(struct mapping); } mappings SEC(".maps");
struct { FLOWS(struct endpoint); } replies SEC(".maps");
struct { FLOWS(struct mapping); } handshakes SEC(".maps"); /* TCP */

/*
 * By UDP port of this host, in host order: 0 until a notice has come for it, so
 * that sockets of other ports are left alone at once.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 16);
	__type(key, __u32);
	__type(value, __u8);
} ports SEC(".maps");

/* Nanoseconds that a mapping lasts unused. */
const volatile __s64 tcp_timeout;
const volatile __s64 udp_timeout;

/* clock is good to a few milliseconds, and cheaper than bpf_ktime_get_ns. */
static __always_inline __u64 clock(void)
{
	return bpf_ktime_get_coarse_ns();
}

/* live returns m if it has not expired; another CPU may have touched it later than now. */
static __always_inline struct mapping *live(struct mapping *m, __u64 now, __s64 timeout)
{
	return m && (__s64)(now - m->seen) < timeout ? m : NULL;
}

/* stale reports whether m was touched longer than REFRESH ago. */
static __always_inline bool stale(const struct mapping *m, __u64 now)
{
	return (__s64)(now - m->seen) > REFRESH;
}

/* noted reports whether a notice has come for a port. */
static __always_inline bool noted(__u32 port)
{
	__u8 *any = bpf_map_lookup_elem(&ports, &port);

	return any && *any;
}

/* note has noted report that one has. */
static __always_inline void note(__be16 rport)
{
	__u32 port = bpf_ntohs(rport);
	__u8 *any = bpf_map_lookup_elem(&ports, &port);

	if (any && !*any)
		*any = 1;
}

/* find returns what is known of a UDP flow, NULL if nothing is. */
static __always_inline struct mapping *find(const struct flow *f, __u64 now)
{
	struct mapping *m = live(bpf_map_lookup_elem(&mappings, f), now, udp_timeout);

	return m ? m : live(bpf_map_lookup_elem(&noticed, f), now, udp_timeout);
}
