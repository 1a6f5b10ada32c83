// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)

//go:build ignore

/*
 * The programs of fnatrs. They let unmodified servers see the client behind
 * the balancer:
 *
 *	fnatrs_sockops   a TCP handshake is complete: reads the client-address
 *	                 option of the segment that completed it, and keeps the
 *	                 client with the new socket
 *	fnatrs_peer4, 6  accept, accept4, getpeername: tell the client instead
 *	                 of the LIP
 *	fnatrs_sockopt   getsockopt: answers the queries of kgwttm and of DPVS,
 *	                 also for an IPv6 client of an IPv4 socket
 *
 * No program refuses anything, and what they do not know they leave as it is.
 * User space sets kinds and fills trust; see program.go.
 */

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* From the standards. */
#define FAMILY_IPV4 2 /* AF_INET, of Linux */
#define FAMILY_IPV6 10
#define LEVEL_IP 0    /* SOL_IP and IPPROTO_IP */
#define TCP_FIXED 20  /* RFC 9293, 3.1: where options begin */
#define OPTION_END 0
#define OPTION_NOP 1
#define MAX_OPTIONS 40 /* each has a byte at least */

/* From the programs that are answered. */
#define TTM_PEER 1345    /* kgwttm: struct ttm_peer */
#define DPVS_PEER 4096   /* DPVS, TOA_SO_GET_LOOKUP */
#define OPTION_IPV4 8    /* kind, length, port, address */
#define OPTION_IPV6 20

/* Our choices. */
#define MAX_TRUSTED 4096
#define FORM_IPV4 1 /* bits in kinds */
#define FORM_IPV6 2
#define SOCKOPT_BUFFER 4096 /* a page: what the kernel shows of a getsockopt's buffer */

/* What became of a connection or of a question; counters.go gives each its name. */
enum counter {
	COUNTER_LEARNED,       /* connection: its client is known */
	COUNTER_NO_OPTION,     /* connection: told of no client */
	COUNTER_UNTRUSTED,     /* connection: an option, but not from a trusted prefix */
	COUNTER_MALFORMED,     /* connection: options that do not fit the TCP header */
	COUNTER_WRONG_LENGTH,  /* connection: a kind of ours only with another length */
	COUNTER_CONTRADICTION, /* connection: two options that name two clients */
	COUNTER_BAD_ADDRESS,   /* connection: no client can have that address or port */
	COUNTER_NO_MEMORY,     /* connection: no memory to keep the client in */
	COUNTER_SHOWN,         /* accept or getpeername was told the client */
	COUNTER_KEPT_LOCAL,    /* ... an IPv6 client to an IPv4 socket: was told the LIP */
	COUNTER_ANSWERED,      /* getsockopt was told the client */
	COUNTER_SHORT_BUFFER,  /* getsockopt with too small a buffer: not answered */
	NUM_COUNTERS,
};

/* A client's address in IPv6 form, IPv4 mapped into it; all in network order. */
struct client {
	__be32 addr[4];
	__be16 port;
	__u16 zero;
};

struct trust_key {
	__u32 length; /* of the prefix, in bits of the IPv6 form */
	__u8 addr[16];
};

/* Lives and dies with its socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct client);
} clients SEC(".maps");

/* Where options may come from: the prefixes of the LIPs. */
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

/* By option kind: the forms that it may have. */
const volatile __u8 kinds[256];

/* Not inlined, for only then does its BTF tell bpf2go about enum counter. */
static __noinline void count(enum counter what)
{
	__u32 key = what;
	__u64 *n = bpf_map_lookup_elem(&counters, &key);

	if (n)
		__sync_fetch_and_add(n, 1); /* system calls are interrupted by softirqs */
}

static __always_inline bool mapped(const __be32 *addr)
{
	return addr[0] == 0 && addr[1] == 0 && addr[2] == bpf_htonl(0xffff);
}

/* What an option may claim: a unicast address, and a port. */
static __always_inline bool possible(const struct client *c)
{
	if (c->port == 0)
		return false;
	if (mapped(c->addr)) {
		__u32 top = bpf_ntohl(c->addr[3]) >> 24;

		return top != 0 && top < 224;
	}
	if ((bpf_ntohl(c->addr[0]) >> 24) == 0xff)
		return false;
	return c->addr[0] || c->addr[1] || c->addr[2] || c->addr[3];
}

