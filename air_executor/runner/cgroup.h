/* The cgroup of a run (version 2), whose folder the manager hands to the runner as a descriptor. */
#ifndef AIR_CGROUP_H
#define AIR_CGROUP_H

#include <sys/types.h>

enum { GROUP_FD = 10 };

/* Starts a program inside the cgroup, with these descriptors as stdin and as both stdout and stderr, default signal
 * dispositions and no signal blocked. Returns 0, or the error that `execve` had, or minus the error of the cgroup. */
int start_in_cgroup(pid_t *pid, const char *path, char **argv, int in, int out);

/* Kills every process in it, and waits until they are gone, for a second at most. */
void kill_cgroup(void);

#endif
