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

/* Adds the CPU time that living children, and what these have reaped, have used so far. */
void add_children_usage(long long *user_usec, long long *system_usec);

#endif
