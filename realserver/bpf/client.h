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
	struct bpf_spin_lock lock; /* for taking it */
	__u32 zero;
	__u64 cookie; /* of the socket that it is taken by, which no other ever has; 0: of none */
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

/* Whether connections is used. */
const volatile bool by_cookie;

static __always_inline struct slot *slot_of(__u64 cookie)
{
	__u32 key = cookie % slots;

	return bpf_map_lookup_elem(&connections, &key);
}

/* know keeps a socket's client; it reports whether there was memory for that. */
static __always_inline bool know(struct bpf_sock *sk, __u64 cookie, const struct endpoint *client)
{
	struct slot *slot = by_cookie ? slot_of(cookie) : NULL;
	struct endpoint *kept;

	if (slot) {
		bool taken;

		bpf_spin_lock(&slot->lock);
		taken = slot->cookie;
		if (!taken) {
			slot->cookie = cookie;
			slot->client = *client;
		}
		bpf_spin_unlock(&slot->lock);
		if (!taken)
			return true;
	}
	kept = bpf_sk_storage_get(&clients, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (kept)
		*kept = *client;
	return kept;
}

/* client_of returns a socket's client, NULL if it is not known. */
static __always_inline struct endpoint *client_of(struct bpf_sock *sk, __u64 cookie)
{
	struct slot *slot = by_cookie && cookie ? slot_of(cookie) : NULL;

	if (slot && slot->cookie == cookie)
		return &slot->client;
	return sk ? bpf_sk_storage_get(&clients, sk, NULL, 0) : NULL;
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

/* No server has the socket any longer. One that was never accepted does not pass here: its slot stays taken. */
SEC("cgroup/sock_release")
int fnatrs_release(struct bpf_sock *sk)
{
	struct slot *slot;
	__u64 cookie;

	if (sk->protocol != IPPROTO_TCP)
		return 1;
	cookie = bpf_get_socket_cookie(sk);
	slot = slot_of(cookie);
	if (slot && slot->cookie == cookie)
		slot->cookie = 0;
	return 1;
}
