/* Shared options through argp, strict values, the device and the way out. See common.h.
 *
 * argp prints --help and wrong options; its shared half is a child parser whose options are those
 * of the spec's mask, so that a command refuses what would have no effect on it. */
#include "harness/cli/common.h"

#include "anemo_config.h"
#include "harness/cli/plugin.h"
#include "harness/measure/choices.h"
#include "harness/measure/machine.h"
#include "harness/measure/placement.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_REPEATS  64   /* --with and --plugin */
#define MAX_CPUS     4096 /* of one machine */
#define MAX_ARGUMENT 256

struct anemo_cli_private {
    const anemo_cli_spec *spec;
    void *context;
    const char *with[MAX_REPEATS];
    const char *arguments[MAX_ARGUMENT];
    char *output;  /* where the result shall lie */
    char *partial; /* where it is written until it is whole; NULL: written in place */
};

static const char *command_name = "anemo"; /* for messages; set by anemo_cli_parse */
static const char *unfinished; /* the partial output of the command that runs, or NULL */

/* ---------------------------------------------------------------- the way out */

int anemo_cli_exit_code(anemo_status status) {
    switch (status) {
    case ANEMO_OK:
        return ANEMO_EXIT_OK;
    case ANEMO_E_INPUT:
    case ANEMO_E_UNSUPPORTED:
        return ANEMO_EXIT_USAGE;
    case ANEMO_E_NUMERIC:
        return ANEMO_EXIT_INCORRECT;
    case ANEMO_E_CANCELLED:
        return ANEMO_EXIT_INTERRUPTED;
    case ANEMO_E_MEMORY:
    case ANEMO_E_DEVICE:
    case ANEMO_E_IO:
    case ANEMO_E_LIBRARY:
        break;
    }
    return ANEMO_EXIT_ENVIRONMENT;
}

int anemo_cli_worse(int a, int b) {
    static const int order[] = {ANEMO_EXIT_INTERRUPTED, ANEMO_EXIT_USAGE,  ANEMO_EXIT_ENVIRONMENT,
                                ANEMO_EXIT_INCORRECT,   ANEMO_EXIT_TARGET, ANEMO_EXIT_NOT_MEASURED,
                                ANEMO_EXIT_INCONCLUSIVE};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (a == order[i] || b == order[i])
            return order[i];
    return ANEMO_EXIT_OK;
}

int anemo_cli_fail(anemo_status status, const anemo_error *err) {
    const char *text = err && err->text[0] ? err->text : anemo_status_name(status);
    fprintf(stderr, "%s: error: %s\n", command_name, text);
    return anemo_cli_exit_code(status);
}

void anemo_cli_warn(const char *format, ...) {
    va_list list;
    va_start(list, format);
    fprintf(stderr, "%s: warning: ", command_name);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}

_Noreturn void anemo_cli_usage(const char *format, ...) {
    va_list list;
    va_start(list, format);
    fprintf(stderr, "%s: ", command_name);
    vfprintf(stderr, format, list);
    fprintf(stderr, "\nTry '%s --help'.\n", command_name);
    va_end(list);
    if (unfinished) /* options that contradict each other are found after it was opened */
        unlink(unfinished);
    exit(ANEMO_EXIT_USAGE);
}

/* ---------------------------------------------------------------- strict values */

int64_t anemo_cli_integer(const char *option, const char *value, int64_t least, int64_t most) {
    char *end;
    errno = 0;
    intmax_t number = strtoimax(value, &end, 10);
    bool digits = (value[0] >= '0' && value[0] <= '9') ||
                  ((value[0] == '-' || value[0] == '+') && value[1] >= '0' && value[1] <= '9');
    if (!digits || *end || errno || number < least || number > most)
        anemo_cli_usage("%s '%s': expected a whole number from %" PRId64 " to %" PRId64, option,
                        value, least, most);
    return number;
}

double anemo_cli_real(const char *option, const char *value, double least, double most) {
    char *end;
    double number = strtod(value, &end);
    bool starts_well = value[0] && !strchr(" \t\n\v\f\r", value[0]);
    if (!starts_well || end == value || *end || !(number >= least && number <= most))
        anemo_cli_usage("%s '%s': expected a number from %g to %g", option, value, least, most);
    return number;
}

