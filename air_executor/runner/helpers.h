/* The helpers of a task, which the runner's program is when it is started by their names. */
#ifndef AIR_HELPERS_H
#define AIR_HELPERS_H

/* What a helper does as a program; returns its exit code. */
typedef int helper(int argc, char **argv);

/* Returns the helper of that name; NULL if there is none. */
helper *find_helper(const char *name);

#endif
