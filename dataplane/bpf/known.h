/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * Parts segments of connections that there are from others to a guarded service, of
 * which only those go up that bring a good cookie. So a flood of bad ACKs takes neither
 * room in the ring, nor frames, nor time of the workers, from those who have business
 * here. Nothing that user space would have forwarded is dropped; what this cannot read
 * is for user space to judge. So is one bad segment of each millisecond or tick of the
 * clock, on each CPU: a flow that has few is told of its drops as without a flood.
 */

#ifndef FNATD_KNOWN_H
#define FNATD_KNOWN_H

#include "counters.h"
#include "guard.h"

/* Our choices. */
#define KNOWN_LINE 64 /* counts in a cache line */
#define MAX_PROVEN 65536
#define PROVEN_LINE 32  /* times in a cache line */
#define PROVEN_SHIFT 24 /* from ns to times of 17 ms, which come again after 18 minutes */
#define PROVEN_TIME (SECOND / 2 >> PROVEN_SHIFT)
#define SAMPLE_TIME (SECOND / 1000)

/*
 * How many connections there are whose client's flow hashes to a place; package
 * conntrack counts. A count is raised before the connection is there, and lowered when
 * it is no more: so a flow that finds 0 has none. The kernel rounds the size of an
 * entry up to 8 bytes, hence lines. Behind the counts it is told of each line how many in
 * it are not 0: where there are few connections, a flood of strangers leaves it at that,
 * and does not wait for memory. The entry of known is empty while nobody counts, or
 * another process may have gone on with the connections.
 */
struct known_line {
	__u8 count[KNOWN_LINE];
};

struct known_lines {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP); /* of any size: Linux 5.10 */
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32)); /* types that only an inner map names are not in its BTF */
	__uint(value_size, sizeof(struct known_line));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct known_lines);
} known SEC(".maps");

/*
 * When a flow that hashes to a place last brought a good cookie; 0: never. What its
 * client has sent right behind that belongs to a connection that user space may not have
 * made yet. All of it has to stay in the second-level cache beside a flood's frames.
 */
struct proven_line {
	__u16 when[PROVEN_LINE];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_PROVEN / PROVEN_LINE);
	__type(key, __u32);
	__type(value, struct proven_line);
} proven SEC(".maps");

/* A segment that acknowledges something and opens nothing. */
struct ack {
	bool is4;
	bool bare; /* brings nothing that is to be acknowledged */
	void *ip;
	const struct tcp *tcp;
};

/* is_ack tells a segment that may bring a cookie from all others. */
static __always_inline bool is_ack(const struct tcp *tcp)
{
	return (tcp->flags & bpf_htons(TCP_SYN | TCP_ACK | TCP_RST)) == bpf_htons(TCP_ACK);
}

/*
 * find_ack finds the headers at l3 and l4. False: the lengths contradict each other.
 */
static __always_inline bool find_ack(struct xdp_md *ctx, __u32 l3, __u32 l4, struct ack *a)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip6 = data + (l3 & 31);
	struct iphdr *ip4 = data + (l3 & 31);
	struct tcp *tcp = data + (l4 & MAX_L4);
	__u32 total, header;

	if (l4 > MAX_L4 || (void *)(tcp + 1) > end || (void *)(ip4 + 1) > end)
		return false;
	a->is4 = ip4->version == 4;
	a->ip = ip4;
	a->tcp = tcp;
	if (a->is4) {
		total = bpf_ntohs(ip4->tot_len);
	} else {
		if ((void *)(ip6 + 1) > end)
			return false;
		total = sizeof(*ip6) + bpf_ntohs(ip6->payload_len);
	}
	header = l4 - l3 + (bpf_ntohs(tcp->flags) >> TCP_OFFSET_SHIFT) * 4;
	a->bare = total == header && !(tcp->flags & bpf_htons(TCP_FIN));
	return header >= l4 - l3 + TCP_FIXED && header <= total;
}

/* flow_hash returns the hash by which package conntrack knows the segment's flow. */
static __always_inline __u64 flow_hash(const struct sip_key *key, const struct ack *a)
{
	__u64 rest = names(a->tcp, IPPROTO_TCP << 8);

	return a->is4 ? hash4(key, a->ip, rest) : hash6(key, a->ip, rest);
}