static __always_inline bool same(const struct client *a, const struct client *b)
{
	return a->port == b->port && a->addr[0] == b->addr[0] && a->addr[1] == b->addr[1] &&
	       a->addr[2] == b->addr[2] && a->addr[3] == b->addr[3];
}

static __always_inline __be16 load16(const __u8 *p)
{
	return (__be16)p[1] << 8 | p[0];
}

static __always_inline __be32 load32(const __u8 *p)
{
	return (__u32)p[3] << 24 | (__u32)p[2] << 16 | (__u32)p[1] << 8 | p[0];
}

/* What is known of a TCP header's options so far. */
struct search {
	struct client found;
	__u32 verdict; /* an enum counter */
};

static __always_inline int stop(struct search *s, enum counter why)
{
	s->verdict = why;
	return 0;
}

/*
 * step reads the option at off and returns where the next one is, 0 if there
 * is none. It is a global function, which the verifier checks by itself for any
 * offset: inlined into a loop it would be a million instructions to it.
 */
__noinline int step(struct bpf_sock_ops *ctx, __u32 off, struct search *s)
{
	__u8 *data = ctx->skb_data, *end = ctx->skb_data_end, *option;
	struct client c = {};
	__u8 forms, length;

	if (!s)
		return 0;
	off &= 63; /* what the largest TCP header has */
	option = data + off;
	if (option + 1 > end || option[0] == OPTION_END)
		return 0;
	if (option[0] == OPTION_NOP)
		return off + 1;
	/* RFC 9293, 3.1: the length counts kind and length themselves. */
	if (option + 2 > end)
		return stop(s, COUNTER_MALFORMED);
	length = option[1];
	if (length < 2 || option + length > end)
		return stop(s, COUNTER_MALFORMED);
	forms = kinds[option[0]];
	if (!forms)
		return off + length;
	if (length == OPTION_IPV4 && forms & FORM_IPV4) {
		if (option + OPTION_IPV4 > end)
			return stop(s, COUNTER_MALFORMED);
		c.addr[2] = bpf_htonl(0xffff);
		c.addr[3] = load32(option + 4);
	} else if (length == OPTION_IPV6 && forms & FORM_IPV6) {
		if (option + OPTION_IPV6 > end)
			return stop(s, COUNTER_MALFORMED);
		c.addr[0] = load32(option + 4);
		c.addr[1] = load32(option + 8);
		c.addr[2] = load32(option + 12);
		c.addr[3] = load32(option + 16);
	} else {
		/* Perhaps somebody else's experiment (RFC 6994). */
		if (s->verdict == COUNTER_NO_OPTION)
			s->verdict = COUNTER_WRONG_LENGTH;
		return off + length;
	}
	c.port = load16(option + 2);
	if (s->verdict == COUNTER_LEARNED && !same(&c, &s->found))
		return stop(s, COUNTER_CONTRADICTION);
	if (!possible(&c))
		return stop(s, COUNTER_BAD_ADDRESS);
	s->found = c;
	s->verdict = COUNTER_LEARNED;
	return off + length;
}

/* trusted reports whether the peer, the LIP, is in a prefix of trust. */
static __always_inline bool trusted(struct bpf_sock_ops *ctx)
{
	struct trust_key key = { .length = 128 };
	__be32 *addr = (__be32 *)key.addr;
	/* Read before the branch: merged loads would be refused by the verifier. */
	__be32 v4 = ctx->remote_ip4;
	__be32 v6[4] = { ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3] };

	asm volatile("" : "+r"(v4), "+r"(v6[0]), "+r"(v6[1]), "+r"(v6[2]), "+r"(v6[3]));
	if (ctx->family == FAMILY_IPV6) {
		/* Of a dual-stack socket, too: then the address is mapped. */
		addr[0] = v6[0];
		addr[1] = v6[1];
		addr[2] = v6[2];
		addr[3] = v6[3];
	} else {
		addr[2] = bpf_htonl(0xffff);
		addr[3] = v4;
	}
	return bpf_map_lookup_elem(&trust, &key) != NULL;
}

/*
 * The callback comes before accept can return the socket, with the segment
 * that completed the handshake, whichever that is: the third ACK, the first
 * data if that was lost, the ACK of a SYN cookie. It always returns 1 and leaves
 * the reply alone, which is another program's.
 */
