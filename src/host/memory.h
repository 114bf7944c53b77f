/*
 * memory: how much memory this process may use, and address space that counts only where it is touched.
 *
 * The limit is the least of what the control group says (version 2: memory.max; version 1:
 * memory.limit_in_bytes), and the machine's MemTotal. On Fargate a container often has no limit of its own;
 * the task's stands in its metadata.
 */
#ifndef FUMIDAI_HOST_MEMORY_H
#define FUMIDAI_HOST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

enum { MEMORY_DEFAULT_MIB = 512 /* the smallest Fargate task's, where nothing can be read */ };

/* `root` is "/"; tests bring their own. */
uint64_t memory_limit_bytes(const char *root);

/* Zeroed pages, null when the kernel has no address space. */
void *memory_map(size_t size);
void memory_unmap(void *start, size_t size);
/* The pages read as zeroes again and cost nothing until they are touched. */
void memory_forget(void *start, size_t size);

#endif
