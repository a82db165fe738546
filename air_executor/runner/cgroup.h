/* The cgroup of a run (version 2). */
#ifndef AIR_CGROUP_H
#define AIR_CGROUP_H

#include <stdbool.h>
#include <sys/types.h>

/* The descriptor that the manager passes: the cgroup, or the folder in which `make_cgroup` makes it. */
enum { GROUP_FD = 10 };

/* Makes a cgroup of that name in the folder, unless it exists, and opens it as GROUP_FD. Returns whether it has. */
bool make_cgroup(const char *name);

/* Removes the cgroup again: by its absence the manager knows that the run had none. */
void remove_cgroup(const char *name);

/* Starts a program inside the cgroup, with these descriptors as stdin and as both stdout and stderr, default signal
 * dispositions and no signal blocked. Returns 0, or the error that `execve` had, or minus the error of the cgroup. */
int start_in_cgroup(pid_t *pid, const char *path, char **argv, int in, int out);

/* Kills every process in it, and waits until they are gone, for a second at most. */
void kill_cgroup(void);

#endif
