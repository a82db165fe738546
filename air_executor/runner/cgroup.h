/* The cgroup of a run (version 2). The manager hands its folder to the runner as a descriptor, or the one above it. */
#ifndef AIR_CGROUP_H
#define AIR_CGROUP_H

#include <stdbool.h>
#include <sys/types.h>

enum { GROUP_FD = 10 };

/* Makes the cgroup of that name in the folder that the descriptor is of; from then on it is of the cgroup. False if it
 * cannot. */
bool make_cgroup(const char *name);

/* Removes what `make_cgroup` has made: a manager can tell by that. */
void drop_cgroup(const char *name);

/* Starts a program inside the cgroup, with these descriptors as stdin and as both stdout and stderr, default signal
 * dispositions and no signal blocked. Returns 0, or the error that `execve` had, or minus the error of the cgroup. */
int start_in_cgroup(pid_t *pid, const char *path, char **argv, int in, int out);

/* Kills every process in it, and waits until they are gone, for a second at most. */
void kill_cgroup(void);

#endif
