/* Static figures of two builds: no times, so they are compared exactly, and a difference is shown
 * and labelled, never judged. Code size of every variant; the accuracy signature of the reference
 * path; memory of a decode of the embedded model; instructions of that decode as on an AVX2
 * machine, counted by callgrind (valgrind knows no AVX-512); registers and spills of CUDA code,
 * read by cuobjdump. A tool that is not there is a skip that says so. */
#ifndef ANEMO_GATE_STATIC_H
#define ANEMO_GATE_STATIC_H

#include "harness/gate/gate.h"

typedef struct anemo_gate_figure {
    char what[160];
    char base[100], head[100];
    char skipped[200]; /* why it was not compared; "": it was */
} anemo_gate_figure;

typedef struct anemo_gate_figures {
    anemo_gate_figure *figure; /* those that differ, and skips */
    int32_t n;
    int32_t compared, different;
} anemo_gate_figures;

/* base must be a program. Takes some 15 s with valgrind. ANEMO_E_CANCELLED: interrupted between
 * two of them. Free them in any case. */
anemo_status anemo_gate_figures_take(const anemo_gate_setting *setting, anemo_gate_figures *out,
                                     anemo_error *err);
void anemo_gate_figures_free(anemo_gate_figures *figures);

#endif
