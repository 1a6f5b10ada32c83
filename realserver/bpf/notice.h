/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The balancer's notices: an ICMP or ICMPv6 echo request from LIP to real
 * server, ahead of a flow, with these data in 14, 16, 26 or 28 bytes:
 *
 *	0   magic 123
 *	1   protocol of the flow
 *	2   port of the LIP
 *	4   port of the real server
 *	    perhaps two bytes of padding
 *	6   a client-address option: kind, length, port, address of 4 or 16 bytes
 *
 * They are read and left alone: the kernel's echo reply acknowledges them.
 */

#pragma once

#include <linux/if_packet.h>

#include "heard.h"
#include "option.h"

/* From the standards. */
#define NEXT -1 /* TCX_NEXT */
#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ICMP_FIXED 8
#define ECHO_REQUEST 8
#define ECHO_REQUEST_V6 128

/* From ip_vs_ca. */
#define NOTICE_ID 0x1234 /* as a little-endian balancer leaves it in memory */
#define NOTICE_MAGIC 123
#define NOTICE_OPTION 6

/* Our choices. */
#define NOTICE_MIN (ICMP_FIXED + NOTICE_OPTION + OPTION_IPV4)
#define NOTICE_MAX (ICMP_FIXED + NOTICE_OPTION + 2 + OPTION_IPV6)

/* sum16 adds the words of b, whose size is even, to a checksum. */
static __always_inline __u32 sum16(__u32 sum, const void *b, int size)
{
	const __u16 *word = b;

	for (int i = 0; i < size / 2; i++)
		sum += word[i];
	return sum;
}

