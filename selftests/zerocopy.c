// SPDX-License-Identifier: GPL-2.0
/*
 * The ways in which Linux lets an application send and receive without copying
 * data, for talk:
 *
 *   zerocopy	MSG_ZEROCOPY
 *   sendfile	sendfile() of a file
 *   splice	splice() from a file through a pipe, and to a pipe
 *   mmap	TCP_ZEROCOPY_RECEIVE; pages that cannot be mapped are copied
 *   uring	io_uring's send and recv
 *   uring-zc	the same with SEND_ZC
 *
 * What one of them lacks is done in the plain way. A buffer that is sent
 * without a copy is the kernel's until it says otherwise, and is overwritten
 * the moment it does: should it say so too early, a byte is wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/errqueue.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <err.h>

#include "zerocopy.h"

#define PAGE 4096
#define SLOTS 16
#define PATIENCE 60000	/* milliseconds that a buffer may take to come back */

static alignas(PAGE) unsigned char buf[BUFFER];

/* plain */

static ssize_t plain_send(int fd, unsigned long long pos, size_t len)
{
	stream_fill(buf, len, pos);
	return send(fd, buf, len, MSG_NOSIGNAL);
}

static ssize_t receive_up_to(int fd, size_t len)
{
	ssize_t n = recv(fd, buf, len, 0);

	if (n > 0)
		stream_check(buf, n);
	return n;
}

static ssize_t plain_receive(int fd)
{
	return receive_up_to(fd, BUFFER);
}

/* Buffers that are the kernel's for a while, used in turn. */

static alignas(PAGE) unsigned char slots[SLOTS][BUFFER];
static bool busy[SLOTS];
static unsigned int lent, returned, copied;

static void slot_returned(unsigned int id, bool was_copied)
{
	if (!busy[id % SLOTS])
		errx(1, "buffer %u was not lent", id);
	busy[id % SLOTS] = false;
	memset(slots[id % SLOTS], 0xff, BUFFER);
	returned++;
	copied += was_copied;
}

static void slots_finish(int fd, void (*collect)(int fd))
{
	struct pollfd p = { .fd = fd };

	while (returned < lent) {
		if (!poll(&p, 1, PATIENCE))
			errx(1, "%u buffers lent, %u returned", lent, returned);
		collect(fd);
	}
	printf("zerocopy: %u buffers lent and returned, %u copied\n", lent, copied);
}

/* MSG_ZEROCOPY */

static void zerocopy_start(int fd)
{
	int one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)))
		err(1, "SO_ZEROCOPY");
}

static void zerocopy_collect(int fd)
{
	const struct sock_extended_err *e;
	char control[256];
	unsigned int id;

	for (;;) {
		struct msghdr msg = {
			.msg_control = control,
			.msg_controllen = sizeof(control),
		};

		if (recvmsg(fd, &msg, MSG_ERRQUEUE) < 0)
			return;
		e = (const void *)CMSG_DATA(CMSG_FIRSTHDR(&msg));
		if (e->ee_origin != SO_EE_ORIGIN_ZEROCOPY || e->ee_errno)
			errx(1, "error queue: origin %u, %s", e->ee_origin, strerror(e->ee_errno));
		for (id = e->ee_info; id <= e->ee_data; id++)
			slot_returned(id, e->ee_code & SO_EE_CODE_ZEROCOPY_COPIED);
	}
}

static ssize_t zerocopy_send(int fd, unsigned long long pos, size_t len)
{
	struct pollfd p = { .fd = fd };
	ssize_t n;

	zerocopy_collect(fd);
	if (busy[lent % SLOTS]) {
		poll(&p, 1, 1);
		errno = EAGAIN;
		return -1;
	}
	stream_fill(slots[lent % SLOTS], len, pos);
	n = send(fd, slots[lent % SLOTS], len, MSG_NOSIGNAL | MSG_ZEROCOPY);
	if (n > 0)
		busy[lent++ % SLOTS] = true;
	else if (errno == ENOBUFS)
		errno = EAGAIN;
	return n;
}

static ssize_t zerocopy_receive(int fd)
{
	zerocopy_collect(fd);
	return plain_receive(fd);
}

static void zerocopy_finish(int fd)
{
	slots_finish(fd, zerocopy_collect);
}

/* sendfile() and splice(): the stream repeats itself after as much as the file has. */

#define FILE_SIZE (2 * 1024 * 1024)

static int file, out_pipe[2], in_pipe[2];
static size_t out_pending;

static void file_start(int fd)
{
	unsigned long long pos;

	signal(SIGPIPE, SIG_IGN);
	file = memfd_create("stream", 0);
	if (file < 0 || pipe(out_pipe) || pipe(in_pipe))
		err(1, "file and pipes");
	for (pos = 0; pos < FILE_SIZE; pos += BUFFER) {
		stream_fill(buf, BUFFER, pos);
		if (write(file, buf, BUFFER) != BUFFER)
			err(1, "file");
	}
}

static ssize_t sendfile_send(int fd, unsigned long long pos, size_t len)
{
	off_t off = pos % FILE_SIZE;
	size_t left = FILE_SIZE - off;

	return sendfile(fd, file, &off, len < left ? len : left);
}

/* The pipe keeps what the socket has not taken, for the next time. */
static ssize_t splice_send(int fd, unsigned long long pos, size_t len)
{
	loff_t off = pos % FILE_SIZE;
	ssize_t n;

	if (!out_pending) {
		n = splice(file, &off, out_pipe[1], NULL, len, 0);
		if (n <= 0)
			err(1, "splice from the file");
		out_pending = n;
	}
	n = splice(out_pipe[0], NULL, fd, NULL, out_pending, SPLICE_F_NONBLOCK);
	if (n > 0)
		out_pending -= n;
	return n;
}

