/* What a command has left. Only the runner reaps its children, and never between listing and signalling them, so that a
 * pid in the list cannot be another process's. */
#define _GNU_SOURCE
#include "children.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "kernel_file.h"

enum { MOST = 512, TEXT = 4096, LONGEST_PAUSE = 32 /* milliseconds */ };

static struct {
    pid_t pids[MOST];
    int count;
} got_term; /* children that have got TERM */

/* Returns how many of the children are in `pids`: there may be more. */
static int list_children(pid_t pids[MOST]) {
    char path[64], text[TEXT];
    int count = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    read_kernel_file(AT_FDCWD, path, text, sizeof text);
    char *rest = text;
    for (long pid; count < MOST && (pid = strtol(rest, &rest, 10)) > 0;)
        if (*rest == ' ') pids[count++] = (pid_t)pid; /* else it is cut by the end of the buffer */
    return count;
}

static void forget(pid_t pid) {
    for (int index = 0; index < got_term.count; index++)
        if (got_term.pids[index] == pid) {
            got_term.pids[index] = got_term.pids[--got_term.count];
            return;
        }
}

/* Notes that a child gets TERM. Returns false if it has had one. */
static bool note_term(pid_t pid) {
    for (int index = 0; index < got_term.count; index++)
        if (got_term.pids[index] == pid) return false;
    if (got_term.count < MOST) got_term.pids[got_term.count++] = pid;
    return true;
}

bool has_children(void) {
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) forget(pid);
    return pid == 0 || errno != ECHILD;
}

bool end_children(int signal, pid_t signaled_group, int64_t deadline) {
    int longest = signal == SIGKILL ? 1 : LONGEST_PAUSE;
    /* Not by SIGCHLD: an orphan comes to us without one. */
    for (int pause = 1; has_children(); pause = pause * 2 < longest ? pause * 2 : longest) {
        pid_t pids[MOST];
        int count = list_children(pids);
        if (count == 0 || now() >= deadline) return false;
        for (int index = 0; index < count; index++) {
            pid_t pid = pids[index];
            bool in_group = signaled_group != 0 && getpgid(pid) == signaled_group;
            if (signal == SIGKILL || (!in_group && note_term(pid))) kill(pid, signal);
        }
        poll(NULL, 0, pause);
    }
    return true;
}

/* Sets the CPU times, in clock ticks, of a process and of those that it has reaped: fields 14 to 17 of its `stat`. */
static bool read_ticks(pid_t pid, long long ticks[4]) {
    char path[64], text[TEXT];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    read_kernel_file(AT_FDCWD, path, text, sizeof text);
    char *rest = strrchr(text, ')'); /* the name in brackets may contain blanks */
    if (rest == NULL || strlen(rest) < 4) return false;
    rest += 4; /* behind the state, the third field */
    for (int field = 4; field <= 17; field++) {
        long long value = strtoll(rest, &rest, 10);
        if (field >= 14) ticks[field - 14] = value;
    }
    return true;
}

void add_children_usage(long long *user_usec, long long *system_usec) {
    pid_t pids[MOST];
    long long tick = 1000000 / sysconf(_SC_CLK_TCK), ticks[4];
    for (int index = list_children(pids) - 1; index >= 0; index--)
        if (read_ticks(pids[index], ticks)) {
            *user_usec += (ticks[0] + ticks[2]) * tick;
            *system_usec += (ticks[1] + ticks[3]) * tick;
        }
}
