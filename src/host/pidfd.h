/*
 * pidfd: a process by a descriptor (pidfd_open(2), Linux 5.3): it stays the same one when the number is given
 * to another, and becomes readable when the process ends.
 */
#ifndef FUMIDAI_HOST_PIDFD_H
#define FUMIDAI_HOST_PIDFD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* The descriptor (close-on-exec); ERROR_NOT_FOUND when there is no such process. */
int pidfd_of(pid_t pid, struct error *err);
bool pidfd_signal(int fd, int number);
/* Whether the process has ended, or does so within the time. */
bool pidfd_ends(int fd, int64_t wait_ms);

#endif
