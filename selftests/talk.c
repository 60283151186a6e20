// SPDX-License-Identifier: GPL-2.0
/*
 * TCP traffic of which every byte is checked.  nginx, curl, iperf3 and netperf
 * carry data, too, but none of them can be told to bind a known port, to go on
 * until it is stopped, to compare what it gets, and to end in a chosen way.
 *
 *   talk listen PORT		echo whatever comes, on any number of connections
 *		(of which it may take a share: SO_REUSEPORT);
 *		with -x, compare it with the stream and send the same by METHOD
 *   talk send ADDRESS PORT	send a known stream, compare what comes back
 *
 * Options of send:
 *   -p PORT	local port
 *   -s BYTES	message: that many are sent, then awaited (default 1);
 *		0: send and receive at the same time, as fast as possible
 *   -n BYTES	end after that many (default: when SIGTERM comes)
 *   -i MSEC	pause between messages
 *   -w		first of all, until SIGUSR1 comes, one byte every five milliseconds:
 *		there is time to look at the connection before -s, -n and -i begin
 *   -e END	how to end: close (default), reset, relisten (also when the other
 *		end resets: make the socket a listener, echo one connection)
 *   -u MSEC	TCP_USER_TIMEOUT
 *   -m		use an IPv6 socket for an IPv4 address (v4-mapped)
 *   -x METHOD	send and receive without copying: see zerocopy.c; with -w, from
 *		SIGUSR1 on
 *   -M		use MPTCP; also an option of listen
 *   -z		stop (as by SIGSTOP) before connecting: until SIGCONT comes, the
 *		socket can be given options (sock.py)
 *
 * Prints "talk: N bytes sent and received, N segments out, N in" and exits 0 if
 * all of the bytes were right.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <err.h>

#include "zerocopy.h"

static volatile sig_atomic_t stop, ended;
static int protocol;

static void on_signal(int sig)
{
	stop = 1;
	if (sig == SIGTERM)
		ended = 1;
}

/* The stream: what is at a position depends on nothing else. */
static unsigned char stream_byte(unsigned long long pos)
{
	return (pos * 2654435761ULL) >> 13;
}

static unsigned long long sent, received;
static const struct method *method = &plain;

void stream_fill(unsigned char *buf, size_t len, unsigned long long pos)
{
	size_t i;

	for (i = 0; i < len; i++)
		buf[i] = stream_byte(pos + i);
}

void stream_check(const unsigned char *buf, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (buf[i] != stream_byte(received + i))
			errx(1, "byte %llu is wrong", received + i);
	received += len;
}

/* What is to be echoed is the stream, if talk is at the other end, too. */
static void echo_by_method(int fd)
{
	size_t len;
	ssize_t n;

	if (method->start)
		method->start(fd);
	while ((n = method->receive(fd)) > 0)
		while (sent < received) {
			len = received - sent;
			n = method->send(fd, sent, len > BUFFER ? BUFFER : len);
			if (n < 0 && errno != EAGAIN)
				_exit(1);
			sent += n > 0 ? n : 0;
		}
	_exit(n < 0);
}

static void echo(int fd)
{
	char buf[BUFFER];
	ssize_t n, done, w;

	if (method != &plain)
		echo_by_method(fd);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (done = 0; done < n; done += w) {
			w = write(fd, buf + done, n - done);
			if (w < 0)
				_exit(1);
		}
	_exit(n < 0);
}

static int listen_forever(const char *port)
{
	struct sockaddr_in6 addr = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(atoi(port)),
	};
	int fd = socket(AF_INET6, SOCK_STREAM, protocol), one = 1, conn;

	signal(SIGCHLD, SIG_IGN);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (fd < 0 || bind(fd, (void *)&addr, sizeof(addr)) || listen(fd, 1024))
		err(1, "listen on port %s", port);
	for (;;) {
		conn = accept(fd, NULL, NULL);
		if (conn < 0)
			err(1, "accept");
		if (!fork()) {
			/* its peer may have gone without a word */
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			echo(conn);
		}
		close(conn);
	}
}

static int dial(const char *host, const char *port, int lport, int mapped,
		int halt)
{
	struct addrinfo hints = {
		.ai_family = mapped ? AF_INET6 : AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST | (mapped ? AI_V4MAPPED : 0),
	}, *ai;
	struct sockaddr_in6 local = { .sin6_port = htons(lport) };
	int fd, one = 1, e;

	e = getaddrinfo(host, port, &hints, &ai);
	if (e)
		errx(1, "%s: %s", host, gai_strerror(e));
	fd = socket(ai->ai_family, SOCK_STREAM, protocol);
	if (halt)
		raise(SIGSTOP);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* sin_port and sin6_port are in the same place */
	local.sin6_family = ai->ai_family;
	if (lport && bind(fd, (void *)&local, ai->ai_addrlen))
		err(1, "bind to port %d", lport);
	if (connect(fd, ai->ai_addr, ai->ai_addrlen))
		err(1, "connect to %s port %s", host, port);
	freeaddrinfo(ai);
	return fd;
}

