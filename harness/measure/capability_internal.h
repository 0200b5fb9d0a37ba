/* Shared by capability*.c only. */
#ifndef ANEMO_CAPABILITY_INTERNAL_H
#define ANEMO_CAPABILITY_INTERNAL_H

#include "harness/measure/capability.h"

typedef struct capability_list {
    anemo_capability *items;
    int32_t n, max;
} capability_list;

/* Adds one; NULL texts are "". The result is valid until the next call; a full list drops. */
anemo_capability *capability_add(capability_list *list, const char *group, const char *name,
                                 bool available, const char *detail);
/* What is missing costs this, and this helps. */
void capability_missing(anemo_capability *capability, const char *costs, const char *remedy);

void capability_counters(capability_list *list);
void capability_gpu(capability_list *list);

#endif
