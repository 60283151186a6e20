// SPDX-License-Identifier: GPL-2.0
/*
 * A terminal that is drawn on (top), and given back as it was on every way out:
 * when the user quits, when a signal ends or stops the process, on a fault.
 * ECMA-48 and xterm's second screen, which every terminal of today understands.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "chimneyctl.h"

#define SCREEN_OURS "\033[?1049h\033[?25l"
#define SCREEN_BACK "\033[0m\033[?25h\033[?1049l"

static const int fatal[] = {
	SIGHUP,	 SIGINT,  SIGQUIT, SIGTERM, SIGPIPE,
	SIGABRT, SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,
};

static struct termios before;
static volatile sig_atomic_t ours;
static sigset_t waiting; /* the mask while we wait: nothing is blocked */

/* From here to on_winch() all is safe in a signal handler. */
static void put(const char *text, size_t len)
{
	ssize_t n;

	while (len) {
		n = write(STDOUT_FILENO, text, len);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return;
		if (n > 0) {
			text += n;
			len -= n;
		}
	}
}

static void give_back(void)
{
	if (!ours)
		return;
	ours = 0;
	put(SCREEN_BACK, strlen(SCREEN_BACK));
	tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

static void take(void)
{
	struct termios now = before;

	now.c_lflag &= ~(ICANON | ECHO);
	now.c_cc[VMIN] = 1;
	now.c_cc[VTIME] = 0;
	/* in the background this stops us until we are in the foreground */
	tcsetattr(STDIN_FILENO, TCSANOW, &now);
	put(SCREEN_OURS, strlen(SCREEN_OURS));
	ours = 1;
}

static void on_signal(int sig, void (*handler)(int), int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };

	sigaction(sig, &action, NULL);
}

/* The default action takes effect once the handler has returned. */
static void on_fatal(int sig)
{
	give_back();
	raise(sig);
}

/* It stops in here; or goes on at once, where no shell could continue it. */
static void on_stop(int sig)
{
	int err = errno;

	give_back();
	raise(sig);
	on_signal(SIGTSTP, on_stop, SA_RESETHAND | SA_NODEFER);
	take();
	errno = err;
}

/* After SIGSTOP, of which nobody is told, the shell has had the terminal. */
static void on_continue(int sig)
{
	int err = errno;

	(void)sig;
	take();
	errno = err;
}

/* That ppoll() was interrupted is enough. */
static void on_winch(int sig)
{
	(void)sig;
}

/**
 * terminal_open() - begin to draw on the terminal
 *
 * What is complained of meanwhile is seen after terminal_close().
 *
 * Return: exit code, after a complaint.
 */
int terminal_open(void)
{
	static char said[BUFSIZ];
	sigset_t blocked;
	size_t i;

	if (!isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before))
		return complain(FAILED,
				"input and output are no terminal: top -b does without");
	setvbuf(stderr, said, _IOFBF, sizeof(said));
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGWINCH);
	sigaddset(&blocked, SIGCONT);
	sigprocmask(SIG_BLOCK, &blocked, &waiting);
	sigdelset(&waiting, SIGWINCH);
	sigdelset(&waiting, SIGCONT);
	for (i = 0; i < ARRAY_SIZE(fatal); i++)
		on_signal(fatal[i], on_fatal, SA_RESETHAND);
	on_signal(SIGTSTP, on_stop, SA_RESETHAND | SA_NODEFER);
	on_signal(SIGCONT, on_continue, 0);
	on_signal(SIGWINCH, on_winch, 0);
	take();
	return DONE;
}

/**
 * terminal_close() - give it back
 */
void terminal_close(void)
{
	give_back();
	fflush(stderr);
}

/**
 * terminal_key() - wait for a key
 * @wait: for how long at most
 *
 * Return: the key, 0 if there was none in time, -1 if it has to be drawn anew
 * (another size, or continued after a stop), 'q' when the terminal is gone.
 */
int terminal_key(const struct timespec *wait)
{
	struct pollfd fd = { .fd = STDIN_FILENO, .events = POLLIN };
	char key;
	int n;

	n = ppoll(&fd, 1, wait, &waiting);
	if (n <= 0)
		return n ? -1 : 0;
	return read(STDIN_FILENO, &key, 1) == 1 ? key : 'q';
}

/**
 * terminal_draw() - show a text, cut to the size that the terminal has now
 * @text: lines of ASCII; one that follows an empty line is a heading
 */
void terminal_draw(const char *text)
{
	struct winsize size = {};
	bool heading = false;
	char *drawn = NULL;
	size_t len, row;
	FILE *out;

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	if (!size.ws_row || !size.ws_col) {
		size.ws_row = 24;
		size.ws_col = 80;
	}
	out = open_memstream(&drawn, &len);
	if (!out)
		return;
	fputs("\033[H", out);
	for (row = 0; *text && row < size.ws_row; row++) {
		len = strcspn(text, "\n");
		/* erased before: after its last column it would lose that */
		fprintf(out, "%s\033[K%s%.*s%s", row ? "\n" : "",
			heading ? "\033[7m" : "",
			(int)(len < size.ws_col ? len : size.ws_col), text,
			heading ? "\033[0m" : "");
		heading = !len;
		text += len + (text[len] == '\n');
	}
	if (row < size.ws_row)
		fputs("\n\033[J", out);
	if (!fclose(out))
		put(drawn, len);
	free(drawn);
}
