/* Time as the runner counts it: nanoseconds of a clock that nobody sets. A deadline is a moment of that clock. */
#ifndef AIR_CLOCK_H
#define AIR_CLOCK_H

#include <stdint.h>
#include <time.h>

#define SECOND INT64_C(1000000000)
#define MILLISECOND INT64_C(1000000)
#define NEVER INT64_MAX

static inline int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static inline int64_t in_milliseconds(int64_t count) { return now() + count * MILLISECOND; }

static inline int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

/* Returns the milliseconds until a deadline as `poll` takes them: rounded up, an hour at most, -1 for NEVER. */
static inline int poll_timeout(int64_t deadline) {
    if (deadline == NEVER) return -1;
    int64_t left = deadline - now();
    return left <= 0 ? 0 : (int)earlier((left + MILLISECOND - 1) / MILLISECOND, 3600000);
}

#endif
