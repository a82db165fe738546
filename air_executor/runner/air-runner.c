/* air-runner: runs exactly one command and records how it ended.
 *
 *   air-runner OUT WORKDIR TIMEOUT GRACE MODE COMMAND [ARG...]
 *
 *   OUT      absolute path of the run's directory; gets claim and output.log
 *   WORKDIR  directory the command runs in
 *   TIMEOUT  seconds the command may take (decimals allowed), or - for no limit
 *   GRACE    seconds between TERM and KILL
 *   MODE     local: fd 9 is the slot's locked file, the runner leads its own session; the outcome goes into the claim
 *            cgroup: as local, and fd 10 is the cgroup in which the command is to run
 *            new-cgroup: as local, and fd 10 is the folder in which the runner makes a cgroup for the command, named
 *            AIR_RUN_ID; if it cannot, the command runs without one
 *            container: no fd 9; output is copied to the container's stdout too; the outcome goes into exit.json, for
 *            readers on a network volume see a file late that was not there before
 *
 * The script `air-runner` beside this file keeps the same contract where this program cannot run; tests/runner puts
 * both to it. It must not know jobs, states or managers. Linux only, no library beside libc, linked statically.
 * Exit status: the command's; 96 the run could not be started or recorded here; 97 another runner has claimed it; 98 no
 * process can be started in the cgroup.
 *
 * Variables that a backend may set in a container, none of which reaches the command:
 *   _air_bin    folder of the in-task module, appended to the command's PYTHONPATH; the runner's own goes to its PATH
 *   _air_image  name of the container's image, for messages
 *   _air_keep   whole seconds for which the runner stays once it has recorded that the command failed, for people to
 *               look around; a signal ends that
 *
 * How it works: all signals are blocked; those that matter are read from a signalfd. One loop, `supervise`, waits for
 * the first of a signal, a deadline and output to copy. So there are no handlers, no races between a signal and a wait,
 * and no process beside the command. `main` lists the steps of a run. Started as `air-queue` or another of its names it
 * is that helper of a task (helpers.c).
 *
 *   program.c      where the command's program is, and what it needs to be started
 *   cgroup.c       the run's cgroup: the command's start in it, and the end of all that is in it
 *   children.c     processes that the command has left: their end, and what they have used
 *   log_copy.c     the copy of output.log to a container's stdout
 *   kernel_file.c  reads /proc and the files of a cgroup
 *   clock.h        deadlines
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "children.h"
#include "clock.h"
#include "helpers.h"
#include "kernel_file.h"
#include "log_copy.h"
#include "program.h"

#ifndef SOURCES
#define SOURCES "unknown"
#endif

enum {
    /* The runner's own exit status, see above; then the exit codes that a shell has for a command. */
    UNRECORDED = 96,
    LOST_CLAIM = 97,
    OUT_OF_CGROUP = 98,
    NOT_EXECUTABLE = 126,
    NOT_FOUND = 127,
    LOCK_FD = 9,
    RECORD_SIZE = 512,     /* bytes of the outcome */
    SETTLE_MS = 50,        /* for which the outcome waits for the end of what the command has left */
    UNKILLABLE_MS = 1000,  /* for which a killed process is waited for: another user's may not go */
    MOST_INTERPRETERS = 6, /* the kernel takes five scripts, each the interpreter of the one before */
    NAME_SHOWN = 200,      /* bytes of a hostile name in a message */
};

extern char **environ;

/* What the runner was told, and what it has opened for the run. */
static struct {
    char **command;
    bool local;       /* else in a container */
    bool in_cgroup;   /* the command is; the runner stays outside, to see the end of all that is in it */
    bool optional;    /* without a cgroup, the command runs all the same */
    bool leads_group; /* if not, the group belongs to somebody else: started by hand */
    int64_t timeout, grace, keep; /* nanoseconds; no timeout: NEVER */
    char claim[PATH_MAX], log[PATH_MAX], exit[PATH_MAX];
    const char *outcome;     /* `claim` or `exit`: where the outcome goes */
    struct timespec started; /* by the volume's clock */
    int log_fd, null_fd, signals;
    const char *image;
} run;

