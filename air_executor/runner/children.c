/* What a command has left. Only the runner reaps its children, and never between listing and signalling them, so that a
 * pid in the list cannot be another process's. */
#define _GNU_SOURCE
#include "children.h"

#include <dirent.h>
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

enum { MOST = 512, MOST_LEFT = 4096, TEXT = 4096, LONGEST_PAUSE = 32 /* milliseconds */ };

static struct {
    pid_t pids[MOST];
    int count;
} got_term; /* children that have got TERM */

/* Returns how many pids of a kernel's list fit into `pids`. */
static int parse_pids(char *text, pid_t *pids, int room) {
    int count = 0;
    for (long pid; count < room && (pid = strtol(text, &text, 10)) > 0;)
        if (*text == ' ') pids[count++] = (pid_t)pid; /* else it is cut by the end of the buffer */
    return count;
}

/* Lists the children of a process; each belongs to the thread that started it. Returns how many fit into `pids`: there may be more. */
static int list_children(pid_t parent, pid_t *pids, int room) {
    char path[300], text[TEXT];
    int count = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)parent);
    DIR *threads = opendir(path);
    for (struct dirent *thread; threads != NULL && count < room && (thread = readdir(threads)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/children", (int)parent, thread->d_name);
        read_kernel_file(AT_FDCWD, path, text, sizeof text);
        count += parse_pids(text, pids + count, room - count);
    }
    if (threads != NULL) closedir(threads);
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
        int count = list_children(getpid(), pids, MOST);
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

/* Adds the CPU times of a process and of those that it has reaped: fields 14 to 17 of its `stat`, in clock ticks. */
static void add_cpu(pid_t pid, struct usage *sum) {
    char path[64], text[TEXT];
    long long ticks[4] = {0}, tick = 1000000 / sysconf(_SC_CLK_TCK);
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    read_kernel_file(AT_FDCWD, path, text, sizeof text);
    char *rest = strrchr(text, ')'); /* the name in brackets may contain blanks */
    if (rest == NULL || strlen(rest) < 4) return;
    rest += 4; /* behind the state, the third field */
    for (int field = 4; field <= 17; field++) {
        long long value = strtoll(rest, &rest, 10);
        if (field >= 14) ticks[field - 14] = value;
    }
    sum->user += (ticks[0] + ticks[2]) * tick;
    sum->system += (ticks[1] + ticks[3]) * tick;
}

/* Takes in the most memory that a process has had. */
static void add_peak(pid_t pid, struct usage *sum) {
    static const char key[] = "\nVmHWM:";
    char path[64], text[TEXT];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    read_kernel_file(AT_FDCWD, path, text, sizeof text);
    const char *line = strstr(text, key);
    long long peak = line == NULL ? 0 : strtoll(line + strlen(key), NULL, 10) * 1024;
    if (peak > sum->peak) sum->peak = peak;
}

void add_left_usage(struct usage *sum) {
    static pid_t pids[MOST_LEFT];
    int count = list_children(getpid(), pids, MOST_LEFT);
    for (int index = 0; index < count; index++) {
        add_cpu(pids[index], sum);
        add_peak(pids[index], sum);
        count += list_children(pids[index], pids + count, MOST_LEFT - count);
    }
}
