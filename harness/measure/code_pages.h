/* Where the program's own code lies. */
#ifndef ANEMO_CODE_PAGES_H
#define ANEMO_CODE_PAGES_H

#include <stddef.h>

/* Moves the program's code into huge pages, at the same addresses. In small ones its physical
 * addresses are those of the file in the page cache, and copies of one file differ in speed for as
 * long as they are there: the 6 x 32 AVX2 tile by up to 5 % on Zen 5. Before threads start. Returns
 * the bytes that were moved; 0: none, because the system has no huge pages, the program is linked
 * another way, a sanitizer watches, this is not x86-64, or ANEMO_CODE_PAGES=small asks for it
 * (valgrind does not follow such a move). */
size_t anemo_code_to_huge_pages(void);
/* What that returned. */
size_t anemo_code_huge_bytes(void);

#endif