static const char *end = "close";

static void fail_or_relisten(const char *what)
{
	if (strcmp(end, "relisten"))
		err(1, "%s after %llu bytes", what, received);
	stop = 1;
	sent = received;
}

static void send_some(int fd, size_t max)
{
	ssize_t n = method->send(fd, sent, max > BUFFER ? BUFFER : max);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		fail_or_relisten("send");
	if (n > 0)
		sent += n;
}

static void receive_some(int fd)
{
	ssize_t n = method->receive(fd);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		fail_or_relisten("recv");
	if (!n)
		errx(1, "the other end closed after %llu bytes", received);
}

static void talk(int fd, size_t message, unsigned long long total, int pause)
{
	unsigned long long goal = sent + message;
	struct pollfd p = { .fd = fd };

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (!(stop || sent == total) || received < sent) {
		int may = !stop && sent < total && (!message || sent < goal);

		/* with messages, the next one waits for the last one's echo */
		if (message && received == goal) {
			goal += message;
			if (pause)
				poll(NULL, 0, pause);
			continue;
		}
		if (message && !may && received == sent)
			break;
		p.events = (may ? POLLOUT : 0) | POLLIN;
		if (poll(&p, 1, -1) < 0)
			continue;
		if (p.revents & (POLLIN | POLLERR | POLLHUP))
			receive_some(fd);
		if (may && p.revents & POLLOUT)
			send_some(fd, (message ? goal : total) - sent);
	}
}

/* The same socket as a listener: what it was before must not show. */
static void relisten(int fd)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	int conn;

	fcntl(fd, F_SETFL, 0);
	if (connect(fd, &none, sizeof(none)) || listen(fd, 1))
		err(1, "relisten");
	printf("talk: listening\n");
	fflush(stdout);
	conn = accept(fd, NULL, NULL);
	if (conn < 0)
		err(1, "accept");
	echo(conn);
}

int main(int argc, char **argv)
{
	struct linger linger = { .l_onoff = 1 };
	unsigned long long total = ~0ULL;
	int fd, c, lport = 0, pause = 0, mapped = 0, timeout = 0, wait = 0, halt = 0;
	const struct method *wanted = &plain;
	struct tcp_info info = {};
	socklen_t len = sizeof(info);
	size_t message = 1;

	while ((c = getopt(argc, argv, "p:s:n:i:e:u:mwx:Mz")) != -1)
		switch (c) {
		case 'p':
			lport = atoi(optarg);
			break;
		case 's':
			message = atoi(optarg);
			break;
		case 'n':
			total = strtoull(optarg, NULL, 0);
			break;
		case 'i':
			pause = atoi(optarg);
			break;
		case 'e':
			end = optarg;
			break;
		case 'u':
			timeout = atoi(optarg);
			break;
		case 'm':
			mapped = 1;
			break;
		case 'w':
			wait = 1;
			break;
		case 'x':
			wanted = method_find(optarg);
			break;
		case 'M':
			protocol = IPPROTO_MPTCP;
			break;
		case 'z':
			halt = 1;
			break;
		default:
			return 2;
		}
	argv += optind;
	argc -= optind;
	if (argc == 2 && !strcmp(argv[0], "listen")) {
		method = wanted;
		return listen_forever(argv[1]);
	}
	if (argc != 3 || strcmp(argv[0], "send"))
		errx(2, "talk [-x METHOD] listen PORT | talk [OPTIONS] send ADDRESS PORT");

	signal(SIGTERM, on_signal);
	signal(SIGUSR1, on_signal);
	fd = dial(argv[1], argv[2], lport, mapped, halt);
	if (timeout)
		setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
	if (wait) {
		talk(fd, 1, ~0ULL, 5);
		total = total == ~0ULL ? total : sent + total;
		stop = ended;
	}
	method = wanted;
	if (method->start)
		method->start(fd);
	talk(fd, message, total, pause);
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	if (method->finish)
		method->finish(fd);
	printf("talk: %llu bytes sent and received, %u segments out, %u in\n",
	       received, info.tcpi_segs_out, info.tcpi_segs_in);
	fflush(stdout);
	if (!strcmp(end, "relisten"))
		relisten(fd);
	if (!strcmp(end, "reset"))
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
	return 0;
}