int anemo_cli_choice(const char *option, const char *value, const char *const *names) {
    char list[256] = "";
    for (int i = 0; names[i]; i++) {
        if (strcmp(value, names[i]) == 0)
            return i;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
    }
    anemo_cli_usage("%s '%s': expected one of %s", option, value, list);
}

int64_t anemo_cli_window(const char *option, const char *value) {
    if (strcmp(value, "model") == 0)
        return -1;
    if (strcmp(value, "none") == 0)
        return 0;
    if (value[0] < '0' || value[0] > '9')
        anemo_cli_usage("%s '%s': expected model, none or a number of keys", option, value);
    return anemo_cli_integer(option, value, 1, 1 << 30);
}

const char *anemo_cli_kv_type(const char *option, const char *value) {
    anemo_kv_type type;
    if (!anemo_kv_type_from_name(value, &type))
        anemo_cli_usage("%s '%s': expected one of f32, f16, bf16, q8", option, value);
    return anemo_kv_type_name(type);
}

static uint64_t parse_seed(const char *value) {
    char *end;
    errno = 0;
    uintmax_t number = strtoumax(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || errno || number > UINT64_MAX)
        anemo_cli_usage("--seed '%s': expected a whole number from 0 to %" PRIu64, value,
                        UINT64_MAX);
    return number;
}

static void parse_device(anemo_cli *cli, const char *value) {
    cli->ordinal = 0;
    if (strcmp(value, "cpu") == 0)
        cli->backend = ANEMO_CPU;
    else if (strcmp(value, "cuda") == 0)
        cli->backend = ANEMO_CUDA;
    else if (strncmp(value, "cuda:", 5) == 0) {
        cli->backend = ANEMO_CUDA;
        cli->ordinal = (int32_t)anemo_cli_integer("--device cuda:N", value + 5, 0, 1023);
    } else {
        anemo_cli_usage("--device '%s': expected cpu, cuda or cuda:N", value);
    }
}

/* ---------------------------------------------------------------- output */

/* A regular file is written beside its place and renamed at the end; anything else (a pipe,
 * /dev/null) in place. Opened now, so that a bad path is known before a long measurement. */
static void open_output(anemo_cli *cli) {
    struct anemo_cli_private *own = cli->own;
    struct stat there;
    if (!own->output || strcmp(own->output, "-") == 0)
        return;
    const char *path = own->output;
    if (stat(path, &there) != 0 || S_ISREG(there.st_mode)) {
        if (asprintf(&own->partial, "%s.partial-%ld", own->output, (long)getpid()) < 0)
            abort();
        path = own->partial;
    }
    cli->out = fopen(path, "w");
    if (!cli->out)
        anemo_cli_usage("--output '%s': %s", own->output, strerror(errno));
    unfinished = own->partial;
}

int anemo_cli_close(anemo_cli *cli, int code) {
    struct anemo_cli_private *own = cli->own;
    bool drop = own->partial &&
                (cli->discard || code == ANEMO_EXIT_USAGE || code == ANEMO_EXIT_ENVIRONMENT);
    errno = 0;
    bool written = fflush(cli->out) == 0 && !ferror(cli->out);
    if (cli->out != stdout)
        written = fclose(cli->out) == 0 && written;
    if (written && own->partial && !drop)
        written = rename(own->partial, own->output) == 0;
    if (!written && !drop) {
        fprintf(stderr, "%s: error: cannot write %s: %s\n", command_name,
                own->output ? own->output : "standard output", strerror(errno));
        code = anemo_cli_worse(code, ANEMO_EXIT_ENVIRONMENT);
    }
    if (own->partial && (drop || !written))
        unlink(own->partial);
    unfinished = NULL;
    free(own->partial);
    free(own);
    cli->own = NULL;
    return code;
}

/* ---------------------------------------------------------------- parsing */

