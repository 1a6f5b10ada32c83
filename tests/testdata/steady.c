/*
 * Sends datagrams at even intervals, each with the time at which it leaves:
 *
 *	steady ADDRESS PORT NANOSECONDS
 *
 * On SIGTERM it prints how many it has sent, and the largest gap between two in
 * nanoseconds. It takes a real-time priority, so that what the machine does
 * besides makes no gap.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int fail(const char *what)
{
	perror(what);
	return 1;
}

/* to returns a socket connected to an address of either version, or -1. */
static int to(const char *address, int port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr *at = (void *)&v4;
	socklen_t len = sizeof(v4);
	int fd;

	if (inet_pton(AF_INET, address, &v4.sin_addr) != 1) {
		at = (void *)&v6;
		len = sizeof(v6);
		if (inet_pton(AF_INET6, address, &v6.sin6_addr) != 1)
			return -1;
	}
	fd = socket(at->sa_family, SOCK_DGRAM, 0);
	if (fd < 0 || connect(fd, at, len))
		return -1;
	return fd;
}

int main(int argc, char **argv)
{
	struct sched_param priority = { .sched_priority = 50 };
	struct sigaction term = { .sa_handler = on_term };
	int64_t interval, next, last = 0, gap = 0;
	long sent = 0;
	int fd;

	if (argc != 4)
		return 2;
	interval = atoll(argv[3]);
	fd = to(argv[1], atoi(argv[2]));
	if (fd < 0)
		return fail(argv[1]);
	if (sigaction(SIGTERM, &term, NULL) || mlockall(MCL_CURRENT) || sched_setscheduler(0, SCHED_FIFO, &priority))
		return fail("priority");
	for (next = now(); !stop; next += interval) {
		struct timespec at;
		unsigned char data[8];
		int64_t t = now();

		if (t > next + interval) /* no bursts */
			next = t;
		at = (struct timespec){ next / 1000000000, next % 1000000000 };
		if (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &at, NULL))
			continue;
		t = now();
		for (int i = 0; i < 8; i++)
			data[i] = t >> (56 - 8 * i);
		if (send(fd, data, sizeof(data), 0) != sizeof(data))
			continue; /* nobody listens yet */
		if (sent++ && t - last > gap)
			gap = t - last;
		last = t;
	}
	printf("%ld %lld\n", sent, (long long)gap);
	return 0;
}
