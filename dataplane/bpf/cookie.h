/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * What a SYN offers, and the cookie that answers it: the one that package
 * synproxy would make, and checks.
 */

#ifndef FNATD_COOKIE_H
#define FNATD_COOKIE_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "siphash.h"

/* From the standards. */
#define TCP_FIXED 20        /* RFC 9293, 3.1: where options begin */
#define OPTION_END 0        /* RFC 9293, 3.2 */
#define OPTION_NOP 1
#define OPTION_MSS 2
#define OPTION_SCALE 3      /* RFC 7323, 2.2 */
#define OPTION_SACK 4       /* RFC 2018, 2: SACK-permitted */
#define OPTION_TIMESTAMPS 8 /* RFC 7323, 3.2 */
#define LENGTH_MSS 4
#define LENGTH_SCALE 3
#define LENGTH_SACK 2
#define LENGTH_TIMESTAMPS 10
#define LENGTH_LINUX 20     /* all that Linux offers */
#define MAX_OPTIONS 40      /* each has a byte at least */
#define MAX_SCALE 14        /* RFC 7323, 2.3: more is taken as this */

/* A cookie, as synproxy/cookie.go has it. */
#define PARITY_SHIFT 31
#define COVER_MASK 0x7fffffff
#define CHECK_MASK 0x3fffff
#define MSS_SHIFT 28
#define SCALE_SHIFT 24
#define NO_SCALE 15
#define SACK_BIT (1U << 23)
#define TIMESTAMPS_BIT (1U << 22)
#define MSS_SIZES 8

static const __u16 mss4[MSS_SIZES] = { 64, 536, 1220, 1360, 1400, 1440, 1460, 8960 };
static const __u16 mss6[MSS_SIZES] = { 64, 1220, 1280, 1340, 1380, 1420, 1440, 8940 };

/* What a SYN without an MSS option stands for: RFC 9293, 3.7.1. */
#define DEFAULT_MSS4 536
#define DEFAULT_MSS6 1220

struct tcp {
	__be16 src, dst;
	__be32 seq, ack;
	__be16 flags; /* and data offset */
	__be16 window;
	__sum16 checksum;
	__be16 urgent;
	__be32 options[];
};

/*
 * What the options of a SYN have said so far, in one word, because kernels before
 * 5.12 pass nothing larger to a global function:
 *
 *	63      they are malformed
 *	62      all are read
 *	59-54   window scale, SACK permitted, timestamps: as in a cookie, 32 bits up
 *	53-48   offset of the next option in the TCP header
 *	47-32   MSS, 0 if there was none
 *	31-0    the timestamp, as it stands in the packet
 */
#define SAID_MALFORMED (1ULL << 63)
#define SAID_ALL (1ULL << 62)
#define SAID_AS_IN_COOKIE 32
#define SAID_NEXT 48
#define SAID_MSS 32
#define SAID_NOTHING ((__u64)NO_SCALE << SCALE_SHIFT << SAID_AS_IN_COOKIE | (__u64)TCP_FIXED << SAID_NEXT)
#define COOKIE_OPTIONS ((__u32)NO_SCALE << SCALE_SHIFT | SACK_BIT | TIMESTAMPS_BIT)

/*
 * read_option adds to said what the next option of the TCP header says that begins
 * at offset l4 and has so many bytes. A known kind with a wrong length says
 * nothing, as to Linux. It is a global function, which the verifier checks by itself
 * for any arguments: inlined into a loop it would be a million instructions to it.
 */
__noinline __u64 read_option(struct xdp_md *ctx, __u32 l4, __u32 header, __u64 said)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *option;
	__u32 off = said >> SAID_NEXT & 63;
	__u8 length;

	if (off >= header)
		return said | SAID_ALL;
	option = data + (l4 & 63) + off;
	if (option + 1 > end)
		return said | SAID_MALFORMED;
	if (option[0] == OPTION_END)
		return said | SAID_ALL;
	if (option[0] == OPTION_NOP)
		return said + (1ULL << SAID_NEXT);
	/* RFC 9293, 3.1: the length counts kind and length themselves. */
	if (option + 2 > end)
		return said | SAID_MALFORMED;
	length = option[1];
	if (length < 2 || off + length > header)
		return said | SAID_MALFORMED;
	if (option[0] == OPTION_MSS && length == LENGTH_MSS) {
		if (option + LENGTH_MSS > end)
			return said | SAID_MALFORMED;
		said &= ~(0xffffULL << SAID_MSS);
		said |= (__u64)(option[2] << 8 | option[3]) << SAID_MSS;
	} else if (option[0] == OPTION_SCALE && length == LENGTH_SCALE) {
		if (option + LENGTH_SCALE > end)
			return said | SAID_MALFORMED;
		said &= ~((__u64)NO_SCALE << SCALE_SHIFT << SAID_AS_IN_COOKIE);
		said |= (__u64)(option[2] > MAX_SCALE ? MAX_SCALE : option[2]) << SCALE_SHIFT << SAID_AS_IN_COOKIE;
	} else if (option[0] == OPTION_SACK && length == LENGTH_SACK) {
		said |= (__u64)SACK_BIT << SAID_AS_IN_COOKIE;
	} else if (option[0] == OPTION_TIMESTAMPS && length == LENGTH_TIMESTAMPS) {
		if (option + LENGTH_TIMESTAMPS > end)
			return said | SAID_MALFORMED;
		said &= ~0xffffffffULL;
		said |= (__u64)TIMESTAMPS_BIT << SAID_AS_IN_COOKIE;
		said |= (__u32)option[5] << 24 | option[4] << 16 | option[3] << 8 | option[2];
	}
	return said + ((__u64)length << SAID_NEXT);
}

