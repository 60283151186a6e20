/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ZEROCOPY_H
#define ZEROCOPY_H

#include <sys/types.h>

#define BUFFER 65536

/**
 * struct method - a way for talk to send and receive
 * @name: of option -x
 * @start: gets ready to use a connected socket
 * @send: sends up to @len bytes (at most BUFFER) of the stream from @pos on
 * @receive: gives stream_check() what has come
 * @finish: waits until the kernel has given all buffers back
 *
 * @send and @receive return as send() and recv() on a socket that does not
 * block do. @start and @finish may be NULL.
 */
struct method {
	const char *name;
	void (*start)(int fd);
	ssize_t (*send)(int fd, unsigned long long pos, size_t len);
	ssize_t (*receive)(int fd);
	void (*finish)(int fd);
};

extern const struct method plain;

const struct method *method_find(const char *name);

/* of talk.c: fills in a part of the stream, and ends talk if one is wrong */
void stream_fill(unsigned char *buf, size_t len, unsigned long long pos);
void stream_check(const unsigned char *buf, size_t len);

#endif /* ZEROCOPY_H */
