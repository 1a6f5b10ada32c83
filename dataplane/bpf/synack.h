/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * Makes of a SYN, in its place, the SYN-ACK that carries its cookie. Nothing is kept.
 *
 * The SYN's checksum is not verified: a sender on this host leaves only the
 * pseudo-header's sum in the field, and XDP has no way to tell. What a damaged SYN
 * gets is an answer that its sender throws away, and there is no state to regret.
 */

#ifndef FNATD_SYNACK_H
#define FNATD_SYNACK_H

#include <linux/if_ether.h>

#include "cookie.h"

/* From the standards. */
#define TCP_FIN 0x0001 /* RFC 9293, 3.1: bits of the word of data offset and flags */
#define TCP_SYN 0x0002
#define TCP_RST 0x0004
#define TCP_ACK 0x0010
#define TCP_OFFSET_SHIFT 12
#define IP_DONT_FRAGMENT 0x4000

/* Our choices. */
#define TTL 64
#define MAX_L4 0x7ff /* a transport header further behind is left to user space */
#define CLOCK_SHIFT 20 /* from nanoseconds to timestamps: synproxy.ClockShift */

/* What cookies are made with, as synproxy.Keys; user space keeps it up to date. */
struct cookie_secrets {
	struct sip_key by_parity[2]; /* all zero: not set yet */
	struct sip_key limits;	     /* see guard.h */
	struct sip_key flows;	     /* see known.h, as what follows */
	__u32 places;		     /* 2 to the power of it there are, */
	__u32 shards;		     /* of them in one shard of the connection table: 2 to that less */
	__u32 current;		     /* parity of the current epoch */
	__u32 clock_offset;	     /* of timestamps */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cookie_secrets);
} secrets SEC(".maps");

/* current_parity returns the parity of the epoch. It may change from call to call. */
static __always_inline __u32 current_parity(void)
{
	__u32 zero = 0;
	const struct cookie_secrets *secret = bpf_map_lookup_elem(&secrets, &zero);

	return secret ? secret->current & 1 : 0;
}

/* Set when the program is loaded: it is the instance for packets of several buffers. */
const volatile bool multi_buffer;

/* A clock that stands still between two ticks of the kernel's. */
struct clock {
	__u64 tick; /* in which it was read */
	__u64 time; /* ns of CLOCK_MONOTONIC */
};

/*
 * clock returns the time in nanoseconds, which it reads once in a tick: to read the
 * exact one can cost more than the cookie, and the kernel's own of the last tick is a
 * call still. CPUs do not agree on it to the tick.
 */
static __always_inline __u64 clock(struct clock *c)
{
	__u64 tick = bpf_jiffies64();

	if (c->tick != tick) {
		c->tick = tick;
		c->time = bpf_ktime_get_ns();
	}
	return c->time;
}

/* What a SYN-ACK says: synproxy.Offer. */
struct offer {
	__u16 mss, window;
	__u8 scale; /* or NO_SCALE */
	bool sack, timestamps;
};

/* A SYN, as offsets in its frame, which outlive a change of the frame's length. */
struct syn {
	bool is4;
	__u32 l3, l4;
	__u32 header; /* bytes of the TCP header */
	__u32 frame;  /* ... of the frame */
};

/* is_syn tells a segment that asks for a connection from all others. */
static __always_inline bool is_syn(const struct tcp *tcp)
{
	return (tcp->flags & bpf_htons(TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == bpf_htons(TCP_SYN);
}

/* mapped reports whether the address is one that no packet may have (RFC 6890, 2.2.3). */
static __always_inline bool mapped(const struct in6_addr *addr)
{
	const __be32 *word = addr->in6_u.u6_addr32;

	return word[0] == 0 && word[1] == 0 && word[2] == bpf_htonl(0xffff);
}

/*
 * find_syn finds the headers of the SYN whose IP header is at l3. False: it has
 * IP options or extension headers, or lengths that contradict each other, or is in
 * several buffers; user space shall judge it.
 */
static __always_inline bool find_syn(struct xdp_md *ctx, struct syn *s)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip6 = data + (s->l3 & 31);
	struct iphdr *ip4 = data + (s->l3 & 31);
	struct tcp *tcp;
	__u32 segment;

	s->frame = end - data;
	if (multi_buffer && bpf_xdp_get_buff_len(ctx) != s->frame)
		return false;
	if ((void *)(ip4 + 1) > end)
		return false;
	s->is4 = ip4->version == 4;
	if (s->is4) {
		if (ip4->ihl != 5)
			return false;
		s->l4 = s->l3 + sizeof(*ip4);
		segment = bpf_ntohs(ip4->tot_len) - sizeof(*ip4);
	} else {
		if ((void *)(ip6 + 1) > end)
			return false;
		if (ip6->nexthdr != IPPROTO_TCP || mapped(&ip6->saddr) || mapped(&ip6->daddr))
			return false;
		s->l4 = s->l3 + sizeof(*ip6);
		segment = bpf_ntohs(ip6->payload_len);
	}
	tcp = data + (s->l4 & 63);
	if ((void *)(tcp + 1) > end)
		return false;
	s->header = (bpf_ntohs(tcp->flags) >> TCP_OFFSET_SHIFT) * 4;
	/* An IPv4 total length below its header makes the segment huge. */
	return s->header >= TCP_FIXED && s->header <= segment && segment <= s->frame - s->l4;
}

/* A sum of 16-bit words (RFC 1071), which does not mind their byte order. */
static __always_inline __sum16 fold(__u64 sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16 & 0xffff) + (sum >> 32) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return ~sum;
}

