#include "host/memory.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/format.h"
#include "base/str.h"

enum { KIB = 1024, MIB = 1024 * 1024, TEXT_SIZE = 4096, PATH_SIZE = 256 };

static struct str read_text(const char *root, const char *name, char text[TEXT_SIZE])
{
    char path[PATH_SIZE];
    format_text(path, sizeof path, "%s%s", root, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, text, TEXT_SIZE) : -1;
    if (fd >= 0)
        close(fd);
    return (struct str){text, len > 0 ? (size_t) len : 0};
}

/* The first number of the text, in units of `unit` bytes; UINT64_MAX without one ("max"). */
static uint64_t number_in(struct str text, uint64_t unit)
{
    size_t start = 0;
    size_t end;
    uint64_t value;
    while (start < text.len && (text.ptr[start] < '0' || text.ptr[start] > '9'))
        start++;
    for (end = start; end < text.len && text.ptr[end] >= '0' && text.ptr[end] <= '9'; end++)
        ;
    if (!str_parse_u64(str_slice(text, start, end), &value) || value == 0 || value > UINT64_MAX / unit)
        return UINT64_MAX;
    return value * unit;
}

static uint64_t machine_total(const char *root)
{
    char text[TEXT_SIZE];
    struct str info = read_text(root, "proc/meminfo", text);
    size_t at;
    return str_find(info, "MemTotal:", &at) ? number_in(str_slice(info, at, info.len), KIB) : UINT64_MAX;
}

uint64_t memory_limit_bytes(const char *root)
{
    static const char *const groups[] = {"sys/fs/cgroup/memory.max",
                                         "sys/fs/cgroup/memory/memory.limit_in_bytes"};
    char text[TEXT_SIZE];
    uint64_t limit = machine_total(root);
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        uint64_t group = number_in(read_text(root, groups[i], text), 1);
        limit = group < limit ? group : limit;
    }
    return limit == UINT64_MAX ? (uint64_t) MEMORY_DEFAULT_MIB * MIB : limit;
}

void *memory_map(size_t size)
{
    void *start =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return start == MAP_FAILED ? NULL : start;
}

void memory_unmap(void *start, size_t size)
{
    if (start != NULL)
        munmap(start, size);
}

void memory_forget(void *start, size_t size)
{
    (void) madvise(start, size, MADV_DONTNEED);
}
