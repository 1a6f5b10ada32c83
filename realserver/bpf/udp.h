/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * UDP sockets: recvmsg tells the client in place of the LIP, and what is sent
 * to a client goes to its LIP.
 */

#pragma once

#include "heard.h"

/* Whom a connected socket was connected to. */
struct link {
	struct endpoint local; /* the LIP */
	struct endpoint client;
};

/* Lives and dies with its socket: a connected one keeps its client whatever becomes of the mapping. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct link);
} links SEC(".maps");

/* flow_of makes the key of what a socket exchanges with a peer. */
static __always_inline void flow_of(struct flow *f, struct bpf_sock *sk, const struct endpoint *peer)
{
	/* Read before the branch: merged loads would be refused by the verifier. */
	__be32 v4 = sk->src_ip4;
	__be32 v6[4] = { sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3] };

	asm volatile("" : "+r"(v4), "+r"(v6[0]), "+r"(v6[1]), "+r"(v6[2]), "+r"(v6[3]));
	f->peer = *peer;
	f->rport = bpf_htons(sk->src_port);
	f->proto = IPPROTO_UDP;
	if (sk->family == FAMILY_IPV6)
		copy_addr(f->rip, v6);
	else if (v4)
		map_ipv4(f->rip, v4);
}

/* link_of returns whom a socket is connected to, NULL if it no longer is to a client. */
static __always_inline struct link *link_of(struct bpf_sock *sk)
{
	struct link *l = bpf_sk_storage_get(&links, sk, NULL, 0);

	return l && sk->dst_port == l->local.port ? l : NULL;
}

/* unlead has the mapping that a reply's entry leads to set the entry anew when it is used next. */
static __always_inline void unlead(const struct flow *f, const struct endpoint *reply)
{
	struct flow local = *f;
	struct mapping *m;

	local.peer = *reply;
	m = bpf_map_lookup_elem(&mappings, &local);
	if (m)
		m->replied = 0;
	turn_over(reply);
}

/* lead has what is sent to a client go to local, where it was heard of last. */
static __always_inline void lead(struct flow *f, const struct endpoint *client, const struct endpoint *local)
{
	struct endpoint *reply;

	f->peer = *client;
	reply = bpf_map_lookup_elem(&replies, f);
	if (reply && same(reply, local))
		return;
	if (reply)
		unlead(f, reply);
	bpf_map_update_elem(&replies, f, local, BPF_ANY);
}

/*
 * received puts the client in the place of the LIP that a datagram came from.
 * It reports whether there is one to be told.
 */
static __always_inline bool received(struct bpf_sock_addr *ctx, struct endpoint *from)
{
	struct bpf_sock *sk = ctx->sk;
	struct endpoint client, *reply;
	struct heard h, *slot;
	bool replied = false;
	struct flow f = {};
	struct mapping *m;
	struct link *l;
	__u64 socket, now;
	__u32 turn;

	if (!sk || !noted(sk->src_port))
		return false;
	slot = heard_of(from);
	if (!slot)
		return false;
	socket = socket_of(ctx, sk);
	if (read_heard(&h, slot, socket) && h.lport == from->port && same_addr(h.local, from->addr)) {
		copy_addr(from->addr, h.client);
		from->port = h.cport;
		tally(COUNTER_SHOWN);
		return true;
	}
	turn = h.turn;
	now = clock();
	flow_of(&f, sk, from);
	m = live(bpf_map_lookup_elem(&mappings, &f), now, udp_timeout);
	if (!m && (m = live(bpf_map_lookup_elem(&noticed, &f), now, udp_timeout))) {
		bpf_map_update_elem(&mappings, &f, m, BPF_ANY);
		bpf_map_delete_elem(&noticed, &f);
		m = bpf_map_lookup_elem(&mappings, &f);
	}
	if (m) {
		replied = m->replied && !stale(m, now);
		client = m->client;
		if (!replied) {
			m->seen = now;
			m->replied = 1;
		}
	} else if ((l = link_of(sk)) && same(&l->local, from)) {
		client = l->client;
	} else {
		/* It comes from nobody's LIP. If it comes from a known client past the
		 * balancer, so does the answer go. */
		reply = bpf_map_lookup_elem(&replies, &f);
		if (reply) {
			unlead(&f, reply);
			bpf_map_delete_elem(&replies, &f);
		}
		return false;
	}
	if (client.port == 0) {
		count(COUNTER_AMBIGUOUS);
		return false;
	}
	/* A client of the other IP version could not be answered: the kernel does not
	 * let sendmsg change the version. */
	if (mapped(client.addr) != mapped(from->addr)) {
		count(COUNTER_KEPT_LOCAL);
		return false;
	}
	if (!replied)
		lead(&f, &client, from);
	if (m)
		hear(slot, turn, socket, from, &client);
	*from = client;
	count(COUNTER_SHOWN);
	return true;
}

/* heard_from puts the LIP in the place of a client that was heard of late, and reports whether it was. */
static __always_inline bool heard_from(struct endpoint *to, __u64 socket)
{
	__u32 by_client = number_of(to);
	__u32 *number = bpf_map_lookup_elem(&answers, &by_client);
	struct heard h, *slot;

	slot = number ? bpf_map_lookup_elem(&heards, number) : NULL;
	if (!slot || !read_heard(&h, slot, socket) || h.cport != to->port || !same_addr(h.client, to->addr))
		return false;
	copy_addr(to->addr, h.local);
	to->port = h.lport;
	return true;
}

