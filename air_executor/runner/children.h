/* What a command has left: as child subreaper, the runner is the parent of every orphan below it. */
#ifndef AIR_CHILDREN_H
#define AIR_CHILDREN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Reaps children that have ended. Returns whether any other is left. */
bool has_children(void);

/* Sends TERM or KILL to every child, and to those of children that end meanwhile, until a deadline, as in clock.h.
 * Nobody gets a second TERM: `signaled_group` is a process group that has got one, or 0. Returns whether all are gone. */
bool end_children(int signal, pid_t signaled_group, int64_t deadline);

/* CPU times in microseconds, and bytes of memory that one process had at most. */
struct usage {
    long long user, system, peak;
};

/* Adds what all living processes below the runner, and those that they have reaped, have used so far. */
void add_left_usage(struct usage *sum);

#endif
