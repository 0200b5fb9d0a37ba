/* anemo: picks the command; everything else lives in cmd_<name>.c. */
#include "harness/cli/command.h"
#include "harness/cli/common.h"

#include "anemo_config.h"
#include "harness/measure/code_pages.h"

#include <string.h>

typedef enum reader { EVERYONE, ENGINEER, BUYER, CI, READERS } reader;

static const char *const reader_title[READERS] = {"Everyday", "Kernels and models",
                                                  "Machines and money", "Continuous integration"};

typedef struct command {
    const char *name;
    reader reader;
    const char *summary;
    int (*run)(int argc, char **argv);
} command;

static const command commands[] = {
#define ANEMO_COMMAND(name, reader, summary) {#name, reader, summary, anemo_cmd_##name},
#include "harness/cli/commands.inc"
#undef ANEMO_COMMAND
    {0}};

static void print_help(FILE *out) {
    fputs("anemo measures open-weight models on your own hardware, from one kernel to the "
          "invoice.\n\nUsage: anemo COMMAND [OPTION...]\n",
          out);
    for (int r = 0; r < READERS; r++) {
        bool titled = false;
        for (const command *c = commands; c->name; c++) {
            if ((int)c->reader != r)
                continue;
            if (!titled)
                fprintf(out, "\n%s\n", reader_title[r]);
            titled = true;
            fprintf(out, "  %-10s %s\n", c->name, c->summary);
        }
    }
    fputs("\n'anemo COMMAND --help' explains a command, with an example. 'anemo --version' says "
          "what was built.\nExit codes: 0 ok, 1 target missed, 2 usage or bad input, 3 wrong "
          "result, 4 inconclusive,\n5 something due was not measured, 6 environment, 130 "
          "interrupted.\n",
          out);
}

static void print_version(void) {
    printf("anemo %s (%s, %s; CUDA %s, OpenBLAS %s, hwloc %s, PAPI %s)\n", ANEMO_VERSION,
           ANEMO_COMPILER, ANEMO_BUILD_TYPE, ANEMO_HAVE_CUDA ? "yes" : "no",
           ANEMO_HAVE_OPENBLAS ? "yes" : "no", ANEMO_HAVE_HWLOC ? "yes" : "no",
           ANEMO_HAVE_PAPI ? "yes" : "no");
}

/* Edit distance with swaps of neighbours (Damerau, restricted), for words of at most 31 letters. */
static int distance(const char *a, const char *b) {
    int d[32][32];
    int n = (int)strlen(a), m = (int)strlen(b);
    if (n > 31 || m > 31)
        return 99;
    for (int i = 0; i <= n; i++)
        for (int j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

static int unknown_command(const char *name) {
    const char *nearest = NULL;
    int least = 3; /* more than two edits away is no suggestion */
    for (const command *c = commands; c->name; c++) {
        int apart = distance(name, c->name);
        if (strlen(name) >= 2 && strncmp(name, c->name, strlen(name)) == 0)
            apart = 1;
        if (apart < least) {
            least = apart;
            nearest = c->name;
        }
    }
    fprintf(stderr, "anemo: '%s' is not a command; ", name);
    if (nearest)
        fprintf(stderr, "did you mean '%s'? ", nearest);
    fputs("'anemo --help' lists them\n", stderr);
    return ANEMO_EXIT_USAGE;
}

int main(int argc, char **argv) {
    anemo_code_to_huge_pages();
    anemo_cli_catch_interrupts();
    if (argc < 2) {
        print_help(stderr);
        return ANEMO_EXIT_USAGE;
    }
    const char *name = argv[1];
    bool help_of = strcmp(name, "help") == 0 && argc > 2;
    if (!help_of && (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 ||
                     strcmp(name, "-h") == 0 || strcmp(name, "-?") == 0)) {
        print_help(stdout);
        return ANEMO_EXIT_OK;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        print_version();
        return ANEMO_EXIT_OK;
    }
    if (name[0] == '-') {
        fprintf(stderr, "anemo: unknown option '%s'; a command comes first, see 'anemo --help'\n",
                name);
        return ANEMO_EXIT_USAGE;
    }
    if (help_of)
        name = argv[2];
    for (const command *c = commands; c->name; c++) {
        if (strcmp(name, c->name) != 0)
            continue;
        char title[64], *help[] = {title, "--help", NULL};
        snprintf(title, sizeof title, "anemo %s", c->name);
        if (help_of)
            return c->run(2, help);
        argv[1] = title;
        return c->run(argc - 1, argv + 1);
    }
    return unknown_command(name);
}
