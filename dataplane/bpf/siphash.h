/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * SipHash-1-3 (Aumasson and Bernstein) of two or five 64-bit words, as package
 * internal/siphash has it.
 */

#ifndef FNATD_SIPHASH_H
#define FNATD_SIPHASH_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct sip_key {
	__u64 k0, k1;
};

struct sip {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 rotate_left(__u64 x, int by)
{
	return x << by | x >> (64 - by);
}

static __always_inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotate_left(s->v1, 13) ^ s->v0;
	s->v3 = rotate_left(s->v3, 16) ^ s->v2;
	s->v0 = rotate_left(s->v0, 32) + s->v3;
	s->v2 += s->v1;
	s->v3 = rotate_left(s->v3, 21) ^ s->v0;
	s->v1 = rotate_left(s->v1, 17) ^ s->v2;
	s->v2 = rotate_left(s->v2, 32);
}

static __always_inline struct sip sip_begin(const struct sip_key *k)
{
	/* "somepseudorandomlygeneratedbytes" in ASCII */
	return (struct sip){
		k->k0 ^ 0x736f6d6570736575ULL, k->k1 ^ 0x646f72616e646f6dULL,
		k->k0 ^ 0x6c7967656e657261ULL, k->k1 ^ 0x7465646279746573ULL,
	};
}

static __always_inline void sip_add(struct sip *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	s->v0 ^= word;
}

/* The last block holds the message's length in bytes in its top byte. */
static __always_inline __u64 sip_end(struct sip *s, int words)
{
	sip_add(s, (__u64)words * 8 << 56);
	s->v2 ^= 0xff;
	sip_round(s);
	sip_round(s);
	sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

static __always_inline __u64 siphash2(const struct sip_key *k, __u64 a, __u64 b)
{
	struct sip s = sip_begin(k);

	sip_add(&s, a);
	sip_add(&s, b);
	return sip_end(&s, 2);
}

static __always_inline __u64 siphash5(const struct sip_key *k, __u64 a, __u64 b, __u64 c, __u64 d,
				      __u64 e)
{
	struct sip s = sip_begin(k);

	sip_add(&s, a);
	sip_add(&s, b);
	sip_add(&s, c);
	sip_add(&s, d);
	sip_add(&s, e);
	return sip_end(&s, 5);
}

#endif
