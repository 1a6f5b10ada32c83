/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The option of a SYN, which LVS and ip_vs_ca send there. It is read where the kernel
 * answers SYNs of the cgroup's listening sockets; where it cannot be traced, from all
 * that comes to any socket of the cgroup, which costs every packet something.
 */

#pragma once

#include <bpf/bpf_tracing.h>

#include "kernel.h"
#include "mapping.h"
#include "notice.h"
#include "option.h"

/* From the standards. */
#define TCP_SEQ 4
#define TCP_OFFSET 12
#define TCP_FLAGS 13
#define TCP_SYN 0x02
#define TCP_ACK 0x10

/* Our choices. */
#define CGROUP_DEPTH 64 /* levels below the root in which a listening socket is looked for */

/* Of the cgroup that fnatrs serves: its inode number. */
const volatile __u64 cgroup_id;

/*
 * A TCP header. No option begins behind the 63rd byte, so with what is behind that the
 * verifier needs no other bound.
 */
struct header {
	__u8 bytes[64 + TTM_IPV6 + 2];
};

/* syn_step is what step is, for a header that was copied. */
__noinline int syn_step(struct header *h, __u32 off, struct search *s)
{
	__u32 limit;

	if (!h || !s)
		return 0;
	off &= 63;
	limit = (h->bytes[TCP_OFFSET] >> 4) * 4;
	return read_option(h->bytes, h->bytes + sizeof(h->bytes), limit, off, s);
}

/* read_options reads the options of a SYN, and reports whether there is anything to keep or to count. */
static __always_inline bool read_options(struct header *h, struct search *s)
{
	__u32 off = TCP_FIXED;

	for (int i = 0; i < MAX_OPTIONS && off; i++)
		off = syn_step(h, off, s);
	return s->verdict != COUNTER_NO_OPTION;
}

/* keep keeps the client that a SYN's option names. The flow has the addresses. */
static __always_inline void keep(struct flow *f, const struct header *h, const struct search *s)
{
	struct mapping told = { .client = s->found, .by_syn = 1 };

	if (!trusted(f->peer.addr)) {
		count(COUNTER_UNTRUSTED);
		return;
	}
	if (s->verdict != COUNTER_LEARNED) {
		count(s->verdict);
		return;
	}
	f->peer.port = load16(h->bytes);
	f->rport = load16(h->bytes + 2);
	f->proto = IPPROTO_TCP;
	told.seen = bpf_ktime_get_ns(); /* clock is not for programs that trace */
	told.isn = bpf_ntohl(load32(h->bytes + TCP_SEQ));
	bpf_map_update_elem(&handshakes, f, &told, BPF_ANY);
}

/* flow_from reads the addresses of an IP header. */
static __always_inline void flow_from(struct flow *f, const __u8 *ip, bool ipv6)
{
	if (ipv6) {
		load_addr(f->peer.addr, ip + 8);
		load_addr(f->rip, ip + 24);
	} else {
		map_ipv4(f->peer.addr, load32(ip + 12));
		map_ipv4(f->rip, load32(ip + 16));
	}
}

/* serves reports whether a socket is of the cgroup or of one below it. */
static __always_inline bool serves(struct sock *sk)
{
	struct cgroup *c = sk->sk_cgrp_data.cgroup;

	for (int i = 0; i < CGROUP_DEPTH && c; i++) {
		if (c->kn->id == cgroup_id)
			return true;
		c = c->self.parent->cgroup; /* NULL above the root */
	}
	return false;
}

/* The kernel is about to answer a SYN to a listening socket, of any cgroup. */
SEC("fentry/tcp_conn_request")
int BPF_PROG(fnatrs_request, void *ops, void *family_ops, struct sock *sk, struct sk_buff *skb)
{
	struct search s = { .verdict = COUNTER_NO_OPTION };
	__u8 ip[IPV6_FIXED] __attribute__((aligned(4)));
	struct header h = {};
	struct flow f = {};

	if (!serves(sk))
		return 0;
	if (bpf_probe_read_kernel(&h, TCP_LONGEST, skb->head + skb->transport_header) || !read_options(&h, &s))
		return 0;
	if (bpf_probe_read_kernel(ip, sizeof(ip), skb->head + skb->network_header))
		return 0;
	flow_from(&f, ip, skb->protocol == bpf_htons(ETHERTYPE_IPV6));
	keep(&f, &h, &s);
	return 0;
}

/* opening keeps what a SYN tells whose TCP header has length bytes, at bytes from its IP header. */
static __always_inline void opening(struct __sk_buff *skb, __u32 at, __u32 length)
{
	struct search s = { .verdict = COUNTER_NO_OPTION };
	__u8 ip[IPV6_FIXED] __attribute__((aligned(4)));
	struct header h = {};
	struct flow f = {};

	if (length < TCP_FIXED || length > TCP_LONGEST || bpf_skb_load_bytes(skb, at, &h, length) || !read_options(&h, &s))
		return;
	if (bpf_skb_load_bytes(skb, 0, ip, sizeof(ip)))
		return;
	flow_from(&f, ip, ip[0] >> 4 == 6);
	keep(&f, &h, &s);
}

/* Every packet to a socket of the cgroup passes here, so what is no SYN leaves first. */
SEC("cgroup_skb/ingress")
int fnatrs_syn(struct __sk_buff *skb)
{
	__u8 *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u8 *tcp;
	__u32 at;

	if (data + IPV4_FIXED > end)
		return 1;
	if (data[0] >> 4 == 4) {
		if (data[9] != IPPROTO_TCP)
			return 1;
		at = (data[0] & 15) * 4;
	} else {
		if (data[6] != IPPROTO_TCP)
			return 1;
		at = IPV6_FIXED;
	}
	tcp = data + at;
	if (tcp + TCP_FIXED > end || (tcp[TCP_FLAGS] & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return 1;
	opening(skb, at, (tcp[TCP_OFFSET] >> 4) * 4);
	return 1;
}