/* sound reports whether a sum over all that a checksum covers, it included, is right (RFC 1071). */
static __always_inline bool sound(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

/* An echo request, and what its IP header says. */
struct echo {
	__u32 at;     /* offset of the ICMP header from the IP header */
	__u32 length; /* of the ICMP message */
	__u32 sum;    /* of the pseudo-header */
	__u8 type;    /* of an echo request */
};

/* read_ip reads the IP header; it reports whether ICMP is behind it. */
static __always_inline bool read_ip(struct __sk_buff *skb, struct echo *e, struct flow *f)
{
	__u8 ip[IPV6_FIXED] __attribute__((aligned(4)));

	if (skb->protocol == bpf_htons(ETHERTYPE_IPV4)) {
		if (bpf_skb_load_bytes_relative(skb, 0, ip, IPV4_FIXED, BPF_HDR_START_NET))
			return false;
		/* No balancer sends notices with IP options, or in fragments. */
		if (ip[9] != IPPROTO_ICMP || ip[0] != 0x45 || (load16(ip + 6) & bpf_htons(0x3fff)))
			return false;
		e->at = IPV4_FIXED;
		e->length = bpf_ntohs(load16(ip + 2)) - IPV4_FIXED;
		e->type = ECHO_REQUEST;
		map_ipv4(f->peer.addr, load32(ip + 12));
		map_ipv4(f->rip, load32(ip + 16));
		return sound(sum16(0, ip, IPV4_FIXED));
	}
	if (skb->protocol == bpf_htons(ETHERTYPE_IPV6)) {
		if (bpf_skb_load_bytes_relative(skb, 0, ip, IPV6_FIXED, BPF_HDR_START_NET))
			return false;
		if (ip[6] != IPPROTO_ICMPV6)
			return false;
		e->at = IPV6_FIXED;
		e->length = bpf_ntohs(load16(ip + 4));
		e->sum = sum16(load16(ip + 4) + bpf_htons(IPPROTO_ICMPV6), ip + 8, 32);
		e->type = ECHO_REQUEST_V6;
		load_addr(f->peer.addr, ip + 8);
		load_addr(f->rip, ip + 24);
		return true;
	}
	return false;
}

/*
 * learn_datagrams keeps what a notice tells, for sockets that are bound to the
 * address that it came to, and for those that are bound to none. The latter have
 * no way to know which address a datagram came to: where flows to two of them
 * have the same LIP and ports, nobody's client is told.
 */
static __always_inline void learn_datagrams(struct flow *f, const struct endpoint *client, __u64 now)
{
	struct mapping told = { .seen = now, .client = *client };
	struct mapping *m;

	copy_addr(told.rip, f->rip);
	for (int i = 0; i < 2; i++) {
		m = bpf_map_lookup_elem(&mappings, f);
		if (i == 1) {
			struct mapping *old = m ? m : bpf_map_lookup_elem(&noticed, f);

			if (live(old, now, udp_timeout) && !same(&old->client, client) &&
			    (old->client.port == 0 || !same_addr(old->rip, told.rip)))
				told.client.port = 0;
		}
		if (m)
			bpf_map_update_elem(&mappings, f, &told, BPF_ANY);
		else
			bpf_map_update_elem(&noticed, f, &told, BPF_ANY);
		f->rip[0] = f->rip[1] = f->rip[2] = f->rip[3] = 0;
	}
	turn_over(&f->peer);
	note(f->rport);
}

/* judge reads a notice's message m into f and client, and says what to count for it. */
static __always_inline enum counter judge(const __u8 *m, __u32 length, struct flow *f, struct endpoint *client)
{
	const __u8 *data = m + ICMP_FIXED;
	/* 14 and 26 bytes of data have no padding, 16 and 28 have it. */
	bool padded = length == NOTICE_MIN + 2 || length == NOTICE_MAX;
	bool ipv4 = length < NOTICE_MIN + 4;
	const __u8 *option = data + (padded ? NOTICE_OPTION + 2 : NOTICE_OPTION);

	if (data[0] != NOTICE_MAGIC)
		return COUNTER_NOTICE_MAGIC;
	f->proto = data[1];
	if (f->proto != IPPROTO_TCP && f->proto != IPPROTO_UDP)
		return COUNTER_NOTICE_PROTOCOL;
	f->peer.port = load16(data + 2);
	f->rport = load16(data + 4);
	if (option[1] != (ipv4 ? OPTION_IPV4 : OPTION_IPV6) || !(kinds[option[0]] & (ipv4 ? FORM_IPV4 : FORM_IPV6)))
		return COUNTER_NOTICE_OPTION;
	client->port = load16(option + 2);
	if (ipv4)
		map_ipv4(client->addr, load32(option + 4));
	else
		load_addr(client->addr, option + 4);
	return possible(client) ? COUNTER_NOTICED : COUNTER_NOTICE_ADDRESS;
}

/* read_notice learns from a packet if it is a notice. */
static __always_inline void read_notice(struct __sk_buff *skb)
{
	__u8 m[NOTICE_MAX] __attribute__((aligned(4))) = {};
	struct endpoint client = {};
	struct flow f = {};
	struct echo e = {};
	enum counter verdict;
	__u64 now;

	if (!read_ip(skb, &e, &f))
		return;
	if (bpf_skb_load_bytes_relative(skb, e.at, m, ICMP_FIXED, BPF_HDR_START_NET))
		return;
	if (m[0] != e.type || m[1] != 0 || *(__u16 *)(m + 4) != NOTICE_ID || *(__u16 *)(m + 6) != 0)
		return; /* an ordinary ping */
	if (!trusted(f.peer.addr)) {
		count(COUNTER_NOTICE_UNTRUSTED);
		return;
	}
	if (e.length != NOTICE_MIN && e.length != NOTICE_MIN + 2 && e.length != NOTICE_MAX - 2 && e.length != NOTICE_MAX) {
		count(COUNTER_NOTICE_LENGTH);
		return;
	}
	if (e.length < NOTICE_MIN || e.length > NOTICE_MAX ||
	    bpf_skb_load_bytes_relative(skb, e.at, m, e.length, BPF_HDR_START_NET)) {
		count(COUNTER_NOTICE_LENGTH);
		return;
	}
	if (!sound(sum16(e.sum, m, NOTICE_MAX))) { /* what is behind the end is zero */
		count(COUNTER_NOTICE_CHECKSUM);
		return;
	}
	verdict = judge(m, e.length, &f, &client);
	count(verdict);
	if (verdict != COUNTER_NOTICED)
		return;
	now = clock();
	if (f.proto == IPPROTO_UDP) {
		learn_datagrams(&f, &client, now);
	} else {
		struct mapping told = { .seen = now, .client = client };

		bpf_map_update_elem(&handshakes, &f, &told, BPF_ANY);
	}
}

/* On a raw socket for ICMP, which is to receive nothing: it reads before the kernel replies. */
SEC("socket")
int fnatrs_icmp(struct __sk_buff *skb)
{
	read_notice(skb);
	return 0;
}

/* On a network interface: also what the kernel forwards to containers, but not what others are sent. */
SEC("tcx/ingress")
int fnatrs_ingress(struct __sk_buff *skb)
{
	if (skb->pkt_type == PACKET_HOST)
		read_notice(skb);
	return NEXT;
}
