/* What a function is made of: the machine code and constants that it reaches, read from the
 * relocatable objects of a build, as one number that changes when they do.
 *
 *     anemo_code_objects *code;
 *     const char *files[] = {"libanemo_kernels.a"};
 *     status = anemo_code_open(files, 1, &code, &err);
 *     const char *roots[] = {"anemo_qgemm_c", "anemo_layout_rows"};
 *     status = anemo_code_hash(code, roots, 2, SIZE_MAX, "-O3", &answer, &err);
 *
 * The objects are built with -ffunction-sections -fdata-sections, so that a section is a function
 * or a table; relocations say who refers to whom. From the roots the whole graph is walked in the
 * order of reference and written down: bytes, alignment, and for each relocation its place, type
 * and what it leads to (the number of the section in this walk, the contents of a pooled constant
 * or string, or the name of something outside the objects, as memcpy). Its SHA-256 is the hash.
 * Names of what is inside do not enter, nor do debug sections, line numbers, or the order of files:
 * a comment, a rename or a docs commit changes nothing.
 *
 * Rejected: hashing the linked program (addresses move with everything, pooled constants are
 * merged), and hashing sources (a comment in a header would measure everything). */
#ifndef ANEMO_CODE_OBJECT_H
#define ANEMO_CODE_OBJECT_H

#include "kernels/kernel.h"

typedef struct anemo_code_objects anemo_code_objects;

/* Relocatable ELF64 little-endian objects, or archives of them. ANEMO_E_INPUT: neither.
 * ANEMO_E_UNSUPPORTED: objects without machine code in them (link-time optimisation). */
anemo_status anemo_code_open(const char *const *paths, int32_t n, anemo_code_objects **out,
                             anemo_error *err);
void anemo_code_close(anemo_code_objects *code);

typedef struct anemo_code_answer {
    char hex[65];
    int64_t code_bytes, constant_bytes; /* of what is reached; pooled constants by their use */
    int32_t sections;
    bool calls_blas; /* reaches a cblas_ or openblas_ symbol outside the objects */
} anemo_code_answer;

/* The hash of all that the symbols reach, and of `note` (flags, library versions). A relocation
 * `skipped` bytes behind the first symbol is left out (a description for people); SIZE_MAX: none.
 * ANEMO_E_INPUT: an unknown symbol. */
anemo_status anemo_code_hash(anemo_code_objects *code, const char *const *symbols, int32_t n,
                             size_t skipped, const char *note, anemo_code_answer *answer,
                             anemo_error *err);

#endif
