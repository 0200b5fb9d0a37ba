/* Steps of a run as a file, and the step table that they tell: what links a run of the engine to a
 * simulation of another one. */
#ifndef ANEMO_SERVE_STEPS_H
#define ANEMO_SERVE_STEPS_H

#include "harness/serve/drive.h"
#include "harness/serve/simulate.h"

typedef struct anemo_steps {
    anemo_drive_step *step;
    int64_t n, capacity;
    double probe_bytes_per_s; /* read bandwidth beside the run; 0: not probed */
} anemo_steps;

/* false: no memory. */
bool anemo_steps_add(anemo_steps *steps, const anemo_drive_step *step);
void anemo_steps_free(anemo_steps *steps);

/* CSV: "# read_bytes_per_s=X", a heading, begin_s,prompt_tokens,decoding,seconds. */
anemo_status anemo_steps_write(const anemo_steps *steps, const char *path, anemo_error *err);
anemo_status anemo_steps_read(const char *path, anemo_steps *out, anemo_error *err);

/* Least squares of seconds over the table's own form (curves with knots where there are steps, and
 * what a mixed step shares), so that busy times add up. ANEMO_E_INPUT: too few steps. */
anemo_status anemo_steps_fit(const anemo_steps *steps, anemo_step_table *out, anemo_error *err);
/* What the table says the steps took together, over what they took. */
double anemo_steps_ratio(const anemo_steps *steps, const anemo_step_table *table);

#endif
