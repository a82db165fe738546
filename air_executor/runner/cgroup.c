/* The cgroup of a run: a process is born in it, so that nothing of the command is ever outside, and its kernel file
 * `cgroup.kill` ends them all, whatever group, session, descriptors and environment they have. */
#define _GNU_SOURCE
#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel_file.h"

extern char **environ;

static int folder_fd = -1; /* the folder in which the cgroup was made */

bool make_cgroup(const char *name) {
    if (name == NULL || *name == '.' || strchr(name, '/') != NULL) return false;
    if (mkdirat(GROUP_FD, name, 0755) != 0 && errno != EEXIST) return false;
    folder_fd = fcntl(GROUP_FD, F_DUPFD_CLOEXEC, GROUP_FD + 1);
    int fd = openat(GROUP_FD, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool made = fd >= 0 && dup3(fd, GROUP_FD, O_CLOEXEC) == GROUP_FD;
    if (fd >= 0) close(fd);
    return made;
}

void remove_cgroup(const char *name) {
    unlinkat(folder_fd, name, AT_REMOVEDIR);
}

#ifdef CLONE_INTO_CGROUP

static void become(const char *path, char **argv, int in, int out) {
    sigset_t none;
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigemptyset(&none);
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0) return;
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(path, argv, environ);
}

int start_in_cgroup(pid_t *pid, const char *path, char **argv, int in, int out) {
    struct clone_args how = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = GROUP_FD};
    int result[2], error = 0; /* a pipe that the exec closes */
    if (pipe2(result, O_CLOEXEC) != 0) return errno;
    long child = syscall(SYS_clone3, &how, sizeof how);
    if (child < 0) error = errno == EAGAIN || errno == ENOMEM ? errno : -errno;
    if (child == 0) {
        become(path, argv, in, out);
        error = errno;
        _exit(write(result[1], &error, sizeof error) == sizeof error ? 0 : 1);
    }
    close(result[1]);
    if (child > 0 && read(result[0], &error, sizeof error) == sizeof error) waitpid((pid_t)child, NULL, 0);
    else if (error == 0) *pid = (pid_t)child;
    close(result[0]);
    return error;
}

#else /* kernel headers before 5.7 */

int start_in_cgroup(pid_t *pid, const char *path, char **argv, int in, int out) {
    (void)pid, (void)path, (void)argv, (void)in, (void)out;
    return -ENOSYS;
}

#endif

/* Tells whether whoever started us is in the cgroup: a task can put its manager there. */
static bool holds_parent(void) {
    char group[PATH_MAX], path[64], text[PATH_MAX + 1024];
    ssize_t size = readlink("/proc/self/fd/10", group, sizeof group - 1);
    if (size <= 0) return false;
    group[size] = '\0';
    const char *name = strrchr(group, '/');
    snprintf(path, sizeof path, "/proc/%d/cgroup", (int)getppid());
    if (name == NULL || !read_kernel_file(AT_FDCWD, path, text, sizeof text)) return false;
    const char *found = strstr(text, name);
    return found != NULL && (found[strlen(name)] == '\n' || found[strlen(name)] == '/');
}

void kill_cgroup(void) {
    if (holds_parent()) return; /* it leaves, and ends the rest itself */
    int fd = openat(GROUP_FD, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    bool killed = write(fd, "1", 1) == 1;
    close(fd);
    for (int round = 0; killed && round < 100; round++) {
        char text[128];
        if (!read_kernel_file(GROUP_FD, "cgroup.events", text, sizeof text)) return;
        if (find_number(text, "populated") == 0) return;
        poll(NULL, 0, 10);
    }
}
