/*
 * relro: read-only after relocation, for a program that no loader starts.
 *
 * The program is loaded anywhere, so its start code adds the base address to every pointer in its data, once;
 * what holds nothing else (tables of functions and names) can be read-only from then on. The linker marks it
 * (PT_GNU_RELRO) and a dynamic loader would act on the mark, but a static program has none, and musl's start
 * code relocates without protecting.
 */
#ifndef FUMIDAI_HOST_RELRO_H
#define FUMIDAI_HOST_RELRO_H

#include "base/error.h"

/* First thing in main. Changes nothing in a program that a loader has started. */
int relro_protect(struct error *err);

#endif
