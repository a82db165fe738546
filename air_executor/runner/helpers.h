/* The helpers of a task, which the runner's program is when it is started by their names. */
#ifndef AIR_HELPERS_H
#define AIR_HELPERS_H

int queue_task(int argc, char **argv);
int set_result(int argc, char **argv);
int ask_again(int argc, char **argv);
int report_progress(int argc, char **argv);
int report_usage(int argc, char **argv);

#endif
