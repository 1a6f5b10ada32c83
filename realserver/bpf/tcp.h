/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * TCP sockets: the client is read from the handshake and kept with the socket,
 * and accept and getpeername tell it.
 */

#pragma once

#include "client.h"
#include "mapping.h"
#include "option.h"

/*
 * step is a global function, which the verifier checks by itself for any
 * offset: inlined into a loop it would be a million instructions to it.
 */
__noinline int step(struct bpf_sock_ops *ctx, __u32 off, struct search *s)
{
	if (!s)
		return 0;
	off &= 63;
	return read_option(ctx->skb_data, ctx->skb_data_end, TCP_LONGEST, off, s);
}

/* handshake_of makes the key of a connection. */
static __always_inline void handshake_of(struct flow *f, struct bpf_sock_ops *ctx)
{
	/* Read before the branch: merged loads would be refused by the verifier. */
	__be32 lip = ctx->remote_ip4, rip = ctx->local_ip4;
	__be32 lip6[4] = { ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3] };
	__be32 rip6[4] = { ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2], ctx->local_ip6[3] };

	asm volatile("" : "+r"(lip), "+r"(lip6[0]), "+r"(lip6[1]), "+r"(lip6[2]), "+r"(lip6[3]));
	asm volatile("" : "+r"(rip), "+r"(rip6[0]), "+r"(rip6[1]), "+r"(rip6[2]), "+r"(rip6[3]));
	if (ctx->family == FAMILY_IPV6) {
		/* Of a dual-stack socket, too: then the addresses are mapped. */
		copy_addr(f->peer.addr, lip6);
		copy_addr(f->rip, rip6);
	} else {
		map_ipv4(f->peer.addr, lip);
		map_ipv4(f->rip, rip);
	}
	f->peer.port = bpf_htons(bpf_ntohl(ctx->remote_port));
	f->rport = bpf_htons(ctx->local_port);
	f->proto = IPPROTO_TCP;
}

/*
 * told_ahead looks for what a SYN or a notice has told of a connection, which holds
 * for this one alone. A SYN holds for the connection that it opens, whose first
 * byte has its number plus one (RFC 9293, 3.4), and not for a later one of its ports.
 */
static __always_inline void told_ahead(const struct flow *f, struct search *s, __u32 first)
{
	struct mapping *m = bpf_map_lookup_elem(&handshakes, f);

	if (!m)
		return;
	if (live(m, clock(), tcp_timeout) && (!m->by_syn || m->isn + 1 == first)) {
		s->found = m->client;
		s->verdict = COUNTER_LEARNED;
		count(COUNTER_LEARNED_AHEAD);
	}
	bpf_map_delete_elem(&handshakes, f);
}

/*
 * know keeps a socket's client; it reports whether there was memory for that. The end
 * of the socket is told to programs of the cgroup only if they ask, also when it comes
 * before accept.
 */
static __always_inline bool know(struct bpf_sock_ops *ctx, struct bpf_sock *sk, const struct endpoint *client)
{
	if (!take(bpf_get_socket_cookie(ctx), client))
		return store(sk, client);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	return true;
}

/* established reads the client of a connection whose handshake is complete, and keeps it with its socket. */
static __always_inline void established(struct bpf_sock_ops *ctx)
{
	struct search s = { .verdict = COUNTER_NO_OPTION };
	struct bpf_sock *sk = ctx->sk;
	__u32 off = TCP_FIXED;
	struct flow f = {};

	if (!sk)
		return;
	for (int i = 0; i < MAX_OPTIONS && off; i++)
		off = step(ctx, off, &s);
	handshake_of(&f, ctx);
	if (s.verdict == COUNTER_NO_OPTION)
		told_ahead(&f, &s, ctx->rcv_nxt);
	if (s.verdict != COUNTER_NO_OPTION && !trusted(f.peer.addr))
		s.verdict = COUNTER_UNTRUSTED;
	if (s.verdict == COUNTER_LEARNED && !know(ctx, sk, &s.found))
		s.verdict = COUNTER_NO_MEMORY;
	count(s.verdict);
}

/*
 * The first callback comes before accept can return the socket, with the segment
 * that completed the handshake, whichever that is: the third ACK, the first
 * data if that was lost, the ACK of a SYN cookie. The last comes when
 * the socket is closed (RFC 9293, 3.3.2), whatever closes it. The others of a connection end
 * at once. It always returns 1 and leaves the reply alone, which is another program's.
 */
SEC("sockops")
int fnatrs_sockops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		established(ctx);
	else if (ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[1] == BPF_TCP_CLOSE)
		give_up(bpf_get_socket_cookie(ctx));
	return 1;
}
