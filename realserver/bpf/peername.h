/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* accept, accept4 and getpeername tell the client of a TCP socket and of a connected UDP socket. */

#pragma once

#include "client.h"
#include "udp.h"

SEC("cgroup/getpeername4")
int fnatrs_peer4(struct bpf_sock_addr *ctx)
{
	struct endpoint e;

	if (ctx->protocol == IPPROTO_UDP) {
		e = address4(ctx);
		if (peer_of(ctx->sk, &e)) {
			tell4(ctx, &e);
			count(COUNTER_SHOWN);
		}
		return 1;
	}
	if (!client_of(ctx->sk, bpf_get_socket_cookie(ctx), &e))
		return 1;
	if (!mapped(e.addr)) {
		count(COUNTER_KEPT_LOCAL);
		return 1;
	}
	tell4(ctx, &e);
	count(COUNTER_SHOWN);
	return 1;
}

SEC("cgroup/getpeername6")
int fnatrs_peer6(struct bpf_sock_addr *ctx)
{
	struct endpoint e;

	if (ctx->protocol == IPPROTO_UDP) {
		e = address6(ctx);
		if (peer_of(ctx->sk, &e)) {
			tell6(ctx, &e);
			count(COUNTER_SHOWN);
		}
		return 1;
	}
	if (!client_of(ctx->sk, bpf_get_socket_cookie(ctx), &e))
		return 1;
	tell6(ctx, &e);
	count(COUNTER_SHOWN);
	return 1;
}
