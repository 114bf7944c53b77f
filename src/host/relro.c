#include "host/relro.h"

#include <elf.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

/* The linker's: the program's first byte in memory. It is linked at 0, so this address is the base, too. */
extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));

int relro_protect(struct error *err)
{
    uintptr_t base = (uintptr_t) &__ehdr_start;
    const Elf64_Phdr *headers = (const void *) (base + __ehdr_start.e_phoff);
    uintptr_t page_mask = ~(uintptr_t) (getauxval(AT_PAGESZ) - 1);
    for (unsigned i = 0; i < __ehdr_start.e_phnum; i++) {
        if (headers[i].p_type == PT_GNU_RELRO) {
            uintptr_t start = (base + headers[i].p_vaddr) & page_mask;
            uintptr_t end = (base + headers[i].p_vaddr + headers[i].p_memsz) & page_mask;
            if (end > start && mprotect((void *) start, end - start, PROT_READ) != 0)
                return error_set(err, ERROR_SYSTEM, "read-only relocations: mprotect: %s", strerror(errno));
        }
    }
    return 0;
}
