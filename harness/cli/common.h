/* What every command shares: options that mean the same everywhere, strict numbers, the device,
 * the way out (exit codes, errors, interrupts), and progress.
 *
 * A command fills an anemo_cli_spec, calls anemo_cli_parse and works with the anemo_cli it gets:
 *
 *     static bool option(int key, const char *value, void *own) { ... }
 *     int anemo_cmd_list(int argc, char **argv) {
 *         static const anemo_cli_spec spec = {.arguments = "[WHAT]", .max_arguments = 1,
 *             .about = "...", .example = "anemo list variants", .shared = ANEMO_CLI_FORMAT};
 *         anemo_cli cli;
 *         anemo_cli_parse(&spec, argc, argv, NULL, &cli);
 *         int code = ...; print to cli.out ...
 *         return anemo_cli_close(&cli, code);
 *     }
 *
 * Wrong usage ends the program here with one sentence and exit code 2; that is why only
 * harness/cli may include this. */
#ifndef ANEMO_CLI_COMMON_H
#define ANEMO_CLI_COMMON_H

#include "harness/cli/command.h"
#include "harness/measure/choices.h"
#include "harness/record/record.h"
#include "kernels/device.h"

#include <argp.h>
#include <signal.h>
#include <stdio.h>

/* ---------------------------------------------------------------- options */

typedef enum anemo_cli_format {
    ANEMO_FORMAT_TEXT,
    ANEMO_FORMAT_JSON,
    ANEMO_FORMAT_CSV,
    ANEMO_FORMAT_MD
} anemo_cli_format;

/* Which shared options a command takes; the others are unknown to it. */
#define ANEMO_CLI_FORMAT  (1u << 0)  /* --format text|json|csv|md */
#define ANEMO_CLI_OUTPUT  (1u << 1)  /* --output FILE, -o FILE */
#define ANEMO_CLI_SEED    (1u << 2)  /* --seed N */
#define ANEMO_CLI_THREADS (1u << 3)  /* --threads N, --placement POLICY: taken at once */
#define ANEMO_CLI_DEVICE  (1u << 4)  /* --device cpu|cuda[:N] */
#define ANEMO_CLI_FILTER  (1u << 5)  /* --filter TEXT */
#define ANEMO_CLI_PLUGIN  (1u << 6)  /* --plugin FILE.so, repeatable: loaded while parsing */
#define ANEMO_CLI_WITH    (1u << 7)  /* --with RULE, repeatable */
#define ANEMO_CLI_RECORD  (1u << 8)  /* --record FILE|DIR */
#define ANEMO_CLI_QUIET   (1u << 9)  /* --quiet: no progress */
#define ANEMO_CLI_ISA     (1u << 10) /* --isa LEVEL: taken at once */
#define ANEMO_CLI_PACKED  (1u << 11) /* --packed-cache DIR */
#define ANEMO_CLI_CHOICES (1u << 12) /* --choices FILE */

typedef struct anemo_cli {
    anemo_cli_format format; /* --format; TEXT */
    FILE *out;               /* --output, else stdout: results go here */
    const char *output;      /* its name; NULL: stdout */
    uint64_t seed;           /* --seed; 1 */
    int32_t threads;         /* --threads; 0 = one per core that this process may use */
    anemo_backend backend;   /* --device; CPU */
    int32_t ordinal;         /* of the GPU */
    const char *filter;      /* --filter; NULL = everything */
    const char *const *with; /* --with, n_with of them */
    int32_t n_with;
    const char *record;       /* --record; NULL = none asked for */
    const char *packed_cache; /* --packed-cache; NULL = none */
    const char *choices;      /* --choices; NULL = none */
    bool quiet;
    bool discard; /* set by a command that has no result: --output FILE stays as it was */
    const char *const *arguments; /* what is not an option, in order */
    int32_t n_arguments;
    struct anemo_cli_private *own; /* common.c's */
} anemo_cli;

/* Own options have keys from here on, so that they never meet a shared one. */
#define ANEMO_CLI_KEY(i) (1000 + (i))

typedef struct anemo_cli_spec {
    const char *arguments; /* "MODEL [FILE...]", or NULL */
    int32_t min_arguments, max_arguments;
    const char *about;                 /* a sentence or two */
    const char *example;               /* whole command lines, one a line */
    uint32_t shared;                   /* ANEMO_CLI_* */
    const struct argp_option *options; /* own options, ended by {0}; or NULL */
    /* Takes an own option; false: unknown. Wrong values end in anemo_cli_usage. */
    bool (*option)(int key, const char *value, void *context);
} anemo_cli_spec;

