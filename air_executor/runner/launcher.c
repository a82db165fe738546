/* air-launcher: starts runners for a manager, as the manager's own children.
 *
 * `posix_spawn` returns once the new process has replaced its image. While all cores are busy, a manager that starts
 * many short tasks spends a third of its time waiting for that. The launcher forks instead, which is cheap for a process
 * as small as this one, and answers before the runner runs. It knows neither slots nor runs: the manager locks the
 * slot's file, and hands over the descriptor that is the lock.
 *
 * Descriptor 3 is a SOCK_SEQPACKET socket. A request is one message: a head, the variables that the runner gets besides
 * those of the launcher, and the runner's words, each text ended by a NUL. With it come the descriptors that the runner
 * gets as 9 and, if its run has a cgroup, 10. The answer is the runner's pid, or minus an error; then the manager starts
 * that runner itself.
 *
 * A runner has the launcher's own descriptors 0, 1 and 2, signal mask and dispositions, which are those that the manager
 * has chosen for runners. The launcher dies with its manager: a request that it has not taken by then is void, and the
 * kernel frees the lock that travels with it. */
#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "cgroup.h"

extern char **environ;

enum {
    MOST_BYTES = 1 << 16, /* the manager sends no more, see launcher.py */
    MOST_TEXTS = 1 << 11,
    MOST_FDS = GROUP_FD - LOCK_FD + 1,
    NOT_EXECUTED = 95, /* exit status of a child that could not become the runner */
};

static struct {
    struct { uint32_t variables, words; } head; /* how many texts follow */
    char data[MOST_BYTES];
    char *variables[MOST_TEXTS + 1], *words[MOST_TEXTS + 1]; /* each list ends with NULL */
    int fds[MOST_FDS];
    size_t fd_count;
} request;

/* Waits for a request, and returns the size of its data; -1 if there will be none. */
static ssize_t receive(void) {
    union {
        char data[CMSG_SPACE(MOST_FDS * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec parts[] = {{&request.head, sizeof request.head}, {request.data, sizeof request.data}};
    struct msghdr message = {
        .msg_iov = parts, .msg_iovlen = 2, .msg_control = control.data, .msg_controllen = sizeof control.data};
    ssize_t size = recvmsg(MANAGER_FD, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *rights = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    request.fd_count = rights == NULL ? 0 : (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    if (rights != NULL) memcpy(request.fds, CMSG_DATA(rights), request.fd_count * sizeof(int));
    return size < (ssize_t)sizeof request.head ? -1 : size - (ssize_t)sizeof request.head;
}

/* Lists the next `count` texts of the data, and moves `at` behind them; false if there are not so many. */
static bool list(char **texts, size_t count, char **at, const char *end) {
    if (count > MOST_TEXTS) return false;
    for (size_t number = 0; number < count; number++) {
        size_t room = (size_t)(end - *at), length = strnlen(*at, room);
        if (length == room) return false;
        texts[number] = *at;
        *at += length + 1;
    }
    texts[count] = NULL;
    return true;
}

static bool is_given(const char *variable) {
    size_t length = strcspn(variable, "=") + 1;
    for (size_t number = 0; number < request.head.variables; number++)
        if (strncmp(request.variables[number], variable, length) == 0) return true;
    return false;
}

/* Adds what the runner inherits from the launcher; false if that is too much. */
static bool inherit(void) {
    size_t count = request.head.variables;
    for (char **own = environ; *own != NULL; own++) {
        if (is_given(*own)) continue;
        if (count == MOST_TEXTS) return false;
        request.variables[count++] = *own;
    }
    request.variables[count] = NULL;
    return true;
}

static bool parse(size_t size) {
    char *at = request.data, *end = at + size;
    return list(request.variables, request.head.variables, &at, end) && request.head.words > 0 &&
           list(request.words, request.head.words, &at, end) && inherit();
}

static _Noreturn void become_runner(void) {
    bool ready = setsid() > 0;
    for (size_t number = 0; number < request.fd_count; number++)
        ready &= dup2(request.fds[number], LOCK_FD + (int)number) >= 0;
    if (ready) execve(request.words[0], request.words, request.variables);
    _exit(NOT_EXECUTED);
}

/* Returns the pid of the runner, or minus an error. */
static int32_t start(size_t size) {
    if (!parse(size)) return -E2BIG;
    if (access(request.words[0], X_OK) != 0) return -errno;
    long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL); /* else as `fork` */
    if (pid == 0) become_runner();
    return pid < 0 ? -errno : (int32_t)pid;
}

int launch_runners(void) {
    prctl(PR_SET_NAME, LAUNCHER);
    fcntl(MANAGER_FD, F_SETFD, FD_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* if it has died by now, the socket is closed */
    for (ssize_t size; (size = receive()) >= 0;) {
        int32_t answer = start((size_t)size);
        for (size_t number = 0; number < request.fd_count; number++) close(request.fds[number]);
        if (send(MANAGER_FD, &answer, sizeof answer, MSG_NOSIGNAL) < 0) return 1;
    }
    return 0;
}