/* The command's process, and its outcome. */
static struct {
    pid_t pid; /* 0 before the start and after the end */
    int64_t time_out_at, kill_at;
    int code, signal;   /* exit code, and the signal that ended it or 0 */
    bool stopped;       /* by TERM, INT or HUP to the runner */
    bool timed_out;
    bool ending;        /* it has got TERM, or has ended: no further stop is passed on */
    bool killed;        /* it had to be, after the grace */
    bool left_children; /* it has ended, and other children of the runner have not */
    char message[NAME_SHOWN + 200]; /* of characters that JSON does not escape; empty: none */
} task = {.time_out_at = NEVER, .kill_at = NEVER};

static _Noreturn void refuse(const char *what, const char *path) {
    dprintf(STDERR_FILENO, "air-runner: %s%s\n", what, path);
    _exit(UNRECORDED);
}

/* --- start -------------------------------------------------------------------------------------------------------- */

/* Parses seconds with decimals; -1 if it is no such number. */
static int64_t parse_seconds(const char *text) {
    int64_t whole = 0, part = 0, unit = SECOND;
    if (*text < '0' || *text > '9') return -1;
    for (; *text >= '0' && *text <= '9'; text++) whole = earlier(whole * 10 + (*text - '0'), INT64_C(4000000000));
    if (*text == '.')
        for (text++; *text >= '0' && *text <= '9'; text++) {
            unit /= 10;
            part += unit * (*text - '0');
        }
    return *text ? -1 : whole * SECOND + part;
}

static void set_path(char *path, const char *out, const char *name) {
    if (snprintf(path, PATH_MAX, "%s/%s", out, name) >= PATH_MAX) refuse("path is too long: ", out);
}

static void parse(int argc, char **argv) {
    bool usable = argc > 6 && argv[1][0] == '/';
    if (usable) {
        run.timeout = strcmp(argv[3], "-") == 0 ? NEVER : parse_seconds(argv[3]);
        run.grace = parse_seconds(argv[4]);
        run.optional = strcmp(argv[5], "new-cgroup") == 0;
        run.in_cgroup = run.optional || strcmp(argv[5], "cgroup") == 0;
        run.local = run.in_cgroup || strcmp(argv[5], "local") == 0;
        usable = run.timeout >= 0 && run.grace >= 0 && (run.local || strcmp(argv[5], "container") == 0);
    }
    if (!usable) {
        dprintf(STDERR_FILENO,
                "usage: air-runner /OUT WORKDIR TIMEOUT|- GRACE local|cgroup|new-cgroup|container COMMAND [ARG...]\n");
        _exit(UNRECORDED);
    }
    run.command = argv + 6;
    run.leads_group = getpgrp() == getpid();
    set_path(run.claim, argv[1], "claim");
    set_path(run.log, argv[1], "output.log");
    set_path(run.exit, argv[1], "exit.json");
    run.outcome = run.local ? run.claim : run.exit;
}

/* Appends a folder to a search path in the command's environment. */
static void append_path(const char *name, const char *fallback, const char *folder, size_t length) {
    const char *before = getenv(name);
    char *value;
    if (before == NULL || !*before) before = fallback;
    const char *colon = *before ? ":" : "";
    if (asprintf(&value, "%s%s%.*s", before, colon, (int)length, folder) < 0 || setenv(name, value, 1) != 0)
        refuse("out of memory for ", name);
    free(value);
}

static void take_variables(const char *program) {
    if (run.local) return; /* there the backend knows the environment, and may have any name in it */
    const char *bin = getenv("_air_bin"), *keep = getenv("_air_keep"), *slash = strrchr(program, '/');
    run.image = getenv("_air_image"); /* `unsetenv` leaves the text where it is */
    if (bin != NULL && *bin) append_path("PYTHONPATH", "", bin, strlen(bin));
    if (bin != NULL && slash != NULL) append_path("PATH", DEFAULT_PATH, program, (size_t)(slash - program));
    if (bin != NULL) unsetenv("_air_bin");
    if (run.image != NULL) unsetenv("_air_image");
    if (keep != NULL) {
        int64_t seconds = parse_seconds(keep);
        run.keep = seconds < 0 ? 0 : seconds;
        unsetenv("_air_keep");
    }
}

/* Whatever else was open is not for the command. */
static void close_others(unsigned first, unsigned last) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, last, 0) == 0) return;
#endif
    for (unsigned fd = first; fd <= last && fd < 4096; fd++) close((int)fd); /* Linux before 5.9 */
}