/* Fills *cli; prints help and exits 0 on --help, exits 2 on wrong usage. */
void anemo_cli_parse(const anemo_cli_spec *spec, int argc, char **argv, void *context,
                     anemo_cli *cli);
/* Flushes the output and puts --output FILE in its place: never a half-written one, and none at all
 * when `code` is USAGE or ENVIRONMENT, or `discard` is set. Returns `code`, or ENVIRONMENT when the
 * output could not be written. */
int anemo_cli_close(anemo_cli *cli, int code);

/* ---------------------------------------------------------------- strict values */

/* "anemo run: SENTENCE" and a hint at --help on stderr; exits 2. */
_Noreturn void anemo_cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The whole text must be a number in [least, most]; else usage naming option, value and range. */
int64_t anemo_cli_integer(const char *option, const char *value, int64_t least, int64_t most);
double anemo_cli_real(const char *option, const char *value, double least, double most);
/* --window: "model" -1, "none" 0, or N keys. */
int64_t anemo_cli_window(const char *option, const char *value);
/* --kv: the name of an anemo_kv_type. */
const char *anemo_cli_kv_type(const char *option, const char *value);
/* Index of value in names (ended by NULL); else usage listing them. */
int anemo_cli_choice(const char *option, const char *value, const char *const *names);

/* ---------------------------------------------------------------- device, model, records */

/* The device that --device and --threads ask for, its threads bound one per core. */
anemo_status anemo_cli_open_device(const anemo_cli *cli, anemo_device **out, anemo_error *err);
/* What --choices names, read and checked against machine and device, for keys and values of this
 * type; a remark on stderr where its times may not hold, or some of it does not count. NULL without
 * the option. */
anemo_status anemo_cli_open_choices(const anemo_cli *cli, anemo_device *device, const char *kv_type,
                                    anemo_choices **out, anemo_error *err);
/* The embedded model: $ANEMO_MODEL_DIR, else models/default beside the source, else the installed
 * one. ANEMO_E_INPUT says where it was looked for. */
anemo_status anemo_cli_default_model(char *path, size_t path_bytes, anemo_error *err);

/* The model that `asked` names, or the embedded one when it is NULL; *embedded also when `asked`
 * leads to that directory by another name: its figures are no basis for money. */
anemo_status anemo_cli_find_model(const char *asked, char *path, size_t path_bytes, bool *embedded,
                                  anemo_error *err);
/* A file of results/defaults/ by name: beside the source, else installed. */
anemo_status anemo_cli_defaults(const char *name, char *path, size_t path_bytes, anemo_error *err);
/* A file of results/reference/ by name, likewise. */
anemo_status anemo_cli_reference(const char *name, char *path, size_t path_bytes, anemo_error *err);
/* Where --record says: a file, or in a directory DIR/<machine id>/<suite>.jsonl (a directory is one
 * that exists, or a name that ends in '/'). Without --record: a sink that goes nowhere. */
anemo_status anemo_cli_open_sink(const anemo_cli *cli, const char *suite, anemo_record_sink **out,
                                 anemo_error *err);

/* ---------------------------------------------------------------- the way out */

int anemo_cli_exit_code(anemo_status status);
/* The code that wins when both apply: 130, then 2, 6, 3, 1, 5, 4, 0. */
int anemo_cli_worse(int a, int b);
/* "anemo run: error: SENTENCE" on stderr; returns the exit code of the status. */
int anemo_cli_fail(anemo_status status, const anemo_error *err);
/* A remark on stderr, "anemo run: warning: ...". */
void anemo_cli_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ctrl-C and SIGTERM set a flag; long loops poll it, stop, and return INTERRUPTED. A second one
 * ends the program at once. */
void anemo_cli_catch_interrupts(void);
bool anemo_cli_interrupted(void);
const volatile sig_atomic_t *anemo_cli_interrupt_flag(void); /* for what polls by itself */

/* ---------------------------------------------------------------- progress */

/* One line on stderr, only on a terminal and not with --quiet: label, bar, share, time left. */
typedef struct anemo_progress {
    bool shown;
    const char *label;
    double total, start_s, drawn_s;
} anemo_progress;
anemo_progress anemo_progress_start(const anemo_cli *cli, const char *label, double total);
void anemo_progress_show(anemo_progress *progress, double done, const char *what);
void anemo_progress_end(anemo_progress *progress); /* wipes the line */
/* For anemo_plan_options.on_pack: draws on the anemo_progress `ctx`; false once interrupted. */
bool anemo_progress_packing(void *ctx, double done, double total);

#endif