enum { KEY_OUTPUT = 'o', KEY_FORMAT = 256, KEY_SEED, KEY_THREADS, KEY_DEVICE, KEY_FILTER };
enum {
    KEY_PLUGIN = KEY_FILTER + 1,
    KEY_WITH,
    KEY_RECORD,
    KEY_QUIET,
    KEY_ISA,
    KEY_PACKED,
    KEY_CHOICES,
    KEY_PLACEMENT
};

static const struct {
    uint32_t bit;
    struct argp_option option;
} shared_options[] = {
    {ANEMO_CLI_FORMAT, {"format", KEY_FORMAT, "FORMAT", 0, "text (default), json, csv or md", 0}},
    {ANEMO_CLI_OUTPUT, {"output", KEY_OUTPUT, "FILE", 0, "write the result there", 0}},
    {ANEMO_CLI_SEED, {"seed", KEY_SEED, "N", 0, "seed of everything random (default 1)", 0}},
    {ANEMO_CLI_THREADS,
     {"threads", KEY_THREADS, "N", 0, "CPU threads (default: one per core, each bound)", 0}},
    {ANEMO_CLI_THREADS,
     {"placement", KEY_PLACEMENT, "POLICY", 0,
      "where they go: scatter (default), compact, one-per-core, fast-cores", 0}},
    {ANEMO_CLI_DEVICE, {"device", KEY_DEVICE, "DEVICE", 0, "cpu (default), cuda or cuda:N", 0}},
    {ANEMO_CLI_FILTER, {"filter", KEY_FILTER, "TEXT", 0, "only what has TEXT in its name", 0}},
    {ANEMO_CLI_PLUGIN,
     {"plugin", KEY_PLUGIN, "FILE.so", 0, "load the variants of a plug-in; may be repeated", 0}},
    {ANEMO_CLI_WITH,
     {"with", KEY_WITH, "RULE", 0,
      "force a variant: OP[@ROLE][:m=LO..HI]=VARIANT; may be repeated. "
      "batch-invariant: a token's bits do not depend on its batch",
      0}},
    {ANEMO_CLI_RECORD,
     {"record", KEY_RECORD, "FILE|DIR", 0,
      "append records there (a directory: DIR/MACHINE/SUITE.jsonl)", 0}},
    {ANEMO_CLI_ISA,
     {"isa", KEY_ISA, "LEVEL", 0,
      "as on a lesser processor: baseline, avx2, avx512 (without VNNI, BF16), native (default)",
      0}},
    {ANEMO_CLI_CHOICES,
     {"choices", KEY_CHOICES, "FILE", 0,
      "variants as `anemo tune` found them on this machine; --with goes before", 0}},
    {ANEMO_CLI_PACKED,
     {"packed-cache", KEY_PACKED, "DIR", 0,
      "keep packed weights there, and map them the next time; refused and written anew when they "
      "are "
      "not this model's",
      0}},
    {ANEMO_CLI_QUIET, {"quiet", KEY_QUIET, NULL, 0, "no progress line", 0}},
};
#define N_SHARED (sizeof shared_options / sizeof *shared_options)

static void load_plugin(const char *path) {
    anemo_error err = {0};
    anemo_status status = anemo_plugin_load(path, &err);
    if (status != ANEMO_OK)
        exit(anemo_cli_fail(status, &err));
}

static void limit_isa(const char *value) {
    anemo_error err = {0};
    if (anemo_isa_limit(value, &err) != ANEMO_OK)
        anemo_cli_usage("--isa: %s", err.text);
}

