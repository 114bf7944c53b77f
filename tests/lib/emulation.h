/*
 * emulation: whether this program's instructions are emulated (`make unit-arm64` on another machine). Then
 * there is no seccomp, other processes show the emulator's name, and all takes many times as long.
 */
#ifndef FUMIDAI_TESTS_EMULATION_H
#define FUMIDAI_TESTS_EMULATION_H

#include <stdbool.h>
#include <sys/prctl.h>

static inline bool is_emulated(void)
{
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0;
}

#endif
