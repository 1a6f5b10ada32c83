// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

/*
 * The programs of fnatrs. They let unmodified servers see the client behind
 * the balancer:
 *
 *	fnatrs_sockops      a TCP handshake is complete: reads the client-address
 *	                    option of the segment that completed it, and keeps the
 *	                    client until the new socket is closed
 *	fnatrs_request      a SYN is answered: keeps the client of its option until then
 *	fnatrs_syn          the same where the kernel cannot have that: a packet arrives
 *	fnatrs_peer4, 6     accept, accept4, getpeername: tell the client instead
 *	                    of the LIP
 *	fnatrs_icmp,        a notice arrives: keep the client of a UDP flow
 *	fnatrs_ingress
 *	fnatrs_recv4, 6     recvfrom, recvmsg, recvmmsg: tell the client
 *	fnatrs_send4, 6     sendto, sendmsg, sendmmsg to a client: go to its LIP
 *	fnatrs_connect4, 6  connect to a client: to its LIP
 *	fnatrs_sockopt      getsockopt: answers the queries of kgwttm and of DPVS,
 *	                    also for an IPv6 client of an IPv4 socket
 *	fnatrs_mapping      getsockopt: answers DPVS's query for UDP
 *
 * No program refuses anything, and what they do not know they leave as it is.
 * User space sets the constants and fills trust; see program.go.
 */

#include "bpf/common.h"
#include "bpf/mapping.h"
#include "bpf/option.h"
#include "bpf/notice.h"
#include "bpf/udp.h"
#include "bpf/client.h"
#include "bpf/syn.h"
#include "bpf/tcp.h"
#include "bpf/peername.h"
#include "bpf/query.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