static __always_inline void swap_macs(struct ethhdr *eth)
{
	__be16 *half = (void *)eth, mac[] = { half[0], half[1], half[2] };

	half[0] = half[3];
	half[1] = half[4];
	half[2] = half[5];
	half[3] = mac[0];
	half[4] = mac[1];
	half[5] = mac[2];
}

/* return4 and return6 send the datagram back, and return the sum of its addresses. */

static __always_inline __u64 return4(struct iphdr *ip, __u32 segment)
{
	__be32 src = ip->saddr;
	__u64 addresses = (__u64)ip->saddr + ip->daddr;

	ip->tos = 0;
	ip->tot_len = bpf_htons(sizeof(*ip) + segment);
	ip->id = 0; /* RFC 6864, 4.1: any will do in what is never fragmented */
	ip->frag_off = bpf_htons(IP_DONT_FRAGMENT);
	ip->ttl = TTL;
	ip->protocol = IPPROTO_TCP;
	ip->saddr = ip->daddr;
	ip->daddr = src;
	ip->check = fold(addresses + bpf_htons(0x4500) + ip->tot_len + ip->frag_off +
			 bpf_htons(TTL << 8 | IPPROTO_TCP));
	return addresses;
}

static __always_inline __u64 return6(struct ipv6hdr *ip, __u32 segment)
{
	struct in6_addr src = ip->saddr;
	__u64 addresses = 0;

#pragma unroll
	for (int i = 0; i < 4; i++)
		addresses += (__u64)ip->saddr.in6_u.u6_addr32[i] + ip->daddr.in6_u.u6_addr32[i];
	ip->version = 6;
	ip->priority = 0;
	ip->flow_lbl[0] = ip->flow_lbl[1] = ip->flow_lbl[2] = 0;
	ip->payload_len = bpf_htons(segment);
	ip->hop_limit = TTL;
	ip->saddr = ip->daddr;
	ip->daddr = src;
	return addresses;
}

/* put appends a word to the options, and to the sum of what is in the segment. */
static __always_inline bool put(__be32 **at, void *end, __u64 *sum, __u32 word)
{
	if ((void *)(*at + 1) > end)
		return false;
	**at = bpf_htonl(word);
	*sum += **at;
	++*at;
	return true;
}

/* put_options appends the options in the order and alignment of Linux. */
static __always_inline bool put_options(__be32 *at, void *end, __u64 *sum, const struct offer *o,
					__u32 now, __be32 echo)
{
	if (!put(&at, end, sum, OPTION_MSS << 24 | LENGTH_MSS << 16 | o->mss))
		return false;
	if (o->timestamps) {
		if (!put(&at, end, sum,
			 (o->sack ? OPTION_SACK << 24 | LENGTH_SACK << 16 : OPTION_NOP << 24 | OPTION_NOP << 16) |
				 OPTION_TIMESTAMPS << 8 | LENGTH_TIMESTAMPS) ||
		    !put(&at, end, sum, now) || !put(&at, end, sum, bpf_ntohl(echo)))
			return false;
	} else if (o->sack) {
		if (!put(&at, end, sum, OPTION_NOP << 24 | OPTION_NOP << 16 | OPTION_SACK << 8 | LENGTH_SACK))
			return false;
	}
	if (o->scale != NO_SCALE)
		return put(&at, end, sum, OPTION_NOP << 24 | OPTION_SCALE << 16 | LENGTH_SCALE << 8 | o->scale);
	return true;
}