static error_t parse_shared(int key, char *value, struct argp_state *state) {
    static const char *const formats[] = {"text", "json", "csv", "md", NULL};
    anemo_cli *cli = state->input;
    struct anemo_cli_private *own = cli->own;
    switch (key) {
    case KEY_FORMAT:
        cli->format = (anemo_cli_format)anemo_cli_choice("--format", value, formats);
        return 0;
    case KEY_OUTPUT:
        own->output = value;
        cli->output = value;
        return 0;
    case KEY_SEED:
        cli->seed = parse_seed(value);
        return 0;
    case KEY_THREADS:
        cli->threads = (int32_t)anemo_cli_integer("--threads", value, 1, MAX_CPUS);
        return 0;
    case KEY_PLACEMENT:
        anemo_placement_choose(
            (anemo_placement)anemo_cli_choice("--placement", value, anemo_placement_names));
        return 0;
    case KEY_DEVICE:
        parse_device(cli, value);
        return 0;
    case KEY_FILTER:
        cli->filter = value;
        return 0;
    case KEY_PLUGIN:
        load_plugin(value);
        return 0;
    case KEY_WITH:
        if (cli->n_with == MAX_REPEATS)
            anemo_cli_usage("--with may be given %d times at most", MAX_REPEATS);
        own->with[cli->n_with++] = value;
        return 0;
    case KEY_RECORD:
        cli->record = value;
        return 0;
    case KEY_QUIET:
        cli->quiet = true;
        return 0;
    case KEY_PACKED:
        cli->packed_cache = value;
        return 0;
    case KEY_CHOICES:
        cli->choices = value;
        return 0;
    case KEY_ISA:
        limit_isa(value);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_own(int key, char *value, struct argp_state *state) {
    anemo_cli *cli = state->input;
    struct anemo_cli_private *own = cli->own;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = cli;
        return 0;
    case ARGP_KEY_ARG:
        if (cli->n_arguments >= own->spec->max_arguments || cli->n_arguments == MAX_ARGUMENT)
            anemo_cli_usage("'%s' is one argument too many", value);
        own->arguments[cli->n_arguments++] = value;
        return 0;
    case ARGP_KEY_END:
        if (cli->n_arguments < own->spec->min_arguments)
            anemo_cli_usage("expected %s", own->spec->arguments);
        return 0;
    default:
        if (key >= ANEMO_CLI_KEY(0) && key < ARGP_KEY_END && own->spec->option &&
            own->spec->option(key, value, own->context))
            return 0;
        return ARGP_ERR_UNKNOWN;
    }
}

void anemo_cli_parse(const anemo_cli_spec *spec, int argc, char **argv, void *context,
                     anemo_cli *cli) {
    struct anemo_cli_private *own = calloc(1, sizeof *own);
    struct argp_option shared[N_SHARED + 2] = {{0}};
    char *doc = NULL;
    int n = 0;
    command_name = argv[0];
    if (!own || asprintf(&doc, "%s\vExample:\n%s\n", spec->about, spec->example) < 0)
        abort();
    own->spec = spec;
    own->context = context;
    *cli = (anemo_cli){.out = stdout, .seed = 1, .own = own};
    cli->with = own->with;
    cli->arguments = own->arguments;
    for (size_t i = 0; i < N_SHARED; i++)
        if (spec->shared & shared_options[i].bit)
            shared[n++] = shared_options[i].option;
    struct argp shared_parser = {.options = shared, .parser = parse_shared};
    struct argp_child children[2] = {{&shared_parser, 0, n ? "Shared options:" : NULL, 0}, {0}};
    struct argp parser = {.options = spec->options,
                          .parser = parse_own,
                          .args_doc = spec->arguments,
                          .doc = doc,
                          .children = children};
    argp_err_exit_status = ANEMO_EXIT_USAGE;
    argp_parse(&parser, argc, argv, 0, NULL, cli);
    free(doc);
    open_output(cli);
}

/* ---------------------------------------------------------------- device, model, records */

anemo_status anemo_cli_open_device(const anemo_cli *cli, anemo_device **out, anemo_error *err) {
    if (cli->backend == ANEMO_CUDA) { /* that there is none is the environment's fault */
        const anemo_status made = anemo_device_create_cuda(cli->ordinal, out, err);
        return made == ANEMO_E_UNSUPPORTED ? ANEMO_E_DEVICE : made;
    }
    int32_t cpus[MAX_CPUS], n = 0;
    anemo_status status = anemo_machine_placement(cli->threads, cpus, MAX_CPUS, &n, err);
    if (status != ANEMO_OK)
        return status;
    return anemo_device_create_cpu(n, cpus, out, err);
}

anemo_status anemo_cli_open_choices(const anemo_cli *cli, anemo_device *device, const char *kv_type,
                                    anemo_choices **out, anemo_error *err) {
    *out = NULL;
    const anemo_status status =
        cli->choices ? anemo_choices_read(cli->choices, device, out, err) : ANEMO_OK;
    if (*out && (*out)->warning[0])
        anemo_cli_warn("%s: %s", cli->choices, (*out)->warning);
    if (*out && (*out)->n_common < (*out)->n_rules && strcmp((*out)->kv_type, kv_type) != 0)
        anemo_cli_warn("%s: swa and rope_append were measured with keys and values in %s, this run "
                       "has %s: they keep their defaults",
                       cli->choices, (*out)->kv_type, kv_type);
    return status;
}

static bool is_model(const char *folder) {
    char path[4200];
    struct stat there;
    snprintf(path, sizeof path, "%s/config.json", folder);
    return stat(path, &there) == 0;
}

anemo_status anemo_cli_default_model(char *path, size_t path_bytes, anemo_error *err) {
    const char *asked = getenv("ANEMO_MODEL_DIR");
    const char *places[] = {ANEMO_SOURCE_DIR "/models/default", ANEMO_DATA_DIR "/default"};
    if (asked && *asked) {
        snprintf(path, path_bytes, "%s", asked);
        if (is_model(asked))
            return ANEMO_OK;
        return anemo_fail(err, ANEMO_E_INPUT,
                          "ANEMO_MODEL_DIR '%s': expected a directory with a config.json", asked);
    }
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, path_bytes, "%s", places[i]);
        if (is_model(path))
            return ANEMO_OK;
    }
    return anemo_fail(err, ANEMO_E_INPUT,
                      "the embedded model is neither in %s nor in %s; ANEMO_MODEL_DIR can name its "
                      "directory",
                      places[0], places[1]);
}