static ssize_t splice_receive(int fd)
{
	ssize_t n = splice(fd, NULL, in_pipe[1], NULL, BUFFER, SPLICE_F_NONBLOCK);

	if (n > 0) {
		if (read(in_pipe[0], buf, n) != n)
			err(1, "read from the pipe");
		stream_check(buf, n);
	}
	return n;
}

/* TCP_ZEROCOPY_RECEIVE */

static const unsigned char *window;
static unsigned long long mapped;

static void mmap_start(int fd)
{
	window = mmap(NULL, BUFFER, PROT_READ, MAP_SHARED, fd, 0);
	if (window == MAP_FAILED)
		err(1, "mmap of the socket");
}

static ssize_t mmap_receive(int fd)
{
	struct tcp_zerocopy_receive zc = {
		.address = (unsigned long)window,
		.length = BUFFER,
		.copybuf_address = (unsigned long)buf,
		.copybuf_len = PAGE,	/* if all fits into it, nothing is mapped */
	};
	socklen_t len = sizeof(zc);

	if (getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &zc, &len))
		return -1;
	stream_check(window, zc.length);
	if (zc.copybuf_len > 0)
		stream_check(buf, zc.copybuf_len);
	else
		zc.copybuf_len = 0;
	mapped += zc.length;
	if (zc.length || zc.copybuf_len)
		return zc.length + zc.copybuf_len;
	/* no further than to what can be mapped, or, with nothing there, to learn why */
	if (zc.recv_skip_hint && zc.recv_skip_hint < BUFFER)
		return receive_up_to(fd, zc.recv_skip_hint);
	return plain_receive(fd);
}

static void mmap_finish(int fd)
{
	printf("zerocopy: %llu bytes mapped\n", mapped);
}

/* io_uring */

static struct io_uring ring;

static void uring_start(int fd)
{
	int e = io_uring_queue_init(4 * SLOTS, &ring, 0);

	if (e)
		errx(1, "io_uring: %s", strerror(-e));
}

/*
 * Waits for a completion, at most a millisecond for that of a buffer: those come
 * with the other end's acknowledgments. True if it is an operation's.
 */
static bool uring_complete(struct io_uring_cqe *done, bool operation)
{
	struct __kernel_timespec ms = { .tv_nsec = 1000000 };
	struct io_uring_cqe *cqe;
	int e = io_uring_wait_cqe_timeout(&ring, &cqe, operation ? NULL : &ms);

	if (e == -EINTR || e == -ETIME)
		return false;
	if (e)
		errx(1, "io_uring: %s", strerror(-e));
	*done = *cqe;
	io_uring_cqe_seen(&ring, cqe);
	if (!(done->flags & IORING_CQE_F_NOTIF))
		return true;
	slot_returned(done->user_data, done->res & IORING_NOTIF_USAGE_ZC_COPIED);
	return false;
}

static ssize_t uring_do(void)
{
	struct io_uring_cqe done;

	io_uring_submit(&ring);
	while (!uring_complete(&done, true))
		;
	/* even what has failed may keep the buffer for a while */
	if (done.flags & IORING_CQE_F_MORE)
		busy[lent++ % SLOTS] = true;
	if (done.res >= 0)
		return done.res;
	errno = -done.res;
	return -1;
}

static ssize_t uring_send(int fd, unsigned long long pos, size_t len)
{
	stream_fill(buf, len, pos);
	io_uring_prep_send(io_uring_get_sqe(&ring), fd, buf, len, MSG_NOSIGNAL);
	return uring_do();
}

static ssize_t uring_zc_send(int fd, unsigned long long pos, size_t len)
{
	struct io_uring_cqe done;
	struct io_uring_sqe *sqe;

	if (busy[lent % SLOTS]) {
		uring_complete(&done, false);
		errno = EAGAIN;
		return -1;
	}
	stream_fill(slots[lent % SLOTS], len, pos);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_send_zc(sqe, fd, slots[lent % SLOTS], len, MSG_NOSIGNAL,
			      IORING_SEND_ZC_REPORT_USAGE);
	sqe->user_data = lent;
	return uring_do();
}

static ssize_t uring_receive(int fd)
{
	ssize_t n;

	io_uring_prep_recv(io_uring_get_sqe(&ring), fd, buf, sizeof(buf), 0);
	n = uring_do();
	if (n > 0)
		stream_check(buf, n);
	return n;
}

static void uring_collect(int fd)
{
	struct io_uring_cqe done;

	uring_complete(&done, false);
}

static void uring_zc_finish(int fd)
{
	slots_finish(ring.ring_fd, uring_collect);
}

const struct method plain = { "plain", NULL, plain_send, plain_receive, NULL };

const struct method *method_find(const char *name)
{
	static const struct method methods[] = {
		{ "zerocopy", zerocopy_start, zerocopy_send, zerocopy_receive, zerocopy_finish },
		{ "sendfile", file_start, sendfile_send, plain_receive, NULL },
		{ "splice", file_start, splice_send, splice_receive, NULL },
		{ "mmap", mmap_start, plain_send, mmap_receive, mmap_finish },
		{ "uring", uring_start, uring_send, uring_receive, NULL },
		{ "uring-zc", uring_start, uring_zc_send, uring_receive, uring_zc_finish },
	};
	unsigned int i;

	for (i = 0; i < sizeof(methods) / sizeof(*methods); i++)
		if (!strcmp(methods[i].name, name))
			return &methods[i];
	errx(2, "no method %s", name);
}