static __always_inline __u32 options_size(const struct offer *o)
{
	return LENGTH_MSS + (o->timestamps ? 12 : o->sack ? 4 : 0) + (o->scale != NO_SCALE ? 4 : 0);
}

/*
 * build makes the SYN its SYN-ACK. False: the driver has no room for it, and the
 * frame is as it was; all other branches that return false are for the verifier.
 */
static __always_inline bool build(struct xdp_md *ctx, const struct syn *s, const struct offer *o,
				  __u32 cookie, __u32 now, __be32 echo)
{
	__u32 header = TCP_FIXED + options_size(o);
	int grow = s->l4 + header - s->frame;
	void *data, *end;
	struct tcp *tcp;
	__u64 sum;
	__be16 port;

	if (grow && bpf_xdp_adjust_tail(ctx, grow))
		return false;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	tcp = data + (s->l4 & 63);
	if (data + sizeof(struct ethhdr) > end || (void *)(tcp + 1) > end)
		return false;
	if (s->is4) {
		struct iphdr *ip = data + (s->l3 & 31);

		if ((void *)(ip + 1) > end)
			return false;
		sum = return4(ip, header);
	} else {
		struct ipv6hdr *ip = data + (s->l3 & 31);

		if ((void *)(ip + 1) > end)
			return false;
		sum = return6(ip, header);
	}
	swap_macs(data);

	port = tcp->src;
	tcp->src = tcp->dst;
	tcp->dst = port;
	tcp->ack = bpf_htonl(bpf_ntohl(tcp->seq) + 1);
	tcp->seq = bpf_htonl(cookie);
	tcp->flags = bpf_htons(header / 4 << TCP_OFFSET_SHIFT | TCP_SYN | TCP_ACK);
	tcp->window = bpf_htons(o->window);
	tcp->urgent = 0;
	sum += bpf_htons(IPPROTO_TCP) + bpf_htons(header);
	sum += (__u64)tcp->src + tcp->dst + tcp->ack + tcp->seq + tcp->flags + tcp->window;
	if (!put_options(tcp->options, end, &sum, o, now, echo))
		return false;
	tcp->checksum = fold(sum);
	return true;
}

/*
 * answer makes the SYN whose IP header is at l3 its SYN-ACK, which says what is
 * offered and nothing that the SYN did not offer itself, but for the MSS
 * (synproxy.Offer.Answer). False: user space shall do it, the frame is as it was.
 */
static __always_inline bool answer(struct xdp_md *ctx, __u32 l3, struct offer o, __u32 parity, struct clock *c)
{
	struct syn s = { .l3 = l3 };
	__u32 zero = 0, number, now = 0;
	const struct cookie_secrets *secret = bpf_map_lookup_elem(&secrets, &zero);
	const struct sip_key *key;
	const struct tcp *tcp;
	void *data, *end;
	__u64 said, hash;

	if (!secret || !find_syn(ctx, &s))
		return false;
	key = &secret->by_parity[parity];
	if (!(key->k0 | key->k1))
		return false;
	said = read_options(ctx, s.l4, s.header);
	if (said & SAID_MALFORMED)
		return false;

	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	tcp = data + (s.l4 & 63);
	if ((void *)(tcp + 1) > end)
		return false;
	if (s.is4) {
		if (data + (s.l3 & 31) + sizeof(struct iphdr) > end)
			return false;
		hash = hash4(key, data + (s.l3 & 31), names(tcp, bpf_ntohl(tcp->seq)));
	} else {
		if (data + (s.l3 & 31) + sizeof(struct ipv6hdr) > end)
			return false;
		hash = hash6(key, data + (s.l3 & 31), names(tcp, bpf_ntohl(tcp->seq)));
	}
	number = cookie(parity, hash, said, s.is4);

	o.sack = o.sack && said & (__u64)SACK_BIT << SAID_AS_IN_COOKIE;
	o.timestamps = o.timestamps && said & (__u64)TIMESTAMPS_BIT << SAID_AS_IN_COOKIE;
	if ((said >> SAID_AS_IN_COOKIE >> SCALE_SHIFT & NO_SCALE) == NO_SCALE)
		o.scale = NO_SCALE;
	if (o.timestamps)
		now = (__u32)(clock(c) >> CLOCK_SHIFT) + secret->clock_offset;
	return build(ctx, &s, &o, number, now, said);
}

#endif
