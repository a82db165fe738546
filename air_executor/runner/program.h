/* Programs as files: where the PATH has them, and what they need to be started. */
#ifndef AIR_PROGRAM_H
#define AIR_PROGRAM_H

#include <limits.h>

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin" /* where there is no PATH */

enum { HEAD_SIZE = 4096 /* bytes of a program that are looked at: its interpreter is named there */ };

/* Returns 0 if the file can be executed, as far as can be told before; ENOENT or EACCES. */
int check_program(const char *path);

/* Finds a program as `execvp` does, without a process for each folder. Returns as `check_program`; unless that is 0,
 * `path` is empty. */
int find_program(const char *name, char path[PATH_MAX]);

/* Reads the beginning of a program into `head`. Returns the interpreter that the first line of a script names, or the
 * loader that a program needs, within `head`; NULL if there is none. */
char *read_interpreter(const char *path, char head[HEAD_SIZE + 1]);

#endif
