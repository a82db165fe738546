#define _GNU_SOURCE
#include "log_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

enum {
    PIECE = 4096,        /* bytes that a pipe which poll calls writable takes without blocking */
    MOST_PIECES = 64,    /* copied in one go: signals and deadlines wait for that */
    END_SHOWN = 1 << 20, /* bytes of the log's end that are copied when others are left out */
};

static struct {
    int fd; /* output.log, read only; -1: nothing to copy */
    char data[2 * PIECE];
    size_t from, to; /* what of `data` is still to be written */
    int64_t look_at, pause;
} mirror = {.fd = -1};

enum copied { ALL, MORE, BLOCKED };

void open_log_copy(const char *log) { mirror.fd = open(log, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); }

/* Copies some of what output.log has beyond the last copy; never blocks. */
static enum copied copy(void) {
    for (int piece = 0; piece < MOST_PIECES; piece++) {
        if (mirror.from == mirror.to) {
            ssize_t size = read(mirror.fd, mirror.data, PIECE);
            if (size <= 0) return ALL;
            mirror.from = 0;
            mirror.to = (size_t)size;
        }
        struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
        if (poll(&out, 1, 0) != 1) return BLOCKED;
        size_t size = mirror.to - mirror.from;
        ssize_t written = write(STDOUT_FILENO, mirror.data + mirror.from, size < PIECE ? size : PIECE);
        if (written < 0 && errno == EAGAIN) return BLOCKED;
        if (written < 0) { /* nobody will ever read it */
            close(mirror.fd);
            mirror.fd = -1;
            return ALL;
        }
        mirror.from += (size_t)written;
    }
    return MORE;
}

bool follow_log(int64_t *deadline) {
    enum copied result = ALL;
    if (mirror.fd >= 0 && now() >= mirror.look_at) {
        off_t before = lseek(mirror.fd, 0, SEEK_CUR);
        result = copy();
        bool grew = mirror.fd >= 0 && lseek(mirror.fd, 0, SEEK_CUR) != before;
        mirror.pause = grew || mirror.pause == 0 ? SECOND / 50 : earlier(mirror.pause * 2, SECOND);
        mirror.look_at = result == ALL ? now() + mirror.pause : 0;
    }
    if (mirror.fd >= 0 && result != BLOCKED) *deadline = earlier(*deadline, mirror.look_at);
    return result == BLOCKED;
}

void copy_rest_of_log(void) {
    int64_t begun = now();
    off_t limit = 0;
    enum copied result;
    while (mirror.fd >= 0 && (result = copy()) != ALL && now() - begun < 10 * SECOND) {
        off_t at = lseek(mirror.fd, 0, SEEK_CUR);
        if (limit != 0 && at >= limit) return; /* what a grandchild goes on writing need not have an end */
        if (limit == 0 && now() - begun >= SECOND) {
            struct stat found = {.st_size = at};
            fstat(mirror.fd, &found);
            off_t skipped = found.st_size - at - END_SHOWN;
            if (skipped > 0) {
                mirror.to += (size_t)snprintf(mirror.data + mirror.to, sizeof mirror.data - mirror.to,
                                              "\n[air-runner: %lld KiB are left out here; output.log has all]\n",
                                              (long long)skipped >> 10);
                at = lseek(mirror.fd, skipped, SEEK_CUR);
            }
            limit = at + 2 * END_SHOWN;
        }
        struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
        if (result == BLOCKED) poll(&out, 1, 100);
    }
}
