/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * Where the IP datagram of a frame is, or of a quote in an ICMP error, and what
 * its headers say up to the transport's.
 */

#ifndef FNATD_PARSE_H
#define FNATD_PARSE_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* From the standards. */
#define IP_MORE_OR_OFFSET 0x3fff  /* RFC 791, 3.1: MF and the fragment offset */
#define IP6_MORE_OR_OFFSET 0xfff9 /* RFC 8200, 4.5: the offset and M */

/* Our choices. */
#define MAX_VLAN_TAGS 2
#define MAX_EXTENSIONS 6    /* IPv6 headers before TCP; more is left to the kernel */

/*
 * An address is in IPv6 form, IPv4 mapped into it (RFC 4291, 2.5.5.2), in
 * network order; a port is in host order.
 */
struct service_key {
	__u8 addr[16] __attribute__((aligned(4)));
	__u16 port; /* 0: some service of this protocol is at this address */
	__u8 proto;
	__u8 zero;
};

struct vlan_tag {
	__be16 tci, type;
};

struct extension {
	__u8 next, len;
	__be16 offset; /* of a fragment header only */
	__be32 id;
};

/* Which end of a datagram is looked at. */
enum end {
	DESTINATION,
	SOURCE, /* of a quoted datagram: who sent it, and gets the error */
};

/* What is known of a frame's IP datagram, or of a quoted one, after parse. */
struct datagram {
	enum end which;
	struct service_key at; /* that end; port 0 until the transport header is read */
	bool fragment;
	__u32 l3;    /* offset of the IP header in the frame */
	__u32 l4;    /* ... of the TCP header, if there is a guard */
	__u32 guard; /* of the service that it is a SYN to, or may bring a cookie, or 0 */
	bool syn;
	void *start, *payload, *end;
};

/* parse_ip4 reads the IPv4 header at pos. False: not a datagram of ours. */
static __always_inline bool parse_ip4(struct datagram *d, void *pos)
{
	struct iphdr *ip = pos;

	if ((void *)(ip + 1) > d->end || ip->version != 4 || ip->ihl < 5)
		return false;
	*(__be32 *)(d->at.addr + 8) = bpf_htonl(0xffff);
	*(__be32 *)(d->at.addr + 12) = d->which == SOURCE ? ip->saddr : ip->daddr;
	d->at.proto = ip->protocol;
	d->fragment = ip->frag_off & bpf_htons(IP_MORE_OR_OFFSET);
	d->payload = pos + ip->ihl * 4;
	return true;
}

/* parse_ip6 reads the IPv6 header at pos and the extension headers behind it. */
static __always_inline bool parse_ip6(struct datagram *d, void *pos)
{
	struct ipv6hdr *ip = pos;
	struct extension *ext;
	__u8 next;

	if ((void *)(ip + 1) > d->end || ip->version != 6)
		return false;
	__builtin_memcpy(d->at.addr, d->which == SOURCE ? &ip->saddr : &ip->daddr,
			 sizeof(ip->daddr));
	next = ip->nexthdr;
	pos = ip + 1;

#pragma unroll
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		ext = pos;
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING &&
		    next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT)
			break;
		if ((void *)(ext + 1) > d->end)
			return false;
		if (next == IPPROTO_FRAGMENT) {
			d->fragment = ext->offset & bpf_htons(IP6_MORE_OR_OFFSET);
			pos = ext + 1;
		} else {
			pos += (ext->len + 1) * 8;
		}
		next = ext->next;
		/* What follows in a later fragment is payload, not a header. */
		if (d->fragment)
			break;
	}
	d->at.proto = next;
	d->payload = pos;
	return true;
}

/* parse finds the IP datagram in the frame. False: not one of ours. */
static __always_inline bool parse(struct xdp_md *ctx, struct datagram *d)
{
	void *pos = (void *)(long)ctx->data;
	struct ethhdr *eth = pos;
	struct vlan_tag *tag;
	__be16 type;

	d->start = pos;
	d->end = (void *)(long)ctx->data_end;
	if ((void *)(eth + 1) > d->end)
		return false;
	/* RFC 1122, 3.3.6: a unicast datagram in a group frame is nobody's. */
	if (eth->h_dest[0] & 1)
		return false;
	type = eth->h_proto;
	pos = eth + 1;
	d->l3 = sizeof(*eth);

#pragma unroll
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		tag = pos;
		if ((void *)(tag + 1) > d->end)
			return false;
		type = tag->type;
		pos = tag + 1;
		d->l3 += sizeof(*tag);
	}
	if (type == bpf_htons(ETH_P_IP))
		return parse_ip4(d, pos);
	if (type == bpf_htons(ETH_P_IPV6))
		return parse_ip6(d, pos);
	return false;
}

#endif