/* Opens a file of OUT for writing without surprise: a task may have put a link or a fifo in its place. */
static int open_plain(const char *path, int flags) {
    struct stat found;
    int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags, 0666);
    if (fd < 0) return -1;
    if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && fcntl(fd, F_SETFL, flags & O_APPEND) == 0) return fd;
    close(fd);
    return -1;
}

/* Writes the whole outcome at once. Until it ends with a newline it is incomplete for every reader. */
static bool write_outcome(const char *data, size_t size) {
    int fd = open_plain(run.outcome, 0);
    if (fd < 0) return false;
    bool written = pwrite(fd, data, size, 0) == (ssize_t)size;
    close(fd);
    return written;
}

/* The fence: of all runners that were ever started for this run, one gets past this function. The time of the file is
 * when the run started; where the outcome will be written into it, that has to be noted. */
static void claim(void) {
    int fd = open(run.claim, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    struct stat found;
    if (fd < 0 && (errno == EEXIST || lstat(run.claim, &found) == 0)) _exit(LOST_CLAIM);
    if (fd < 0 || fstat(fd, &found) != 0) refuse("cannot create ", run.claim);
    run.started = found.st_mtim;
    close(fd);
}

/* Takes what the run needs; the outcome's place too, so that a full volume cannot keep it from being written. */
static void reserve(void) {
    char line[32], blank[RECORD_SIZE - 1];
    if (run.local) {
        int length = snprintf(line, sizeof line, "pid %d\n", (int)getpid());
        if (write(LOCK_FD, line, (size_t)length) != length) refuse("fd 9 is not a slot file that can be written", "");
    }
    run.log_fd = open_plain(run.log, O_APPEND);
    if (run.log_fd < 0) refuse("cannot write ", run.log);
    memset(blank, ' ', sizeof blank);
    if (!write_outcome(blank, sizeof blank)) refuse("cannot write ", run.outcome);
}

static void block_signals(void) {
    sigset_t all, ours;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL); /* a task may signal its whole group, in which we are */
    signal(SIGCHLD, SIG_DFL);           /* ignored, it would take away how the command ended */
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGHUP);
    sigaddset(&ours, SIGCHLD);
    run.signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    if (run.signals < 0) refuse("cannot receive signals: ", strerror(errno));
}

/* --- what cannot be run ------------------------------------------------------------------------------------------- */

/* Sets the outcome of a run whose command cannot be started: exit code and message. `name` is hostile: what could need
 * escaping in JSON becomes a question mark. */
static void explain(int code, const char *what, const char *name, const char *rest) {
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._+@%=:,~() -";
    size_t length = (size_t)snprintf(task.message, sizeof task.message, "%s: ", what);
    const char *parts[] = {name, rest};
    size_t shown = 0;
    for (int part = 0; part < 2; part++)
        for (const char *c = parts[part]; *c && shown < NAME_SHOWN && length + 1 < sizeof task.message; c++, shown++)
            task.message[length++] = strchr(plain, *c) ? *c : '?';
    task.message[length] = '\0';
    task.code = code;
    dprintf(run.log_fd, "air-runner: %s\n", task.message);
}

static void enter(const char *workdir) {
    if (chdir(workdir) == 0) return;
    struct stat found;
    bool exists = stat(workdir, &found) == 0;
    explain(NOT_EXECUTABLE, exists ? "cannot enter the working directory" : "the working directory does not exist",
            workdir, "");
}

/* Says what is missing when the kernel refuses a program that is there: an interpreter can be a script, too. Returns
 * whether something is. */
static bool explain_interpreter(const char *path, const char *name) {
    char head[HEAD_SIZE + 1], file[PATH_MAX], rest[PATH_MAX + 64], what[64];
    for (int depth = 0; depth < MOST_INTERPRETERS; depth++) {
        char *needed = read_interpreter(path, head);
        if (needed == NULL || !*needed) return false;
        bool script = head[0] == '#';
        size_t length = strlen(needed);
        bool carriage = needed[length - 1] == '\r';
        if (carriage) needed[length - 1] = '\0';
        int found = carriage ? ENOENT : check_program(needed);
        if (found != 0) {
            snprintf(what, sizeof what, "%s not %s", script ? "interpreter" : "program loader",
                     found == ENOENT ? "found" : "executable");
            snprintf(rest, sizeof rest, ", %s %s%s", script ? "named in the first line of" : "the dynamic linker of",
                     name, carriage ? " (the line ends with CR LF)" : "");
            explain(found == ENOENT ? NOT_FOUND : NOT_EXECUTABLE, what, needed, rest);
            return true;
        }
        snprintf(file, sizeof file, "%s", needed);
        path = name = file;
    }
    return false;
}

