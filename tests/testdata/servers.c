/*
 * Servers as C programs write them, which tell each client the address that
 * they have of it, by the call named first:
 *
 *	servers accept|late|peer|recvfrom|recvmsg|recvmmsg|connect|lookup ADDRESS PORT
 *
 * late is an accept that waits for SIGUSR1, and then prints whom it accepts.
 *
 * connect is a UDP server that has a connected socket for each client, as DTLS
 * servers do; it tells what getpeername says. peer is a TCP server that asks
 * getsockopt for its client, as programs for kgwttm do; lookup asks for the client as
 * programs for DPVS do. The IPv6 address "::" serves IPv4 as well.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

typedef union {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
} address;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static socklen_t size(const address *a)
{
	return a->any.sa_family == AF_INET ? sizeof a->v4 : sizeof a->v6;
}

/* tell writes an address as Go does: 192.0.2.1:80 or [2001:db8::1]:80. */
static int tell(char *to, size_t room, const address *a)
{
	char text[INET6_ADDRSTRLEN];

	if (a->any.sa_family == AF_INET) {
		inet_ntop(AF_INET, &a->v4.sin_addr, text, sizeof text);
		return snprintf(to, room, "%s:%d", text, ntohs(a->v4.sin_port));
	}
	inet_ntop(AF_INET6, &a->v6.sin6_addr, text, sizeof text);
	if (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr))
		return snprintf(to, room, "%s:%d", strrchr(text, ':') + 1, ntohs(a->v6.sin6_port));
	return snprintf(to, room, "[%s]:%d", text, ntohs(a->v6.sin6_port));
}

static int serve_at(const address *at, int type)
{
	int on = 1, s = socket(at->any.sa_family, type, 0);

	if (s < 0 || setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) || bind(s, &at->any, size(at)))
		die("bind");
	return s;
}

/* As sshd: a process for each connection, which asks for its peer itself. */
static void by_accept(int s)
{
	signal(SIGCHLD, SIG_IGN);
	if (listen(s, 128))
		die("listen");
	for (;;) {
		address peer;
		socklen_t length = sizeof peer;
		char text[128];
		int c = accept(s, &peer.any, &length);

		if (c < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (c < 0)
			die("accept");
		if (fork() == 0) {
			address again;

			close(s);
			length = sizeof again;
			if (getpeername(c, &again.any, &length) == 0 && memcmp(&peer, &again, length) == 0)
				write(c, text, tell(text, sizeof text, &peer));
			_exit(0);
		}
		close(c);
	}
}

static void by_late(int s)
{
	sigset_t go;
	int got;

	sigemptyset(&go);
	sigaddset(&go, SIGUSR1);
	sigprocmask(SIG_BLOCK, &go, NULL);
	if (listen(s, 4096))
		die("listen");
	sigwait(&go, &got);
	for (;;) {
		address peer;
		socklen_t length = sizeof peer;
		char text[128];
		int c = accept(s, &peer.any, &length);

		if (c < 0)
			die("accept");
		tell(text, sizeof text, &peer);
		puts(text);
		fflush(stdout);
		close(c);
	}
}

/* struct ttm_peer of kgwttm, and the option by which it is asked for. */
enum { TTM_PEER = 1345 };

struct ttm_peer {
	unsigned short family, port;
	unsigned char address[16];
};

static void by_peer(int s)
{
	if (listen(s, 128))
		die("listen");
	for (;;) {
		struct ttm_peer p;
		socklen_t length = sizeof p;
		address client = { 0 };
		char text[128];
		int c = accept(s, NULL, NULL), n;

		if (c < 0 && errno == ECONNABORTED)
			continue;
		if (c < 0)
			die("accept");
		if (getsockopt(c, SOL_IP, TTM_PEER, &p, &length) || length != sizeof p) {
			n = snprintf(text, sizeof text, "%s", strerror(errno));
		} else {
			client.any.sa_family = p.family;
			if (p.family == AF_INET) {
				memcpy(&client.v4.sin_addr, p.address, 4);
				client.v4.sin_port = p.port;
			} else {
				memcpy(&client.v6.sin6_addr, p.address, 16);
				client.v6.sin6_port = p.port;
			}
			n = tell(text, sizeof text, &client);
		}
		write(c, text, n);
		close(c);
	}
}

static void by_recvfrom(int s)
{
	for (;;) {
		address peer;
		socklen_t length = sizeof peer;
		char text[2048];

		if (recvfrom(s, text, sizeof text, 0, &peer.any, &length) < 0)
			die("recvfrom");
		if (sendto(s, text, tell(text, sizeof text, &peer), 0, &peer.any, length) < 0)
			perror("sendto");
	}
}

static void by_recvmsg(int s)
{
	for (;;) {
		address peer;
		char text[2048];
		struct iovec data = { text, sizeof text };
		struct msghdr m = { .msg_name = &peer, .msg_namelen = sizeof peer, .msg_iov = &data, .msg_iovlen = 1 };

		if (recvmsg(s, &m, 0) < 0)
			die("recvmsg");
		data.iov_len = tell(text, sizeof text, &peer);
		if (sendmsg(s, &m, 0) < 0)
			perror("sendmsg");
	}
}

static void by_recvmmsg(int s)
{
	enum { BATCH = 16 };
	static address peers[BATCH];
	static char texts[BATCH][2048];
	static struct iovec data[BATCH];
	static struct mmsghdr m[BATCH];

	for (;;) {
		int n;

		for (int i = 0; i < BATCH; i++) {
			data[i] = (struct iovec){ texts[i], sizeof texts[i] };
			m[i].msg_hdr = (struct msghdr){ .msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &data[i], .msg_iovlen = 1 };
		}
		n = recvmmsg(s, m, BATCH, MSG_WAITFORONE, NULL);
		if (n < 0)
			die("recvmmsg");
		for (int i = 0; i < n; i++)
			data[i].iov_len = tell(texts[i], sizeof texts[i], &peers[i]);
		if (sendmmsg(s, m, n, 0) != n)
			perror("sendmmsg");
	}
}

/* One socket for each client, which the kernel gives all that comes after the first datagram. */
static void by_connect(int s, const address *at)
{
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		address peer;
		socklen_t length = sizeof peer;
		char text[2048];
		int c;

		if (recvfrom(s, text, sizeof text, 0, &peer.any, &length) < 0)
			die("recvfrom");
		c = serve_at(at, SOCK_DGRAM);
		if (connect(c, &peer.any, length))
			die("connect");
		if (fork() == 0) {
			close(s);
			do {
				address again;

				length = sizeof again;
				if (getpeername(c, &again.any, &length))
					die("getpeername");
				if (memcmp(&peer, &again, length))
					_exit(1);
				send(c, text, tell(text, sizeof text, &again), 0);
				length = sizeof again;
				if (recvfrom(c, text, sizeof text, 0, &again.any, &length) < 0 || memcmp(&peer, &again, length))
					_exit(1);
			} while (1);
		}
		close(c);
	}
}

