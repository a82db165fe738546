/* The copy of output.log to a container's stdout. A pipe through the runner would have to be read until the last
 * grandchild has closed it; a file has an end. Without `open_log_copy`, there is nothing to copy. */
#ifndef AIR_LOG_COPY_H
#define AIR_LOG_COPY_H

#include <stdbool.h>
#include <stdint.h>

void open_log_copy(const char *log);

/* Copies while the command runs, and looks less often the longer nothing comes. Returns whether stdout takes no more
 * for now; if not, `deadline` is moved up to when this wants to be called again. */
bool follow_log(int64_t *deadline);

/* Copies what is left at the end. A log driver may take far less than a task can write, and the run must not wait for
 * that: after a second, all but the end is left out. Who does not read at all is waited for a little longer. */
void copy_rest_of_log(void);

#endif
