/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * Tells a SYN that comes again from one that comes for the first time, when there are
 * more than there is room for: a client repeats a SYN that was shed, after a second, and
 * the sources that a flood makes up do not. So whoever is there gets in at the second
 * try, whatever share of the SYNs has to be shed.
 */

#ifndef FNATD_AGAIN_H
#define FNATD_AGAIN_H

#include "synack.h"

/* Our choices. */
#define AGAIN_SHIFT 29    /* from ns to generations: the second (RFC 6298, 2.1) and a little are two */
#define AGAIN_LINES 32768 /* of a generation: at a million SYNs shed a second, one bit in 32 is set */
#define AGAIN_GENERATIONS 4

struct again_line {
	__u64 bits[8];
};

struct again_lines {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, AGAIN_GENERATIONS * AGAIN_LINES);
	__uint(key_size, sizeof(__u32)); /* types that only an inner map names are not in its BTF */
	__uint(value_size, sizeof(struct again_line));
};

/*
 * A bit for each SYN that was shed, by its hash: generation after generation, the one in
 * which they are noted, the two before, and the next, which is being cleared. The entry
 * is empty while no service is guarded.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct again_lines);
} again SEC(".maps");

static __always_inline struct again_line *again_line(void *lines, __u32 generation, __u32 line)
{
	__u32 at = generation % AGAIN_GENERATIONS * AGAIN_LINES + (line & (AGAIN_LINES - 1));

	return bpf_map_lookup_elem(lines, &at);
}

/* clear_line clears one line, the next each time, of the generation to come. */
static __always_inline void clear_line(void *lines, __u32 generation, __u32 turn)
{
	struct again_line *l = again_line(lines, generation + 1, turn);

	if (l)
		__builtin_memset(l, 0, sizeof(*l));
}

/*
 * comes_again reports whether the SYN with this hash was shed in one of the last two
 * generations, and notes that it may be now. What comes after 1 to 1.07 s was, whenever
 * in its generation that happened: of one generation of more than a second, what is shed
 * in the first few per cent would come again in the same. turn goes up by one with each
 * call, time is ns of clock. CPUs that race for a word may forget a SYN.
 */
static __always_inline bool comes_again(__u64 hash, __u32 turn, __u64 time)
{
	__u32 zero = 0, generation = time >> AGAIN_SHIFT, word = hash >> 6 & 7;
	void *lines = bpf_map_lookup_elem(&again, &zero);
	__u64 bit = 1ULL << (hash & 63);
	struct again_line *now, *before, *first;

	if (!lines)
		return false;
	clear_line(lines, generation, turn);
	now = again_line(lines, generation, hash >> 9);
	before = again_line(lines, generation - 1, hash >> 9);
	first = again_line(lines, generation - 2, hash >> 9);
	if (!now || !before || !first)
		return false;
	now->bits[word] |= bit;
	return (before->bits[word] | first->bits[word]) & bit;
}

#endif