/* is_known reports whether there may be a connection whose client's flow has this hash. */
static __always_inline bool is_known(const struct cookie_secrets *secret, __u64 hash)
{
	__u32 zero = 0, place, line, of_line, in_shard = secret->places - secret->shards;
	void *lines = bpf_map_lookup_elem(&known, &zero);
	struct known_line *l;

	if (!lines)
		return true;
	place = hash & ((1U << (secret->shards & 31)) - 1);
	place = place << (in_shard & 31) | hash >> (64 - in_shard & 63);
	line = place / KNOWN_LINE;
	of_line = (1U << (secret->places & 31)) / KNOWN_LINE + line / KNOWN_LINE;
	l = bpf_map_lookup_elem(lines, &of_line);
	if (l && !l->count[line % KNOWN_LINE])
		return false;
	l = bpf_map_lookup_elem(lines, &line);
	return !l || l->count[place % KNOWN_LINE];
}

/* is_cookie reports whether the segment acknowledges the cookie of a SYN with this number. */
static __always_inline bool is_cookie(const struct cookie_secrets *secret, const struct ack *a, __u32 isn)
{
	__u32 cookie = bpf_ntohl(a->tcp->ack) - 1;
	const struct sip_key *key = &secret->by_parity[cookie >> PARITY_SHIFT];
	__u64 rest = names(a->tcp, isn);
	__u64 hash = a->is4 ? hash4(key, a->ip, rest) : hash6(key, a->ip, rest);

	if (!(key->k0 | key->k1))
		return true; /* which cannot be told yet */
	return !(((__u32)hash ^ cookie) & CHECK_MASK);
}

/* proves is synproxy's Check, by the rules of the worker's proof. */
static __always_inline bool proves(const struct cookie_secrets *secret, const struct ack *a)
{
	__u32 seq = bpf_ntohl(a->tcp->seq);

	return is_cookie(secret, a, seq - 1) || (a->bare && is_cookie(secret, a, seq));
}

/* proven_at returns when the flow with this hash has proven itself. */
static __always_inline __u16 *proven_at(__u64 hash)
{
	__u32 place = hash & (MAX_PROVEN - 1), line = place / PROVEN_LINE;
	struct proven_line *l = bpf_map_lookup_elem(&proven, &line);

	return l ? &l->when[place % PROVEN_LINE] : NULL;
}

/* is_recent reports whether that is not long ago. Another CPU's clock may be ahead. */
static __always_inline bool is_recent(__u16 when, __u16 now)
{
	return when && (__u16)(now + 1 - when) <= PROVEN_TIME;
}

/*
 * meet_ack decides about a segment to the service with this guard: COUNTER_SERVICE is
 * to hand it to the socket.
 */
static __always_inline int meet_ack(struct xdp_md *ctx, __u32 guard, __u32 l3, __u32 l4)
{
	struct guard_counters *n = bpf_map_lookup_elem(&guard_counts, &guard);
	struct guard *g = bpf_map_lookup_elem(&guards, &guard);
	const struct cookie_secrets *secret;
	__u32 zero = 0;
	struct ack a = {};
	__u64 hash, now;
	__u16 *when;

	secret = bpf_map_lookup_elem(&secrets, &zero);
	if (!n || !g || !secret || !(g->by_parity[0].flags & GUARD_KNOWN) || !find_ack(ctx, l3, l4, &a))
		return COUNTER_SERVICE;
	hash = flow_hash(&secret->flows, &a);
	if (is_known(secret, hash))
		return COUNTER_SERVICE;
	when = proven_at(hash);
	if (!when)
		return COUNTER_SERVICE;
	now = clock(&n->clock);
	if (proves(secret, &a)) {
		*when = (__u16)(now >> PROVEN_SHIFT) ?: 1;
		return COUNTER_SERVICE;
	}
	if (is_recent(*when, now >> PROVEN_SHIFT))
		return COUNTER_SERVICE;
	if (now - n->sampled >= SAMPLE_TIME) {
		n->sampled = now;
		return COUNTER_SERVICE;
	}
	n->bad_acks++;
	return COUNTER_BAD_COOKIE;
}

#endif
