#include "harness/gate/code_hash.h"

#include <string.h>

const anemo_code_entry *anemo_code_entry_of(const char *variant) {
    for (int32_t i = 0; i < anemo_code_table_size; i++) {
        if (strcmp(anemo_code_table[i].variant, variant) == 0) {
            return &anemo_code_table[i];
        }
    }
    return NULL;
}
