/* The launcher of a manager, which the runner's program is when it is started by that name. */
#ifndef AIR_LAUNCHER_H
#define AIR_LAUNCHER_H

#define LAUNCHER "air-launcher"

enum { MANAGER_FD = 3, LOCK_FD = 9 };

/* Starts the runners that the manager requests, until it closes the socket or dies. */
int launch_runners(void);

#endif
