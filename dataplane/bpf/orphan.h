/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

/*
 * What becomes of packets that are ours when fnatd has died and does not come
 * back. It is asked only where no socket takes a packet.
 */

#ifndef FNATD_ORPHAN_H
#define FNATD_ORPHAN_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/*
 * The one entry is the time of CLOCK_MONOTONIC, in ns, from which on packets that
 * nobody serves are left to the kernel; 0: they never are. fnatd puts it off while
 * it lives. Time and policy are one word, so that nobody sees half of a change.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} orphans SEC(".maps");

/* is_orphaned reports whether the kernel is to have what nobody serves. */
static __always_inline bool is_orphaned(void)
{
	__u32 key = 0;
	__u64 *from = bpf_map_lookup_elem(&orphans, &key);

	return from && *from && bpf_ktime_get_ns() >= *from;
}

#endif