static void explain_failure(int error, const char *path) {
    const char *name = run.command[0];
    if ((error == ENOENT || error == EACCES) && *path && explain_interpreter(path, name)) return;
    if (error == ENOENT && run.image != NULL && strcmp(name, "sh") == 0) {
        explain(NOT_FOUND,
                "no shell `sh` is in the PATH of this image, and a command that is text needs one; write it as a list",
                run.image, "");
    } else if (error == ENOENT) {
        explain(NOT_FOUND, "command not found", name, "");
    } else if (error == EACCES) {
        explain(NOT_EXECUTABLE, "not executable", name, "");
    } else if (error == EAGAIN || error == ENOMEM) {
        explain(NOT_EXECUTABLE, "cannot start another process", "the limit of processes or memory is reached", "");
    } else {
        char rest[128];
        snprintf(rest, sizeof rest, " (%s)", strerror(error));
        explain(NOT_EXECUTABLE, "cannot execute", name, rest);
    }
}

/* --- the command -------------------------------------------------------------------------------------------------- */

/* Starts a program with the environment, descriptors and signal dispositions that the command is to have. */
static int spawn(const char *path, char **argv) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&files, run.null_fd, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, run.log_fd, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, run.log_fd, STDERR_FILENO);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    pid_t pid;
    int error = posix_spawn(&pid, path, &files, &attributes, argv, environ);
    if (error == 0) task.pid = pid;
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    return error;
}

static int launch(const char *path, char **argv) {
    if (!run.in_cgroup) return spawn(path, argv);
    int error = start_in_cgroup(&task.pid, path, argv, run.null_fd, run.log_fd);
    if (error >= 0) return error;
    if (!run.optional) _exit(OUT_OF_CGROUP); /* nothing has run, and there is no outcome: the manager tries again */
    run.in_cgroup = false; /* a task can have made a group of threads beside it: then none of processes works */
    remove_cgroup(getenv("AIR_RUN_ID"));
    return spawn(path, argv);
}

static void start(void) {
    char path[PATH_MAX];
    int error = find_program(run.command[0], path);
    if (error == 0) error = launch(path, run.command);
    if (error == ENOEXEC) { /* a script without a first line is sh's, as shells take it */
        size_t words = 0;
        while (run.command[words] != NULL) words++;
        char **argv = calloc(words + 2, sizeof *argv);
        if (argv == NULL) refuse("out of memory for ", path);
        argv[0] = "sh";
        argv[1] = path;
        memcpy(argv + 2, run.command + 1, words * sizeof *argv);
        error = launch("/bin/sh", argv);
        free(argv);
    }
    if (error != 0) explain_failure(error, path);
    else if (run.timeout != NEVER) task.time_out_at = now() + run.timeout;
}

/* TERM to everyone, once; what is left after the grace gets KILL. */
static void terminate(void) {
    task.ending = true;
    task.time_out_at = NEVER;
    task.kill_at = now() + run.grace;
    kill(run.leads_group ? 0 : task.pid, SIGTERM);
    if (run.leads_group && getpgid(task.pid) != getpgrp()) kill(task.pid, SIGTERM); /* it has left the group */
}

static void check_deadlines(void) {
    int64_t time = now();
    if (time >= task.time_out_at) {
        task.timed_out = true;
        terminate();
    }
    if (time >= task.kill_at) {
        task.kill_at = NEVER;
        task.killed = true;
        kill(task.pid, SIGKILL);
    }
}

/* Reaps what has ended: the command, and what it orphaned, which comes to us. */
static void reap(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != task.pid) continue;
        task.pid = 0;
        task.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        task.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    task.left_children = pid == 0;
}

static void take_signals(void) {
    struct signalfd_siginfo taken;
    bool ended = false;
    while (read(run.signals, &taken, sizeof taken) == sizeof taken) {
        if (taken.ssi_signo == SIGCHLD) {
            ended = true;
        } else if (!task.ending) {
            task.stopped = true;
            if (task.pid != 0) terminate();
        }
    }
    if (ended) reap();
}

/* --- the end ------------------------------------------------------------------------------------------------------ */


