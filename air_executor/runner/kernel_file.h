/* Files in which the kernel tells something: of /proc, and of a cgroup. */
#ifndef AIR_KERNEL_FILE_H
#define AIR_KERNEL_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* Reads the beginning of a file, up to `size` - 1 bytes and a NUL; a relative path is one in the open `folder`. Returns
 * false, with an empty text, if there is no such file or nothing in it. */
bool read_kernel_file(int folder, const char *path, char *text, size_t size);

/* Returns the number at the beginning of a text or, if `key` is given, of the rest of the line that begins with that
 * word; -1 if there is none. */
long long find_number(const char *text, const char *key);

/* Returns `find_number` of a file's text. */
long long read_kernel_number(int folder, const char *path, const char *key);

#endif