/*
 * read_linux reads the options of a SYN as Linux sends it, by words: MSS, SACK permitted
 * and timestamps, window scale. It returns 0 for any others.
 */
static __always_inline __u64 read_linux(struct xdp_md *ctx, __u32 l4, __u32 header)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__be32 *o = data + (l4 & 63) + TCP_FIXED;
	__u32 scale;

	if (header != TCP_FIXED + LENGTH_LINUX || (void *)(o + LENGTH_LINUX / 4) > end)
		return 0;
	scale = bpf_ntohl(o[4]);
	if (bpf_ntohl(o[0]) >> 16 != (OPTION_MSS << 8 | LENGTH_MSS) ||
	    o[1] != bpf_htonl(OPTION_SACK << 24 | LENGTH_SACK << 16 | OPTION_TIMESTAMPS << 8 | LENGTH_TIMESTAMPS) ||
	    scale >> 8 != (OPTION_NOP << 16 | OPTION_SCALE << 8 | LENGTH_SCALE))
		return 0;
	scale &= 0xff;
	if (scale > MAX_SCALE)
		scale = MAX_SCALE;
	return SAID_ALL | (__u64)(bpf_ntohl(o[0]) & 0xffff) << SAID_MSS | o[2] |
	       (__u64)(scale << SCALE_SHIFT | SACK_BIT | TIMESTAMPS_BIT) << SAID_AS_IN_COOKIE;
}

/* read_options reads all of them. */
static __always_inline __u64 read_options(struct xdp_md *ctx, __u32 l4, __u32 header)
{
	__u64 said = read_linux(ctx, l4, header);

	if (said)
		return said;
	said = SAID_NOTHING;
	for (int i = 0; i <= MAX_OPTIONS && !(said & (SAID_ALL | SAID_MALFORMED)); i++)
		said = read_option(ctx, l4, header, said);
	return said;
}

/* mss_index returns the index of the largest size that is at most mss, or 0. */
static __always_inline __u32 mss_index(const __u16 *sizes, __u32 mss)
{
	__u32 index = 0;

#pragma unroll
	for (int i = 1; i < MSS_SIZES; i++)
		index += mss >= sizes[i];
	return index;
}

/*
 * hash4 and hash6 return the hash of a segment's addresses and what more of it is in
 * rest, which names puts its ports in. A cookie's cover is made of that of a SYN, with
 * its initial sequence number.
 */

static __always_inline __u64 names(const struct tcp *tcp, __u32 more)
{
	return (__u64)bpf_ntohs(tcp->src) << 48 | (__u64)bpf_ntohs(tcp->dst) << 32 | more;
}

static __always_inline __u64 hash4(const struct sip_key *key, const struct iphdr *ip, __u64 rest)
{
	return siphash2(key, (__u64)ip->saddr << 32 | ip->daddr, rest);
}

static __always_inline __u64 word64(const __be32 *at)
{
	return (__u64)at[1] << 32 | at[0];
}

static __always_inline __u64 hash6(const struct sip_key *key, const struct ipv6hdr *ip, __u64 rest)
{
	const __be32 *src = ip->saddr.in6_u.u6_addr32, *dst = ip->daddr.in6_u.u6_addr32;

	return siphash5(key, word64(src), word64(src + 2), word64(dst), word64(dst + 2), rest);
}

/* cookie returns the cookie of an epoch for a SYN with this hash that says so much. */
static __always_inline __u32 cookie(__u32 parity, __u64 hash, __u64 said, bool is4)
{
	__u32 mss = said >> SAID_MSS & 0xffff, index;

	if (is4)
		index = mss_index(mss4, mss ? mss : DEFAULT_MSS4);
	else
		index = mss_index(mss6, mss ? mss : DEFAULT_MSS6);
	return parity << PARITY_SHIFT |
	       (((__u32)hash & COVER_MASK) ^
		(index << MSS_SHIFT | ((__u32)(said >> SAID_AS_IN_COOKIE) & COOKIE_OPTIONS)));
}

#endif
