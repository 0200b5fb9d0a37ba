/* A command of `anemo`: one file cmd_<name>.c each, one line in commands.inc. */
#ifndef ANEMO_COMMAND_H
#define ANEMO_COMMAND_H

#include "kernels/kernel.h"

/* Exit codes, DESIGN section 6. When several apply: 2, 6, 3, 1, 5, 4. */
typedef enum anemo_exit {
    ANEMO_EXIT_OK = 0,
    ANEMO_EXIT_TARGET = 1,    /* regression, or a target missed */
    ANEMO_EXIT_USAGE = 2,     /* usage or bad input */
    ANEMO_EXIT_INCORRECT = 3, /* a kernel or a model is wrong */
    ANEMO_EXIT_INCONCLUSIVE = 4,
    ANEMO_EXIT_NOT_MEASURED = 5, /* something due was not measured */
    ANEMO_EXIT_ENVIRONMENT = 6,  /* disk full, no memory, no device */
    ANEMO_EXIT_INTERRUPTED = 130
} anemo_exit;

/* commands.inc: ANEMO_COMMAND(name, reader, summary); main() calls anemo_cmd_<name>(argc, argv)
 * with argv[0] = "anemo <name>" and returns what it returns. */
#define ANEMO_COMMAND(name, reader, summary) int anemo_cmd_##name(int argc, char **argv);
#include "harness/cli/commands.inc"
#undef ANEMO_COMMAND

#endif