/* Returns what the command and all below it have used, as far as the kernel tells; the runner itself does not count. A
 * process that nobody waits for is in the cgroup's account alone, and one that has left the cgroup in the other. */
static struct usage measure(void) {
    struct rusage reaped = {0};
    getrusage(RUSAGE_CHILDREN, &reaped); /* of the command, and of all below it that has ended */
    struct usage found = {.user = reaped.ru_utime.tv_sec * 1000000LL + reaped.ru_utime.tv_usec,
                          .system = reaped.ru_stime.tv_sec * 1000000LL + reaped.ru_stime.tv_usec,
                          .peak = reaped.ru_maxrss * 1024LL};
    if (task.left_children) add_left_usage(&found);
    if (!run.in_cgroup) return found;
    char text[4096];
    read_kernel_file(GROUP_FD, "cpu.stat", text, sizeof text);
    long long user = find_number(text, "user_usec"), system = find_number(text, "system_usec");
    if (user >= 0 && system >= 0 && user + system > found.user + found.system) found.user = user, found.system = system;
    return found;
}

/* Returns a CPU time as a shell's `times` tells it, in a buffer of the caller's. */
static const char *to_times(char *text, size_t size, long long usec) {
    snprintf(text, size, "%lldm%lld.%06llds", usec / 60000000, usec / 1000000 % 60, usec % 1000000);
    return text;
}

/* Returns a number as JSON, in a buffer of the caller's. */
static const char *to_json(char *text, size_t size, long long value) {
    if (value < 0) return "null";
    snprintf(text, size, "%lld", value);
    return text;
}

static bool record(void) {
    static const char v2[] = "/sys/fs/cgroup/memory.peak", v1[] = "/sys/fs/cgroup/memory/memory.max_usage_in_bytes";
    static const char events2[] = "/sys/fs/cgroup/memory.events", events1[] = "/sys/fs/cgroup/memory/memory.oom_control";
    struct usage used = measure();
    long long peak = used.peak > 0 ? used.peak : -1, kills = -1;
    if (run.in_cgroup) {
        long long most = read_kernel_number(GROUP_FD, "memory.peak", NULL);
        peak = most < 0 ? peak : most;
        kills = read_kernel_number(GROUP_FD, "memory.events", "oom_kill");
    } else if (!run.local) { /* the cgroup holds this run and nothing else; the other names are those of version 1 */
        peak = read_kernel_number(AT_FDCWD, v2, NULL);
        if (peak < 0) peak = read_kernel_number(AT_FDCWD, v1, NULL);
        kills = read_kernel_number(AT_FDCWD, access(events2, F_OK) == 0 ? events2 : events1, "oom_kill");
    }
    char signal_text[24], peak_text[24], kills_text[24], user[48], system[48], started[40] = "null";
    char text[2 * RECORD_SIZE], line[3 * RECORD_SIZE];
    if (run.local)
        snprintf(started, sizeof started, "%lld.%06ld", (long long)run.started.tv_sec, run.started.tv_nsec / 1000);
    snprintf(text, sizeof text,
             "\"exit_code\": %d, \"signal\": %s, \"started\": %s, \"timed_out\": %s, \"stopped\": %s, "
             "\"user\": \"%s\", \"system\": \"%s\", \"memory_peak\": %s, "
             "\"oom_kills\": %s, \"message\": %s%s%s",
             task.code, to_json(signal_text, sizeof signal_text, task.signal ? task.signal : -1), started,
             task.timed_out ? "true" : "false", task.stopped ? "true" : "false",
             to_times(user, sizeof user, used.user), to_times(system, sizeof system, used.system),
             to_json(peak_text, sizeof peak_text, peak), to_json(kills_text, sizeof kills_text, kills),
             *task.message ? "\"" : "", *task.message ? task.message : "null", *task.message ? "\"" : "");
    int size = snprintf(line, sizeof line, "{%-*s}\n", RECORD_SIZE - 3, text);
    if (run.local) unlink(run.exit); /* a task may have put one there, and readers look for the script's first */
    return write_outcome(line, (size_t)size);
}

/* Tells whether it is the runner that ends what the command has left: a container ends with the runner, and in a cgroup
 * nothing can hide from the manager. Elsewhere a process can, and the runner alone is sure to see it. */
static bool ends_children(void) { return run.local && !run.in_cgroup && task.left_children; }

