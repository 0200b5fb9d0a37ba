#include "harness/measure/code_pages.h"

#include "anemo_config.h"

#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((uintptr_t)2 << 20)

typedef struct code_range {
    uintptr_t begin, end; /* of the executable segment */
    uintptr_t next;       /* where the one behind it begins */
} code_range;

static int find_code(struct dl_phdr_info *info, size_t bytes, void *context) {
    code_range *code = context;
    (void)bytes;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        const uintptr_t at = info->dlpi_addr + h->p_vaddr;
        if (h->p_type == PT_LOAD && h->p_flags & PF_X) {
            code->begin = at;
            code->end = at + h->p_memsz;
        } else if (h->p_type == PT_LOAD && code->end && at >= code->end && !code->next) {
            code->next = at;
        }
    }
    return 1; /* the program comes first; the libraries behind it do not matter */
}

/* Huge pages that the code has for itself: [from, to), possibly none. */
static void whole_pages(const code_range *code, uintptr_t *from, uintptr_t *to) {
    *from = (code->begin + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    *to = (code->end + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    if (code->next && code->next < *to) {
        *to -= HUGE_PAGE;
    }
}

#if ANEMO_SANITIZE || defined __SANITIZE_THREAD__ || !defined __x86_64__
#define MAY_MOVE 0 /* the sanitizers keep books of what is mapped; elsewhere this is untested */
#else
#define MAY_MOVE 1
#endif

static size_t moved_bytes;

size_t anemo_code_huge_bytes(void) {
    return moved_bytes;
}

size_t anemo_code_to_huge_pages(void) {
    code_range code = {0};
    const char *choice = getenv("ANEMO_CODE_PAGES");
    uintptr_t from, to;
    dl_iterate_phdr(find_code, &code);
    whole_pages(&code, &from, &to);
    if (!MAY_MOVE || from >= to || (choice && strcmp(choice, "small") == 0)) {
        return 0;
    }
    const size_t bytes = to - from, used = (code.end < to ? code.end : to) - from;
    char *room =
        mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) {
        return 0;
    }
    char *copy = (char *)(((uintptr_t)room + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    if (madvise(copy, bytes, MADV_HUGEPAGE) == 0) {
        memcpy(copy, (const void *)from, used);
        if (mprotect(copy, bytes, PROT_READ | PROT_EXEC) == 0 &&
            mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)from) ==
                (void *)from) {
            munmap(room, (size_t)(copy - room)); /* what is left of it on both sides */
            munmap(copy + bytes, (size_t)(room + HUGE_PAGE - copy));
            moved_bytes = bytes;
            return bytes;
        }
    }
    munmap(room, bytes + HUGE_PAGE);
    return 0;
}
