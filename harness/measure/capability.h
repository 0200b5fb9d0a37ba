/* What can be measured on this machine, found out by trying it: counters event by event, energy,
 * the GPU, libraries, what would disturb. What is missing says why, what that costs and what helps.
 * Absent is never zero: a reader must be able to tell "no energy figure" from "no energy". */
#ifndef ANEMO_CAPABILITY_H
#define ANEMO_CAPABILITY_H

#include "kernels/kernel.h"

typedef struct anemo_capability {
    const char *group; /* "counters", "energy", "GPU", "libraries", "programs", "steadiness" */
    char name[48];
    bool available;
    char detail[200]; /* what there is, or why it is missing */
    char costs[160];  /* what its absence costs; "" when available */
    char remedy[200]; /* package, setting or machine that helps; "" when available */
} anemo_capability;

#define ANEMO_CAPABILITIES_MAX 64

/* Fills list[0 .. return value), grouped; takes some tens of milliseconds. */
int32_t anemo_capabilities(anemo_capability *list, int32_t max);

/* Can a program of this name be started? */
bool anemo_program_in_path(const char *name);

#endif
