// SPDX-License-Identifier: GPL-2.0
/*
 * Many connections at once, of which every byte is checked.  talk has one to a
 * process, and no machine has memory for fifty thousand processes.
 *
 *   many listen PORT		echo whatever comes, on any number of connections
 *   many dial ADDRESS PORT	do what standard input says, a command a line:
 *
 *	open N		open N more connections
 *	exchange N	send N messages on each, await their echoes, compare
 *	close		close all
 *
 * Each command is answered by a line that repeats it, when it is done.
 */
#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* connections that have a message under way at the same time */
#define WINDOW 64

static void more_files(void)
{
	struct rlimit limit = { .rlim_cur = 1 << 17, .rlim_max = 1 << 17 };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		err(1, "more open files");
}

static void nodelay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void watch(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		err(1, "epoll_ctl");
}

static void echo(int fd)
{
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));

	/* no more than a few messages at a time: there is always room for them */
	if (n <= 0 || write(fd, buf, n) != n)
		close(fd);
}

static int listen_forever(const char *port)
{
	struct sockaddr_in6 addr = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(atoi(port)),
	};
	int listener = socket(AF_INET6, SOCK_STREAM, 0), one = 1, fd, i, n;
	struct epoll_event events[WINDOW];
	int epoll = epoll_create1(0);

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (void *)&addr, sizeof(addr)) || listen(listener, 4096))
		err(1, "listen on port %s", port);
	watch(epoll, listener);
	for (;;) {
		n = epoll_wait(epoll, events, WINDOW, -1);
		for (i = 0; i < n; i++) {
			if (events[i].data.fd != listener) {
				echo(events[i].data.fd);
				continue;
			}
			fd = accept(listener, NULL, NULL);
			if (fd < 0)
				err(1, "accept");
			nodelay(fd);
			watch(epoll, fd);
		}
	}
}

static int *fds;
static size_t count;

static void open_more(size_t more, const char *host, const char *port)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST,
	}, *ai;

	if (getaddrinfo(host, port, &hints, &ai))
		errx(1, "%s: no address", host);
	fds = realloc(fds, (count + more) * sizeof(*fds));
	if (!fds)
		err(1, "%zu connections", count + more);
	while (more--) {
		int fd = socket(ai->ai_family, SOCK_STREAM, 0);

		if (fd < 0 || connect(fd, ai->ai_addr, ai->ai_addrlen))
			err(1, "connection %zu", count);
		nodelay(fd);
		fds[count++] = fd;
	}
	freeaddrinfo(ai);
}

/* No two of them are the same. */
struct message {
	size_t connection;
	unsigned long long number;
};

static void exchange(size_t messages)
{
	static unsigned long long number;
	size_t base, end, i, n;

	for (base = 0; base < count; base = end) {
		end = base + WINDOW < count ? base + WINDOW : count;
		for (n = 0; n < messages; n++, number++) {
			for (i = base; i < end; i++) {
				struct message out = { i, number };

				if (send(fds[i], &out, sizeof(out), MSG_NOSIGNAL) !=
				    sizeof(out))
					err(1, "send on connection %zu", i);
			}
			for (i = base; i < end; i++) {
				struct message in = {};

				if (recv(fds[i], &in, sizeof(in), MSG_WAITALL) !=
				    sizeof(in))
					err(1, "receive on connection %zu", i);
				if (in.connection != i || in.number != number)
					errx(1, "connection %zu: wrong bytes", i);
			}
		}
	}
}

static int dial(void)
{
	char line[80], host[sizeof(line)], port[sizeof(line)];
	size_t n;

	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "open %zu %s %s", &n, host, port) == 3)
			open_more(n, host, port);
		else if (sscanf(line, "exchange %zu", &n) == 1)
			exchange(n);
		else if (!strcmp(line, "close\n"))
			while (count)
				close(fds[--count]);
		else
			errx(2, "no command: %s", line);
		fputs(line, stdout);
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	more_files();
	if (argc == 3 && !strcmp(argv[1], "listen"))
		return listen_forever(argv[2]);
	if (argc == 2 && !strcmp(argv[1], "dial"))
		return dial();
	errx(2, "many listen PORT | many dial");
}