/* Has children end by TERM, which they get once, until a deadline or the end of the grace. */
static bool terminate_children(int64_t deadline) {
    return end_children(SIGTERM, run.leads_group ? getpgrp() : 0, earlier(task.kill_at, deadline));
}

/* Begins to end what the command has left. Most of that goes at once, and then its CPU time is known. */
static void begin_to_end_children(void) {
    if (task.kill_at == NEVER && !task.killed) { /* else the group got TERM when the command did */
        task.kill_at = now() + run.grace;
        if (run.leads_group) kill(0, SIGTERM);
    }
    int64_t until = in_milliseconds(SETTLE_MS);
    task.left_children = !(task.killed ? end_children(SIGKILL, 0, until) : terminate_children(until));
}

/* Ends the rest by TERM and, after the grace, KILL. The outcome is there; the slot is taken until the runner ends.
 * Children of a process that had to be killed may ignore TERM too, and there may be no manager to find them. */
static void end_rest(void) {
    bool left = ends_children();
    if (left && !task.killed) left = !terminate_children(NEVER);
    if (task.killed && run.in_cgroup) kill_cgroup();
    if (task.killed || left) end_children(SIGKILL, 0, in_milliseconds(UNKILLABLE_MS));
    if (task.killed && run.leads_group) kill(0, SIGKILL);
}

/* Stays after a failure for `run.keep` or until somebody stops the runner. What people start here is nobody's child. */
static void stay(void) {
    int64_t until = now() + run.keep;
    struct signalfd_siginfo taken;
    struct pollfd signals = {.fd = run.signals, .events = POLLIN};
    while (now() < until) {
        poll(&signals, 1, poll_timeout(until));
        while (read(run.signals, &taken, sizeof taken) == sizeof taken)
            if (taken.ssi_signo != SIGCHLD) return;
        reap();
    }
}

static void supervise(void) {
    take_signals(); /* a stop that came before there was a command to pass it on to */
    if (task.stopped) {
        task.code = 128 + SIGTERM;
        snprintf(task.message, sizeof task.message, "stopped before the command was started");
        return;
    }
    start();
    while (task.pid != 0) {
        check_deadlines();
        int64_t deadline = earlier(task.time_out_at, task.kill_at);
        bool stdout_full = follow_log(&deadline);
        struct pollfd events[] = {
            {.fd = run.signals, .events = POLLIN},
            {.fd = stdout_full ? STDOUT_FILENO : -1, .events = POLLOUT},
        };
        poll(events, 2, poll_timeout(deadline));
        if (events[0].revents) take_signals();
    }
    task.ending = true; /* no further stop is passed on */
}

int main(int argc, char **argv) {
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = argc > 0 ? (slash != NULL ? slash + 1 : argv[0]) : "";
    helper *helper_main = find_helper(name);
    if (helper_main != NULL) return helper_main(argc, argv);
    if (argc == 2 && strcmp(argv[1], "--version") == 0) { /* native.py looks for it in the file */
        dprintf(STDOUT_FILENO, "air-runner of the sources %s\n", SOURCES);
        return 0;
    }

    parse(argc, argv);
    close_others(STDERR_FILENO + 1, LOCK_FD - 1);
    close_others(run.in_cgroup ? GROUP_FD + 1 : run.local ? LOCK_FD + 1 : LOCK_FD, ~0U);
    if (run.in_cgroup && fcntl(GROUP_FD, F_SETFD, FD_CLOEXEC) != 0) refuse("fd 10 is not the folder of a cgroup", "");
    if (run.optional) run.in_cgroup = make_cgroup(getenv("AIR_RUN_ID"));
    do run.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (run.null_fd >= 0 && run.null_fd <= STDERR_FILENO); /* whoever started us may have closed those */
    if (run.null_fd < 0) refuse("cannot open ", "/dev/null");
    block_signals();
    take_variables(argv[0]);
    claim();
    reserve();
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    if (!run.local) open_log_copy(run.log);

    enter(argv[2]);
    if (task.code == 0) supervise();
    bool stays = run.keep > 0 && task.code != 0 && !task.stopped;
    /* Once the outcome is there, others work on in the workspace. */
    if (stays) end_children(SIGKILL, 0, in_milliseconds(UNKILLABLE_MS));
    if (ends_children()) begin_to_end_children();
    copy_rest_of_log();
    if (!record()) _exit(UNRECORDED);
    if (run.local) end_rest();
    if (stays) stay();
    return task.code;
}
