/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */

#ifndef FNATD_COUNTERS_H
#define FNATD_COUNTERS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Why a packet got its verdict; counters.go gives each its name. */
enum counter {
	COUNTER_PASSED,     /* left to the kernel */
	COUNTER_SERVICE,    /* to a service */
	COUNTER_LOCAL,      /* to a local address and one of its ports */
	COUNTER_FRAGMENT,   /* fragment to either */
	COUNTER_NOTICE,     /* reply to a UDP notice */
	COUNTER_ICMP_ERROR, /* ICMP error about what came from either */
	COUNTER_UNSERVED,   /* one of the above, dropped: no socket on its queue */
	COUNTER_ANSWERED,   /* SYN to a guarded service: answered on the spot */
	COUNTER_LIMITED,    /* ... dropped: its source sends too many */
	COUNTER_SHED,       /* ... dropped: too many wait in the ring */
	COUNTER_ORPHANED,   /* as COUNTER_UNSERVED, but left to the kernel: see orphan.h */
	COUNTER_BAD_COOKIE, /* segment to a guarded service, dropped: see known.h */
	NUM_COUNTERS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NUM_COUNTERS);
	__type(key, enum counter);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(enum counter which)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &which);

	if (n)
		*n += 1; /* one CPU's own, in softirq: nobody interrupts it */
}

#endif
