/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * getsockopt, of programs that were written for kgwttm or for DPVS. The kernel
 * has refused their queries with ENOPROTOOPT by now; retval 0 makes that good.
 */

#pragma once

#include "client.h"
#include "udp.h"

#define LEVEL_IP 0 /* SOL_IP and IPPROTO_IP */

/* From the programs that are answered. */
#define TTM_PEER 1345    /* kgwttm: struct ttm_peer */
#define DPVS_PEER 4096   /* DPVS, TOA_SO_GET_LOOKUP */
#define DPVS_MAPPING 2048 /* DPVS, UOA_SO_GET_LOOKUP */

#define SOCKOPT_BUFFER 4096 /* a page: what the kernel shows of a getsockopt's buffer */

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

/* struct uoa_param_map of DPVS: what is asked, and behind it the answer. */
struct dpvs_mapping {
	__u16 family; /* in host order */
	__u8 lip[16];
	__u8 rip[16]; /* zero: of any */
	__be16 lport;
	__be16 rport;
	__u16 client_family;
	__u8 client[16];
	__be16 client_port;
} __attribute__((packed));

_Static_assert(sizeof(struct ttm_peer) == 20 && sizeof(struct dpvs_peer) == 20 && sizeof(struct dpvs_mapping) == 58,
	       "sizes of the answers");

static __always_inline void answer_ttm(struct ttm_peer *p, const struct endpoint *c)
{
	p->port = c->port;
	if (mapped(c->addr)) {
		p->family = FAMILY_IPV4;
		p->addr[0] = c->addr[3];
		p->addr[1] = p->addr[2] = p->addr[3] = 0;
		return;
	}
	p->family = FAMILY_IPV6;
	copy_addr(p->addr, c->addr);
}

static __always_inline void answer_dpvs(struct dpvs_peer *p, const struct endpoint *c)
{
	copy_addr(p->addr, c->addr);
	p->port = c->port;
	p->zero = 0;
}

/*
 * leave ends a query that is not answered. Of any other option nothing is
 * changed, but a buffer of more than a page must be disowned, or kernels before
 * 6.5 fail the call.
 */
static __always_inline int leave(struct bpf_sockopt *ctx)
{
	if (ctx->optlen > SOCKOPT_BUFFER)
		ctx->optlen = 0;
	return 1;
}

static __always_inline int answered(struct bpf_sockopt *ctx, __s32 length)
{
	ctx->optlen = length;
	asm volatile("" ::: "memory"); /* the verifier refuses both stores in one */
	ctx->retval = 0;
	count(COUNTER_ANSWERED);
	return 1;
}

SEC("cgroup/getsockopt")
int fnatrs_sockopt(struct bpf_sockopt *ctx)
{
	bool ttm = ctx->optname == TTM_PEER;
	struct endpoint c;
	void *buf, *end;

	if (ctx->level != LEVEL_IP || (!ttm && ctx->optname != DPVS_PEER))
		return leave(ctx);
	if (!client_of(ctx->sk, cookie_in(ctx->sk), &c))
		return leave(ctx);
	buf = ctx->optval;
	end = ctx->optval_end;
	if (buf + sizeof(struct ttm_peer) > end) {
		count(COUNTER_SHORT_BUFFER);
		return leave(ctx);
	}
	if (ttm)
		answer_ttm(buf, &c);
	else
		answer_dpvs(buf, &c);
	return answered(ctx, sizeof(struct ttm_peer));
}

/*
 * Where getsockopt's fourth argument is among the registers that the system call
 * saved: the hook is not told what the caller has put into the buffer.
 */
const volatile __u32 optval_register;

/* look_up answers a question, and reports whether it could. */
static __always_inline bool look_up(struct dpvs_mapping *q, struct bpf_sock *sk)
{
	struct flow f = { .peer.port = q->lport, .rport = q->rport, .proto = IPPROTO_UDP };
	__u64 now = bpf_ktime_get_ns(); /* getsockopt has no coarse clock */
	struct endpoint *local;
	struct endpoint asked;
	struct flow own = {};
	struct mapping *m;

	if (q->family == FAMILY_IPV4) {
		map_ipv4(f.peer.addr, load32(q->lip));
		if (load32(q->rip))
			map_ipv4(f.rip, load32(q->rip));
	} else if (q->family == FAMILY_IPV6) {
		load_addr(f.peer.addr, q->lip);
		load_addr(f.rip, q->rip);
	} else {
		return false;
	}
	/* recvfrom may have told the client already, and that is then asked for. */
	asked = f.peer;
	local = bpf_map_lookup_elem(&replies, &f);
	if (!local && sk) {
		/* The way back is kept for the address that the socket is bound to, or for none. */
		flow_of(&own, sk, &asked);
		own.rport = f.rport;
		local = bpf_map_lookup_elem(&replies, &own);
	}
	if (local)
		f.peer = *local;
	m = find(&f, now);
	if (!m || m->client.port == 0 || (local && !same(&m->client, &asked)))
		return false;
	q->client_port = m->client.port;
	__builtin_memset(q->client, 0, sizeof(q->client));
	if (mapped(m->client.addr)) {
		q->client_family = FAMILY_IPV4;
		__builtin_memcpy(q->client, &m->client.addr[3], 4);
	} else {
		q->client_family = FAMILY_IPV6;
		__builtin_memcpy(q->client, m->client.addr, 16);
	}
	return true;
}

SEC("cgroup/getsockopt")
int fnatrs_mapping(struct bpf_sockopt *ctx)
{
	struct dpvs_mapping q;
	void *buf, *regs;
	void *from;

	if (ctx->level != LEVEL_IP || ctx->optname != DPVS_MAPPING)
		return leave(ctx);
	buf = ctx->optval;
	if (buf + sizeof(q) > ctx->optval_end) {
		count(COUNTER_SHORT_BUFFER);
		return leave(ctx);
	}
	regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
	from = *(void **)(regs + optval_register);
	if (bpf_probe_read_user(&q, sizeof(q), from) || !look_up(&q, ctx->sk))
		return leave(ctx);
	__builtin_memcpy(buf, &q, sizeof(q));
	return answered(ctx, sizeof(q));
}
