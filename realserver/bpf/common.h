/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What all programs of fnatrs share: an address and port, whom to believe, and
 * what is counted.
 */

#pragma once

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* From the standards. */
#define FAMILY_IPV4 2 /* AF_INET, of Linux */
#define FAMILY_IPV6 10
#define IPV4_FIXED 20
#define IPV6_FIXED 40

/* Our choices. */
#define MAX_TRUSTED 4096

/* What became of a connection, a notice or a question; counters.go gives each its name. */
enum counter {
	COUNTER_LEARNED,       /* connection: its client is known */
	COUNTER_LEARNED_AHEAD, /* ... by the option of its SYN, or by a notice */
	COUNTER_NO_OPTION,     /* connection: told of no client */
	COUNTER_UNTRUSTED,     /* connection: an option, but not from a trusted prefix */
	COUNTER_MALFORMED,     /* connection: options that do not fit the TCP header */
	COUNTER_WRONG_LENGTH,  /* connection: a kind of ours only with another length */
	COUNTER_CONTRADICTION, /* connection: two options that name two clients */
	COUNTER_BAD_ADDRESS,   /* connection: no client can have that address or port */
	COUNTER_NO_MEMORY,     /* connection: no memory to keep the client in */

	COUNTER_NOTICED,          /* notice: believed */
	COUNTER_NOTICE_UNTRUSTED, /* notice: not from a trusted prefix */
	COUNTER_NOTICE_LENGTH,    /* notice: of no known length, or truncated */
	COUNTER_NOTICE_CHECKSUM,  /* notice: damaged on the way */
	COUNTER_NOTICE_MAGIC,     /* notice: another magic number */
	COUNTER_NOTICE_PROTOCOL,  /* notice: of neither TCP nor UDP */
	COUNTER_NOTICE_OPTION,    /* notice: kind and length are no option's that is read */
	COUNTER_NOTICE_ADDRESS,   /* notice: no client can have that address or port */

	COUNTER_SHOWN,        /* accept, getpeername or recvmsg was told the client */
	COUNTER_KEPT_LOCAL,   /* ... no room for it, or no way back: was told the LIP */
	COUNTER_AMBIGUOUS,    /* ... two clients may be meant: was told the LIP */
	COUNTER_REDIRECTED,   /* sendmsg or connect to a client went to its LIP */
	COUNTER_ANSWERED,     /* getsockopt was told the client */
	COUNTER_SHORT_BUFFER, /* getsockopt with too small a buffer: not answered */
	NUM_COUNTERS,
};

/* An address in IPv6 form, IPv4 mapped into it, and a port; all in network order. */
struct endpoint {
	__be32 addr[4];
	__be16 port;
	__u16 zero;
};

struct trust_key {
	__u32 length; /* of the prefix, in bits of the IPv6 form */
	__be32 addr[4];
};

/* Where options and notices may come from: the prefixes of the LIPs. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_TRUSTED);
	__type(key, struct trust_key);
	__type(value, __u8);
} trust SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NUM_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void tally(enum counter what)
{
	__u32 key = what;
	__u64 *n = bpf_map_lookup_elem(&counters, &key);

	if (n)
		__sync_fetch_and_add(n, 1); /* system calls are interrupted by softirqs */
}

/*
 * count is tally where a call more does not matter. Not inlined, for only then does its
 * BTF tell bpf2go about enum counter.
 */
static __noinline void count(enum counter what)
{
	tally(what);
}

static __always_inline void map_ipv4(__be32 *addr, __be32 ipv4)
{
	addr[0] = addr[1] = 0;
	addr[2] = bpf_htonl(0xffff);
	addr[3] = ipv4;
}

static __always_inline bool mapped(const __be32 *addr)
{
	return addr[0] == 0 && addr[1] == 0 && addr[2] == bpf_htonl(0xffff);
}

static __always_inline void copy_addr(__be32 *to, const __be32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

static __always_inline bool same_addr(const __be32 *a, const __be32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

static __always_inline bool same(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && same_addr(a->addr, b->addr);
}

/* What an option or a notice may claim: a unicast address, and a port. */
static __always_inline bool possible(const struct endpoint *e)
{
	if (e->port == 0)
		return false;
	if (mapped(e->addr)) {
		__u32 top = bpf_ntohl(e->addr[3]) >> 24;

		return top != 0 && top < 224;
	}
	if ((bpf_ntohl(e->addr[0]) >> 24) == 0xff)
		return false;
	return e->addr[0] || e->addr[1] || e->addr[2] || e->addr[3];
}

/* trusted reports whether a LIP is in a prefix of trust. */
static __always_inline bool trusted(const __be32 *lip)
{
	struct trust_key key = { .length = 128 };

	copy_addr(key.addr, lip);
	return bpf_map_lookup_elem(&trust, &key) != NULL;
}

static __always_inline __be16 load16(const __u8 *p)
{
	return (__be16)p[1] << 8 | p[0];
}

static __always_inline __be32 load32(const __u8 *p)
{
	return (__u32)p[3] << 24 | (__u32)p[2] << 16 | (__u32)p[1] << 8 | p[0];
}

static __always_inline void load_addr(__be32 *to, const __u8 *p)
{
	to[0] = load32(p);
	to[1] = load32(p + 4);
	to[2] = load32(p + 8);
	to[3] = load32(p + 12);
}
