/* anemo doctor: what this machine offers, what cannot be measured here, why, and what helps. */
#include "harness/cli/common.h"
#include "harness/cli/doctor.h"
#include "harness/cli/table.h"
#include "harness/measure/capability.h"
#include "harness/measure/clock.h"
#include "harness/measure/code_pages.h"
#include "harness/measure/machine.h"
#include "harness/measure/probe.h"

#include <math.h>
#include <string.h>

/* "32 KiB", "1 MiB", "23.5 GiB" */
static void bytes_text(double bytes, char *text, size_t text_bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    for (; bytes >= 1024 && unit < 4; unit++)
        bytes /= 1024;
    snprintf(text, text_bytes, bytes == floor(bytes) ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

static void row_text(anemo_table *table, const char *what, const char *value) {
    anemo_table_text(table, "%s", what);
    if (value && *value)
        anemo_table_text(table, "%s", value);
    else
        anemo_table_absent(table);
}

static void row_number(anemo_table *table, const char *what, double value, const char *shown) {
    anemo_table_text(table, "%s", what);
    anemo_table_number(table, value, shown);
}

static void row_bytes(anemo_table *table, const char *what, int64_t bytes) {
    char text[32];
    anemo_table_text(table, "%s", what);
    bytes_text((double)bytes, text, sizeof text);
    if (bytes > 0)
        anemo_table_both(table, (double)bytes, "%s", text);
    else
        anemo_table_absent(table);
}

static void caches_text(const anemo_machine *m, char *text, size_t text_bytes) {
    size_t used = 0;
    text[0] = 0;
    for (int32_t i = 0; i < m->caches && used < text_bytes; i++) {
        char size[32];
        bytes_text((double)m->cache[i].bytes, size, sizeof size);
        int n = snprintf(text + used, text_bytes - used, "%sL%d %s x %d", used ? ", " : "",
                         m->cache[i].level, size, m->cache[i].count);
        used += n > 0 ? (size_t)n : 0;
    }
}

static anemo_table *machine_table(void) {
    const anemo_machine *m = anemo_machine_get();
    anemo_table *table = anemo_table_create("machine", "Machine");
    const anemo_clock clock = anemo_clock_raw();
    anemo_clock_quality quality = anemo_clock_measure(&clock);
    char text[256];
    anemo_table_column(table, "property", "property");
    anemo_table_column(table, "value", "value");
    row_text(table, "id", m->id);
    row_text(table, "processor", m->cpu);
    snprintf(text, sizeof text, "%d socket%s, %d cores, %d threads, %d memory node%s (%s)",
             m->sockets, m->sockets == 1 ? "" : "s", m->cores, m->threads, m->numa_nodes,
             m->numa_nodes == 1 ? "" : "s", m->topology);
    row_text(table, "topology", text);
    row_number(table, "CPUs allowed", m->threads_allowed, "%.0f");
    anemo_machine_feature_names(m->cpu_features, text, sizeof text);
    row_text(table, "instruction sets", text);
    caches_text(m, text, sizeof text);
    row_text(table, "data caches", text);
    row_bytes(table, "memory", m->memory_bytes);
    row_bytes(table, "memory available", m->memory_available_bytes);
    row_bytes(table, "memory limit", m->memory_limit_bytes);
    row_number(table, "CPU quota", m->cpu_quota > 0 ? m->cpu_quota : NAN, "%.2f");
    row_text(table, "transparent huge pages", m->huge_pages);
    row_bytes(table, "this program's code in them", (int64_t)anemo_code_huge_bytes());
    row_text(table, "governor", m->governor);
    row_text(table, "boost", m->boost);
    row_number(table, "maximum frequency, GHz",
               m->frequency_max_khz > 0 ? 1e-6 * (double)m->frequency_max_khz : NAN, "%.2f");
    row_text(table, "virtualisation", m->virtualisation);
    row_text(table, "container", m->container);
    row_text(table, "kernel", m->kernel);
    row_text(table, "system", m->os);
    snprintf(text, sizeof text, "%s, %.0f ns a read, steps of %.0f ns", clock.name,
             quality.overhead_ns, quality.resolution_ns);
    row_text(table, "clock", text);
    return table;
}

static anemo_table *capability_table(const anemo_capability *list, int32_t n) {
    anemo_table *table = anemo_table_create("capabilities", "What can be measured");
    anemo_table_column(table, "group", "group");
    anemo_table_column(table, "name", "what");
    anemo_table_column(table, "available", "available");
    anemo_table_column(table, "detail", "detail");
    anemo_table_column(table, "costs", "what its absence costs");
    anemo_table_column(table, "remedy", "what helps");
    for (int32_t i = 0; i < n; i++) {
        const char *const texts[] = {list[i].detail, list[i].costs, list[i].remedy};
        anemo_table_text(table, "%s", list[i].group);
        anemo_table_text(table, "%s", list[i].name);
        anemo_table_flag(table, list[i].available);
        for (int t = 0; t < 3; t++) {
            if (texts[t][0])
                anemo_table_text(table, "%s", texts[t]);
            else
                anemo_table_absent(table);
        }
    }
    return table;
}

/* What the probes reach now, on one thread per core; empty when they cannot run. */
static anemo_table *ceiling_table(const anemo_cli *cli, anemo_status *status, anemo_error *err) {
    anemo_table *table = anemo_table_create("ceilings", "What it can do at most, probed now");
    anemo_table_column(table, "ceiling", "ceiling");
    anemo_table_column(table, "per_second", "GB/s or GOP/s");
    anemo_table_column(table, "form", "best form");
    anemo_table_column(table, "vectors_per_cycle", "vectors per cycle");
    anemo_table_column(table, "hz", "at GHz");
    anemo_table_column(table, "counted_form", "counted in");
    const anemo_clock clock = anemo_clock_raw();
    anemo_device *device = NULL;
    anemo_probe *probe = NULL;
    *status = anemo_cli_open_device(cli, &device, err);
    *status = *status ? *status : anemo_probe_create(device, &clock, 0, &probe, err);
    for (int c = 0; !*status && c < ANEMO_CEILING_COUNT; c++) {
        anemo_probe_value value;
        anemo_probe_pace pace;
        *status = anemo_probe_measure(probe, (anemo_ceiling)c, &value, err);
        *status = *status ? *status : anemo_probe_measure_pace(probe, (anemo_ceiling)c, &pace, err);
        if (*status || !value.form)
            continue;
        anemo_table_text(table, "%s", anemo_ceiling_name((anemo_ceiling)c));
        anemo_table_both(table, value.per_second, "%.1f", value.per_second * 1e-9);
        anemo_table_text(table, "%s", value.form);
        anemo_table_number(table, pace.per_cycle > 0 ? pace.per_cycle : NAN, "%.3f");
        if (pace.per_cycle > 0) {
            anemo_table_both(table, pace.hz, "%.2f", pace.hz * 1e-9);
            anemo_table_text(table, "%s", pace.form);
        } else {
            anemo_table_absent(table);
            anemo_table_absent(table);
        }
    }
    anemo_probe_free(probe);
    anemo_device_free(device);
    return table;
}

/* What is there on a line each; below, what is missing with its reasons. */
static void print_text(const anemo_capability *list, int32_t n, FILE *out) {
    const char *group = "";
    fputs("\nWhat can be measured\n", out);
    for (int32_t i = 0; i < n; i++) {
        if (strcmp(group, list[i].group) != 0)
            fprintf(out, "  %s\n", group = list[i].group);
        fprintf(out, "    %-3s %-22s %s\n", list[i].available ? "yes" : "no", list[i].name,
                list[i].detail);
    }
    fputs("\nWhat is missing, what that costs, what helps\n", out);
    for (int32_t i = 0; i < n; i++)
        if (!list[i].available)
            fprintf(out, "  %s: %s%s%s\n", list[i].name, list[i].costs,
                    list[i].remedy[0] ? "; helps: " : "", list[i].remedy);
}

void anemo_doctor_summary(FILE *out) {
    const anemo_machine *m = anemo_machine_get();
    anemo_capability list[ANEMO_CAPABILITIES_MAX];
    int32_t n = anemo_capabilities(list, ANEMO_CAPABILITIES_MAX), missing = 0;
    char isa[200], caches[160], memory[32], available[32];
    anemo_machine_feature_names(m->cpu_features, isa, sizeof isa);
    caches_text(m, caches, sizeof caches);
    bytes_text((double)m->memory_bytes, memory, sizeof memory);
    bytes_text((double)m->memory_available_bytes, available, sizeof available);
    fprintf(out, "  %s, %d cores, %s\n", m->cpu, m->cores, caches);
    fprintf(out, "  %s; %s memory, %s available%s%s\n", isa[0] ? isa : "no vector extensions",
            memory, available,
            strcmp(m->virtualisation, "none") && m->virtualisation[0] ? "; " : "",
            strcmp(m->virtualisation, "none") ? m->virtualisation : "");
    fputs("  not measurable here: ", out);
    int column = 23;
    for (int32_t i = 0; i < n; i++) {
        if (list[i].available || strncmp(list[i].name, "PAPI_", 5) == 0)
            continue;
        column += (int)strlen(list[i].name) + 2;
        fprintf(out, "%s%s", missing++ ? (column > 96 ? ",\n    " : ", ") : "", list[i].name);
        column = column > 96 ? 4 + (int)strlen(list[i].name) : column;
    }
    fputs(missing ? "\n" : "nothing\n", out);
}

int anemo_cmd_doctor(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .about = "Shows what this machine offers, what cannot be measured here and why, what that "
                 "costs, and which package or setting helps.",
        .example = "  anemo doctor\n  anemo doctor --format json --output machine.json",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_THREADS | ANEMO_CLI_DEVICE,
    };
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, NULL, &cli);
    anemo_capability list[ANEMO_CAPABILITIES_MAX];
    int32_t n = anemo_capabilities(list, ANEMO_CAPABILITIES_MAX);
    anemo_error err = {0};
    anemo_status status;
    anemo_table *machine = machine_table(), *capabilities = capability_table(list, n);
    anemo_table *ceilings = ceiling_table(&cli, &status, &err);
    const anemo_table *const tables[] = {machine, ceilings, capabilities};
    bool text = cli.format == ANEMO_FORMAT_TEXT;
    anemo_table_print(tables, text ? 2 : 3, cli.format, cli.out);
    if (text)
        print_text(list, n, cli.out);
    anemo_table_free(machine);
    anemo_table_free(ceilings);
    anemo_table_free(capabilities);
    return anemo_cli_close(&cli, status ? anemo_cli_fail(status, &err) : ANEMO_EXIT_OK);
}