anemo_status anemo_cli_find_model(const char *asked, char *path, size_t path_bytes, bool *embedded,
                                  anemo_error *err) {
    char own[4096];
    anemo_status status = anemo_cli_default_model(own, sizeof own, err);
    *embedded = true;
    snprintf(path, path_bytes, "%s", asked ? asked : own);
    if (!asked)
        return status;
    char *real = realpath(asked, NULL), *real_own = status ? NULL : realpath(own, NULL);
    *embedded = real && real_own && strcmp(real, real_own) == 0;
    free(real);
    free(real_own);
    return ANEMO_OK;
}

/* results/FOLDER/NAME beside the source, else installed. */
static anemo_status find_data(const char *folder, const char *name, char *path, size_t path_bytes,
                              anemo_error *err) {
    static const char *const places[] = {ANEMO_SOURCE_DIR "/results", ANEMO_DATA_DIR};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, path_bytes, "%s/%s/%s", places[i], folder, name);
        if (access(path, R_OK) == 0)
            return ANEMO_OK;
    }
    return anemo_fail(err, ANEMO_E_INPUT, "%s is neither in %s/%s nor in %s/%s", name, places[0],
                      folder, places[1], folder);
}

anemo_status anemo_cli_defaults(const char *name, char *path, size_t path_bytes, anemo_error *err) {
    return find_data("defaults", name, path, path_bytes, err);
}

anemo_status anemo_cli_reference(const char *name, char *path, size_t path_bytes,
                                 anemo_error *err) {
    return find_data("reference", name, path, path_bytes, err);
}

anemo_status anemo_cli_open_sink(const anemo_cli *cli, const char *suite, anemo_record_sink **out,
                                 anemo_error *err) {
    struct stat there;
    const char *path = cli->record;
    if (!path)
        return anemo_record_sink_open(NULL, out, err);
    size_t n = strlen(path);
    bool folder = n && (path[n - 1] == '/' || (stat(path, &there) == 0 && S_ISDIR(there.st_mode)));
    if (!folder)
        return anemo_record_sink_open(path, out, err);
    char *whole = NULL;
    if (asprintf(&whole, "%s%s%s/%s.jsonl", path, path[n - 1] == '/' ? "" : "/",
                 anemo_machine_get()->id, suite) < 0)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a path");
    anemo_status status = anemo_record_sink_open(whole, out, err);
    free(whole);
    return status;
}