SEC("sockops")
int fnatrs_sockops(struct bpf_sock_ops *ctx)
{
	struct search s = { .verdict = COUNTER_NO_OPTION };
	__u32 off = TCP_FIXED;
	struct client *kept;
	struct bpf_sock *sk;

	if (ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	for (int i = 0; i < MAX_OPTIONS && off; i++)
		off = step(ctx, off, &s);
	if (s.verdict != COUNTER_NO_OPTION && !trusted(ctx))
		s.verdict = COUNTER_UNTRUSTED;
	if (s.verdict == COUNTER_LEARNED) {
		kept = bpf_sk_storage_get(&clients, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (kept)
			*kept = s.found;
		else
			s.verdict = COUNTER_NO_MEMORY;
	}
	count(s.verdict);
	return 1;
}

/* client_of returns the client that is kept with a socket, NULL if none is. */
static __always_inline struct client *client_of(struct bpf_sock *sk)
{
	return sk ? bpf_sk_storage_get(&clients, sk, NULL, 0) : NULL;
}

SEC("cgroup/getpeername4")
int fnatrs_peer4(struct bpf_sock_addr *ctx)
{
	struct client *c = client_of(ctx->sk);

	if (!c)
		return 1;
	if (!mapped(c->addr)) {
		count(COUNTER_KEPT_LOCAL);
		return 1;
	}
	ctx->user_ip4 = c->addr[3];
	ctx->user_port = c->port;
	count(COUNTER_SHOWN);
	return 1;
}

SEC("cgroup/getpeername6")
int fnatrs_peer6(struct bpf_sock_addr *ctx)
{
	struct client *c = client_of(ctx->sk);

	if (!c)
		return 1;
	ctx->user_ip6[0] = c->addr[0];
	ctx->user_ip6[1] = c->addr[1];
	ctx->user_ip6[2] = c->addr[2];
	ctx->user_ip6[3] = c->addr[3];
	ctx->user_port = c->port;
	count(COUNTER_SHOWN);
	return 1;
}

/* struct ttm_peer of kgwttm. */
struct ttm_peer {
	__u16 family; /* in host order */
	__be16 port;
	__be32 addr[4]; /* of IPv4, the first */
};

/* What DPVS answers: an in6_addr and a port, padded to the alignment. */
struct dpvs_peer {
	__be32 addr[4];
	__be16 port;
	__u16 zero;
};

static __always_inline void answer_ttm(struct ttm_peer *p, const struct client *c)
{
	p->port = c->port;
	if (mapped(c->addr)) {
		p->family = FAMILY_IPV4;
		p->addr[0] = c->addr[3];
		p->addr[1] = p->addr[2] = p->addr[3] = 0;
		return;
	}
	p->family = FAMILY_IPV6;
	p->addr[0] = c->addr[0];
	p->addr[1] = c->addr[1];
	p->addr[2] = c->addr[2];
	p->addr[3] = c->addr[3];
}

static __always_inline void answer_dpvs(struct dpvs_peer *p, const struct client *c)
{
	p->addr[0] = c->addr[0];
	p->addr[1] = c->addr[1];
	p->addr[2] = c->addr[2];
	p->addr[3] = c->addr[3];
	p->port = c->port;
	p->zero = 0;
}

/*
 * The kernel has refused both queries with ENOPROTOOPT by now; retval 0 makes
 * that good. Of any other option nothing is changed, but a buffer of more than
 * a page must be disowned, or kernels before 6.5 fail the call.
 */
SEC("cgroup/getsockopt")
int fnatrs_sockopt(struct bpf_sockopt *ctx)
{
	bool ttm = ctx->optname == TTM_PEER;
	struct client *c;
	void *buf, *end;

	if (ctx->level != LEVEL_IP || (!ttm && ctx->optname != DPVS_PEER))
		goto not_ours;
	c = client_of(ctx->sk);
	if (!c)
		goto not_ours;
	buf = ctx->optval;
	end = ctx->optval_end;
	if (buf + sizeof(struct ttm_peer) > end) {
		count(COUNTER_SHORT_BUFFER);
		goto not_ours;
	}
	if (ttm)
		answer_ttm(buf, c);
	else
		answer_dpvs(buf, c);
	ctx->optlen = sizeof(struct ttm_peer);
	asm volatile("" ::: "memory"); /* the verifier refuses both stores in one */
	ctx->retval = 0;
	count(COUNTER_ANSWERED);
	return 1;

not_ours:
	if (ctx->optlen > SOCKOPT_BUFFER)
		ctx->optlen = 0;
	return 1;
}

_Static_assert(sizeof(struct ttm_peer) == 20 && sizeof(struct dpvs_peer) == 20,
	       "both answers have 20 bytes");

char LICENSE[] SEC("license") = "Dual BSD/GPL";