/* struct uoa_param_map of DPVS, and the option by which it is asked for. */
enum { UOA_LOOKUP = 2048 };

struct uoa {
	unsigned short family;
	unsigned char from[16], to[16];
	unsigned short from_port, to_port, client_family;
	unsigned char client[16];
	unsigned short client_port;
} __attribute__((packed));

static void by_lookup(int s, const address *at)
{
	for (;;) {
		address peer, client = { 0 };
		socklen_t length = sizeof peer, room = sizeof(struct uoa);
		struct uoa q = { 0 };
		char text[2048];

		if (recvfrom(s, text, sizeof text, 0, &peer.any, &length) < 0)
			die("recvfrom");
		q.family = peer.any.sa_family;
		if (q.family == AF_INET) {
			memcpy(q.from, &peer.v4.sin_addr, 4);
			memcpy(q.to, &at->v4.sin_addr, 4);
			q.from_port = peer.v4.sin_port;
			q.to_port = at->v4.sin_port;
		} else {
			memcpy(q.from, &peer.v6.sin6_addr, 16);
			memcpy(q.to, &at->v6.sin6_addr, 16);
			q.from_port = peer.v6.sin6_port;
			q.to_port = at->v6.sin6_port;
		}
		if (getsockopt(s, IPPROTO_IP, UOA_LOOKUP, &q, &room) || room != sizeof q) {
			room = snprintf(text, sizeof text, "%s", strerror(errno));
		} else {
			client.any.sa_family = q.client_family;
			if (q.client_family == AF_INET) {
				memcpy(&client.v4.sin_addr, q.client, 4);
				client.v4.sin_port = q.client_port;
			} else {
				memcpy(&client.v6.sin6_addr, q.client, 16);
				client.v6.sin6_port = q.client_port;
			}
			room = tell(text, sizeof text, &client);
		}
		if (sendto(s, text, room, 0, &peer.any, length) < 0)
			perror("sendto");
	}
}

int main(int argc, char **argv)
{
	address at = { 0 };

	if (argc != 4)
		return 2;
	if (inet_pton(AF_INET, argv[2], &at.v4.sin_addr) == 1) {
		at.v4.sin_family = AF_INET;
		at.v4.sin_port = htons(atoi(argv[3]));
	} else if (inet_pton(AF_INET6, argv[2], &at.v6.sin6_addr) == 1) {
		at.v6.sin6_family = AF_INET6;
		at.v6.sin6_port = htons(atoi(argv[3]));
	} else {
		return 2;
	}
	if (strcmp(argv[1], "accept") == 0)
		by_accept(serve_at(&at, SOCK_STREAM));
	if (strcmp(argv[1], "late") == 0)
		by_late(serve_at(&at, SOCK_STREAM));
	if (strcmp(argv[1], "peer") == 0)
		by_peer(serve_at(&at, SOCK_STREAM));
	int s = serve_at(&at, SOCK_DGRAM);
	if (strcmp(argv[1], "recvfrom") == 0)
		by_recvfrom(s);
	if (strcmp(argv[1], "recvmsg") == 0)
		by_recvmsg(s);
	if (strcmp(argv[1], "recvmmsg") == 0)
		by_recvmmsg(s);
	if (strcmp(argv[1], "connect") == 0)
		by_connect(s, &at);
	if (strcmp(argv[1], "lookup") == 0)
		by_lookup(s, &at);
	return 2;
}
