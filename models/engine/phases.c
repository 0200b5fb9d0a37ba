/* The calls of a step by number, for whoever watches it through anemo_plan_mark(). A call is known
 * by op and role, as in `--with`; the quantisation of its input is a phase of its own. */
#include <string.h>

#include "models/engine/plan.h"

static const struct {
    anemo_op op;
    const char *role;
    anemo_phase_class class;
} calls[ANEMO_CALLS] = {
#define ANEMO_CALL_ROW(op, role, class) {ANEMO_OP_##op, role, ANEMO_PHASE_CLASS_##class},
    ANEMO_CALL_LIST(ANEMO_CALL_ROW)
#undef ANEMO_CALL_ROW
};

int32_t anemo_phase_of(anemo_op op, const char *role) {
    for (int32_t i = 0; i < ANEMO_CALLS; i++) {
        if (calls[i].op == op && strcmp(calls[i].role, role) == 0) {
            return i;
        }
    }
    return ANEMO_PHASE_NONE;
}

int32_t anemo_phase_of_quantising(int32_t consumer) {
    return consumer + ANEMO_CALLS;
}

anemo_phase anemo_phase_describe(int32_t phase) {
    if (phase == ANEMO_PHASE_HOST) {
        return (anemo_phase){.class = ANEMO_PHASE_CLASS_HOST, .op = ANEMO_OP_COUNT, .role = ""};
    }
    const int32_t call = phase % ANEMO_CALLS;
    return (anemo_phase){.class = calls[call].class,
                         .op = phase < ANEMO_CALLS ? calls[call].op : ANEMO_OP_QUANTIZE_ACT,
                         .consumer = calls[call].op,
                         .role = calls[call].role};
}

const char *anemo_phase_class_name(anemo_phase_class class) {
    static const char *const names[ANEMO_PHASE_CLASS_COUNT] = {
#define ANEMO_PHASE_CLASS_NAME(id, name) name,
        ANEMO_PHASE_CLASS_LIST(ANEMO_PHASE_CLASS_NAME)
#undef ANEMO_PHASE_CLASS_NAME
    };
    return names[class];
}