/* sent puts the LIP in the place of a client that a socket wants to reach. */
static __always_inline bool sent(struct bpf_sock_addr *ctx, struct endpoint *to)
{
	struct bpf_sock *sk = ctx->sk;
	struct endpoint *reply;
	struct flow f = {};
	struct mapping *m;
	struct link *l;
	__u64 now;

	if (!sk || !noted(sk->src_port))
		return false;
	if (heard_from(to, socket_of(ctx, sk))) {
		tally(COUNTER_REDIRECTED);
		return true;
	}
	now = clock();
	flow_of(&f, sk, to);
	reply = bpf_map_lookup_elem(&replies, &f);
	if (reply) {
		f.peer = *reply;
		m = find(&f, now);
		if (m && same(&m->client, to)) {
			if (stale(m, now)) {
				m->seen = now;
				m->replied = 0;
			}
			*to = f.peer;
			count(COUNTER_REDIRECTED);
			return true;
		}
	}
	l = link_of(sk);
	if (!l || !same(&l->client, to))
		return false;
	*to = l->local;
	count(COUNTER_REDIRECTED);
	return true;
}

/* connected does for connect what sent does for sendmsg, and keeps the client with the socket. */
static __always_inline bool connected(struct bpf_sock_addr *ctx, struct endpoint *to)
{
	struct link l = { .client = *to };
	struct link *kept;

	if (!sent(ctx, to))
		return false;
	l.local = *to;
	kept = ctx->sk ? bpf_sk_storage_get(&links, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
	if (kept)
		*kept = l;
	return true;
}

/* peer_of puts the client in the place of the LIP that a socket is connected to. */
static __always_inline bool peer_of(struct bpf_sock *sk, struct endpoint *peer)
{
	struct flow f = {};
	struct mapping *m;
	struct link *l;

	if (!sk || !noted(sk->src_port))
		return false;
	flow_of(&f, sk, peer);
	m = find(&f, clock());
	if (m && m->client.port && mapped(m->client.addr) == mapped(peer->addr)) {
		*peer = m->client;
		return true;
	}
	l = link_of(sk);
	if (!l || !same(&l->local, peer))
		return false;
	*peer = l->client;
	return true;
}

static __always_inline struct endpoint address4(struct bpf_sock_addr *ctx)
{
	struct endpoint e = { .port = ctx->user_port };

	map_ipv4(e.addr, ctx->user_ip4);
	return e;
}

static __always_inline struct endpoint address6(struct bpf_sock_addr *ctx)
{
	struct endpoint e = { .port = ctx->user_port };

	e.addr[0] = ctx->user_ip6[0];
	e.addr[1] = ctx->user_ip6[1];
	e.addr[2] = ctx->user_ip6[2];
	e.addr[3] = ctx->user_ip6[3];
	return e;
}

static __always_inline void tell4(struct bpf_sock_addr *ctx, const struct endpoint *e)
{
	ctx->user_ip4 = e->addr[3];
	ctx->user_port = e->port;
}

static __always_inline void tell6(struct bpf_sock_addr *ctx, const struct endpoint *e)
{
	ctx->user_ip6[0] = e->addr[0];
	ctx->user_ip6[1] = e->addr[1];
	ctx->user_ip6[2] = e->addr[2];
	ctx->user_ip6[3] = e->addr[3];
	ctx->user_port = e->port;
}

SEC("cgroup/recvmsg4")
int fnatrs_recv4(struct bpf_sock_addr *ctx)
{
	struct endpoint e = address4(ctx);

	if (received(ctx, &e))
		tell4(ctx, &e);
	return 1;
}

SEC("cgroup/recvmsg6")
int fnatrs_recv6(struct bpf_sock_addr *ctx)
{
	struct endpoint e = address6(ctx);

	if (received(ctx, &e))
		tell6(ctx, &e);
	return 1;
}

/* Also of an IPv6 socket that sends to a mapped address. */
SEC("cgroup/sendmsg4")
int fnatrs_send4(struct bpf_sock_addr *ctx)
{
	struct endpoint e = address4(ctx);

	if (sent(ctx, &e))
		tell4(ctx, &e);
	return 1;
}

SEC("cgroup/sendmsg6")
int fnatrs_send6(struct bpf_sock_addr *ctx)
{
	struct endpoint e = address6(ctx);

	if (sent(ctx, &e))
		tell6(ctx, &e);
	return 1;
}

SEC("cgroup/connect4")
int fnatrs_connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint e;

	if (ctx->protocol != IPPROTO_UDP)
		return 1;
	e = address4(ctx);
	if (connected(ctx, &e))
		tell4(ctx, &e);
	return 1;
}

SEC("cgroup/connect6")
int fnatrs_connect6(struct bpf_sock_addr *ctx)
{
	struct endpoint e;

	if (ctx->protocol != IPPROTO_UDP)
		return 1;
	e = address6(ctx);
	if (connected(ctx, &e))
		tell6(ctx, &e);
	return 1;
}
