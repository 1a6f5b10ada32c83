/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whose connection a TCP socket is: known as long as the socket is.
 *
 * The socket's own storage is two allocations, which are more than all else that a
 * connection costs. So it is for connections whose slot is taken, and for kernels
 * where not every hook can learn a socket's cookie.
 */

#pragma once

#include "kernel.h"

struct slot {
	struct bpf_spin_lock lock;
	__u32 closed; /* may be taken by another: until then it still tells */
	__u64 cookie; /* of the socket that it was taken by, which no other ever has; 0: of none */
	struct endpoint client;
};

/* By the socket's cookie: they count up. User space sets max_entries, and slots to that. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slot);
} connections SEC(".maps");

const volatile __u32 slots;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct endpoint);
} clients SEC(".maps");

/* Whether connections is used: not in the dearer way of the feature tcp. */
const volatile bool by_cookie;

static __always_inline struct slot *slot_of(__u64 cookie)
{
	__u32 key = cookie % slots;

	return by_cookie && cookie ? bpf_map_lookup_elem(&connections, &key) : NULL;
}

/* take keeps a socket's client in its slot; it reports whether that could be had. */
static __always_inline bool take(__u64 cookie, const struct endpoint *client)
{
	struct slot *slot = slot_of(cookie);
	bool had;

	if (!slot)
		return false;
	bpf_spin_lock(&slot->lock);
	had = !slot->cookie || slot->closed;
	if (had) {
		slot->closed = 0;
		slot->cookie = cookie;
		slot->client = *client;
	}
	bpf_spin_unlock(&slot->lock);
	return had;
}

/*
 * give_up lets another socket have a slot. The one that had it may have been reset
 * while it waited for accept, which then is still to be told its client.
 */
static __always_inline void give_up(__u64 cookie)
{
	struct slot *slot = slot_of(cookie);

	if (!slot)
		return;
	bpf_spin_lock(&slot->lock);
	if (slot->cookie == cookie)
		slot->closed = 1;
	bpf_spin_unlock(&slot->lock);
}

/* store keeps a socket's client in its storage; it reports whether there was memory for that. */
static __always_inline bool store(struct bpf_sock *sk, const struct endpoint *client)
{
	struct endpoint *kept = bpf_sk_storage_get(&clients, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);

	if (kept)
		*kept = *client;
	return kept;
}

/* client_of reads a socket's client, and reports whether it is known. */
static __always_inline bool client_of(struct bpf_sock *sk, __u64 cookie, struct endpoint *client)
{
	struct slot *slot = slot_of(cookie);
	struct endpoint *kept;

	if (slot) {
		bool ours;

		bpf_spin_lock(&slot->lock); /* a closed one may be taken meanwhile */
		ours = slot->cookie == cookie;
		*client = slot->client;
		bpf_spin_unlock(&slot->lock);
		if (ours)
			return true;
	}
	kept = sk ? bpf_sk_storage_get(&clients, sk, NULL, 0) : NULL;
	if (kept)
		*client = *kept;
	return kept;
}

/* cookie_in reads the cookie of a socket whose program has no helper for that: 0 if it has none. */
static __always_inline __u64 cookie_in(struct bpf_sock *sk)
{
	struct sock *inside;

	if (!by_cookie || !sk)
		return 0;
	inside = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct sock));
	return inside->__sk_common.skc_cookie.counter;
}
