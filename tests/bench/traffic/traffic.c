// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)

//go:build ignore

/*
 * The generator and the sinks of the benchmarks.
 *
 *	generate   makes frames, run by BPF_PROG_RUN in live-frames mode
 *	sink_tc    counts and drops what comes of them, as an sk_buff
 *	sink_xdp   the same for frames that XDP has sent, before there is one
 *	pass       lets a veth end run NAPI, which XDP frames sent to it need
 *	redirect   hands all frames to the AF_XDP socket of their queue
 *	bounce     sends SYNs back as SYN-ACKs without a thought, and drops other TCP
 *
 * The variables are set by traffic.go while generate does not run.
 */

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME_WORDS 10 /* of 8 bytes: room for the longest frame */
#define SHORTEST 60    /* an Ethernet frame without its check sequence: 7 words and 4 bytes */
#define SYN_FRAME 74   /* with the options of a Linux client: 9 words and 2 bytes */
#define TIME_SHIFT 8   /* times of the pacer are in 1/256 ns */

/* A kind of frame. The sums are those of the words that do not change. */
struct kind {
	__u64 words[FRAME_WORDS];
	__u32 ip_sum;
	__u32 l4_sum;
	__u32 numbered; /* sequence and acknowledgement numbers are random */
};

struct kind main_kind, side_kind;
__u32 side_share;   /* of 65536 frames, so many are of side_kind */
__u32 source_base;  /* lowest source address */
__u32 flows;        /* number of flows; 0: a random address and port each time */
__u32 source_mask;  /* random sources: bits of the address that vary */
__u64 interval;     /* between frames, 1/256 ns; 0: as fast as it goes */
__u64 burst;        /* how far the pacer may lag behind, 1/256 ns */
__u64 due;          /* when the next frame may go */
__u64 seed;
__u64 sent_main, sent_side;

/* The interface by which frames go: to look one up by its index costs more. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} way SEC(".maps");

static __always_inline __u64 next_random(void)
{
	__u64 x = seed; /* xorshift64: Marsaglia, 2003 */

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	seed = x;
	return x;
}

static __always_inline bool paced(void)
{
	__u64 now;

	if (!interval)
		return true;
	now = bpf_ktime_get_ns() << TIME_SHIFT;
	if (now < due)
		return false;
	if (now - due > burst)
		due = now - burst;
	due += interval;
	return true;
}

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline __u32 halves(__u32 word)
{
	return (word & 0xffff) + (word >> 16);
}

/*
 * The receiver has changed the frame, which comes back for the next round: so
 * all of it is written each time.
 */
static __always_inline int fill(struct xdp_md *ctx, const struct kind *k)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	__be16 *ports = (void *)(ip + 1);
	__u64 random = next_random(), *to = data;
	__u32 source, port, sum;

	if (data + SHORTEST > end)
		return -1;
	for (int i = 0; i < 7; i++)
		to[i] = k->words[i];
	if (data + SYN_FRAME <= end) {
		to[7] = k->words[7];
		to[8] = k->words[8];
		*(__u16 *)&to[9] = k->words[9];
	} else {
		*(__u32 *)&to[7] = k->words[7];
	}

	if (flows) {
		__u32 flow = (random & 0xffffffff) * flows >> 32;

		source = source_base + (flow >> 14);
		port = 1024 + (flow & 0x3fff);
	} else {
		source = source_base | (random & source_mask);
		port = 1024 + (random >> 49);
	}
	ip->saddr = bpf_htonl(source);
	ip->check = fold(k->ip_sum + halves(ip->saddr));
	*ports = bpf_htons(port);
	sum = k->l4_sum + halves(ip->saddr) + *ports;
	if (k->numbered) {
		struct tcphdr *tcp = (void *)ports;

		random = next_random();
		tcp->seq = random;
		sum += halves(tcp->seq);
		if (tcp->ack) {
			tcp->ack_seq = random >> 32;
			sum += halves(tcp->ack_seq);
		}
		tcp->check = fold(sum);
	} else {
		struct udphdr *udp = (void *)ports;

		udp->check = fold(sum);
	}
	return 0;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	bool side;

	if (!paced())
		return XDP_DROP;
	side = side_share && (next_random() & 0xffff) < side_share;
	if (fill(ctx, side ? &side_kind : &main_kind))
		return XDP_ABORTED;
	if (side)
		sent_side++;
	else
		sent_main++;
	return bpf_redirect_map(&way, 0, XDP_ABORTED);
}

/* What a sink has counted. */
enum counter {
	COUNTER_UDP,
	COUNTER_SYN_ACK,
	COUNTER_RST,
	COUNTER_OTHER_TCP,
	COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, enum counter);
	__type(value, __u64);
	__uint(max_entries, COUNTERS);
} counts SEC(".maps");

/* Datagrams, and segments to the sources of the flood, end here. */
static __always_inline bool sink(void *data, void *end)
{
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct tcphdr *tcp = (void *)(ip + 1);
	enum counter which = COUNTER_UDP;
	__u64 *count;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return false;
	if (ip->protocol == IPPROTO_TCP && (void *)(tcp + 1) <= end) {
		if ((bpf_ntohl(ip->daddr) & ~source_mask) != source_base)
			return false;
		if (tcp->rst)
			which = COUNTER_RST;
		else if (tcp->syn && tcp->ack)
			which = COUNTER_SYN_ACK;
		else
			which = COUNTER_OTHER_TCP;
	} else if (ip->protocol != IPPROTO_UDP) {
		return false;
	}
	count = bpf_map_lookup_elem(&counts, &which);
	if (count)
		++*count;
	return true;
}

SEC("tc")
int sink_tc(struct __sk_buff *skb)
{
	bool ours = sink((void *)(long)skb->data, (void *)(long)skb->data_end);

	return ours ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("xdp")
int sink_xdp(struct xdp_md *ctx)
{
	bool ours = sink((void *)(long)ctx->data, (void *)(long)ctx->data_end);

	return ours ? XDP_DROP : XDP_PASS;
}

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} xsks SEC(".maps");

SEC("xdp")
int redirect(struct xdp_md *ctx)
{
	return bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS);
}

/* What no answer to a SYN can do with less: see bounceSYN in reflect.go. */
SEC("xdp")
int bounce(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);
	struct tcphdr *tcp = (void *)(ip + 1);
	__u8 mac[ETH_ALEN];
	__be32 addr;
	__be16 port;

	if ((void *)(tcp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_TCP)
		return XDP_PASS;
	if (!tcp->syn)
		return XDP_DROP;
	__builtin_memcpy(mac, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, mac, ETH_ALEN);
	addr = ip->saddr;
	ip->saddr = ip->daddr;
	ip->daddr = addr;
	port = tcp->source;
	tcp->source = tcp->dest;
	tcp->dest = port;
	tcp->ack = 1;
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
