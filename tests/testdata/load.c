/*
 * A load for a server, as cheap for the client as can be:
 *
 *	load keepalive|connect|udp|dns ADDRESS PORT CLIENTS SECONDS
 *
 * CLIENTS ask at the same time, each again when it has its answer: GET / on one
 * connection, or on a new one each time, or a datagram, which may be a DNS query.
 * It prints how many answers came, and how many of them within SECONDS, after a
 * tenth of one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The A record of www.test (RFC 1035, section 4). */
static const char query[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x04test\x00\x00\x01\x00\x01";

static const double warm = 0.1; /* seconds */

static const char *mode;
static struct sockaddr_in at = { .sin_family = AF_INET };
static char question[256];
static size_t length;
static int epoll;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void ask(int s)
{
	if (send(s, question, length, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
		die("send");
}

/* open_client starts a client; its first question goes out when the socket is writable. */
static void open_client(void)
{
	int type = strcmp(mode, "udp") && strcmp(mode, "dns") ? SOCK_STREAM : SOCK_DGRAM;
	int s = socket(AF_INET, type | SOCK_NONBLOCK, 0);
	struct epoll_event e = { .events = EPOLLOUT, .data.fd = s };

	if (s < 0 || (connect(s, (struct sockaddr *)&at, sizeof at) && errno != EINPROGRESS))
		die("connect");
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, s, &e))
		die("epoll");
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	long answers = 0, before = 0;
	double begin, end;

	if (argc != 6)
		return 2;
	mode = argv[1];
	if (inet_pton(AF_INET, argv[2], &at.sin_addr) != 1)
		return 2;
	at.sin_port = htons(atoi(argv[3]));
	length = snprintf(question, sizeof question, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", strcmp(mode, "connect") ? "" : "Connection: close\r\n");
	if (strcmp(mode, "dns") == 0)
		memcpy(question, query, length = sizeof query - 1);
	epoll = epoll_create1(0);
	for (int i = atoi(argv[4]); i > 0; i--)
		open_client();
	begin = now() + warm;
	for (end = begin + atof(argv[5]); now() < end;) {
		struct epoll_event all[64];
		int n = epoll_wait(epoll, all, 64, 100);

		if (begin && now() >= begin)
			before = answers, begin = 0;
		for (int i = 0; i < n; i++) {
			int s = all[i].data.fd;
			char text[4096];
			ssize_t got;

			if (all[i].events & EPOLLOUT) {
				struct epoll_event e = { .events = EPOLLIN, .data.fd = s };

				epoll_ctl(epoll, EPOLL_CTL_MOD, s, &e);
				ask(s);
				continue;
			}
			got = recv(s, text, sizeof text, 0);
			if (got < 0 && errno != EAGAIN)
				die("recv");
			if (strcmp(mode, "connect") && got > 0) {
				answers++;
				ask(s);
			} else if (got == 0) { /* the server has closed: it has said all */
				answers++;
				close(s);
				open_client();
			}
		}
	}
	printf("%ld %ld\n", answers, answers - before);
	return 0;
}
