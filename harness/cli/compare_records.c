/* Two files of records, matched by case and variant. They were measured apart: at another hour, on
 * a machine that had drifted, or on another one. Such a difference says nothing about the code, so
 * here it is shown, with a warning, and never judged. */
#include "harness/cli/compare.h"
#include "harness/cli/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct record_list {
    anemo_record **record;
    int64_t n, capacity;
    bool no_memory;
} record_list;

static bool keep(void *ctx, anemo_record *record) {
    record_list *list = ctx;
    if (list->n == list->capacity) {
        const int64_t capacity = list->capacity ? 2 * list->capacity : 64;
        anemo_record **more = realloc(list->record, (size_t)capacity * sizeof *more);
        if (!more) {
            list->no_memory = true;
            return false;
        }
        list->record = more;
        list->capacity = capacity;
    }
    list->record[list->n++] = anemo_record_keep(record);
    return true;
}

static anemo_status read_list(const char *path, record_list *list, anemo_error *err) {
    const anemo_status status = anemo_record_read(path, keep, list, NULL, err);
    return status            ? status
           : list->no_memory ? anemo_fail(err, ANEMO_E_MEMORY, "no memory for records")
           : list->n == 0    ? anemo_fail(err, ANEMO_E_INPUT, "%s: holds no record", path)
                             : ANEMO_OK;
}

static void free_list(record_list *list) {
    for (int64_t i = 0; i < list->n; i++) {
        anemo_record_free(list->record[i]);
    }
    free(list->record);
}

static bool same_text(const anemo_record *a, const anemo_record *b, const char *section,
                      const char *key) {
    const char *x = anemo_record_get_text(a, section, key);
    const char *y = anemo_record_get_text(b, section, key);
    return x && y ? strcmp(x, y) == 0 : x == y;
}

/* The last record of the other file that is of the same thing; NULL: none. */
static const anemo_record *partner(const anemo_record *of, const record_list *list) {
    for (int64_t i = list->n - 1; i >= 0; i--) {
        const anemo_record *r = list->record[i];
        if (same_text(of, r, "case", "name") && same_text(of, r, NULL, "kind") &&
            same_text(of, r, "solution", "variant") && same_text(of, r, NULL, "suite")) {
            return r;
        }
    }
    return NULL;
}

/* Is there a later record of the same thing in its own file? */
static bool superseded(const record_list *list, int64_t i) {
    return partner(list->record[i], list) != list->record[i];
}

static void row(anemo_table *table, const anemo_record *a, const anemo_record *b,
                const anemo_metric *x, const anemo_metric *y) {
    const char *variant = anemo_record_get_text(a, "solution", "variant");
    anemo_table_text(table, "%s", anemo_record_get_text(a, "case", "name"));
    anemo_table_text(table, "%s", variant ? variant : "");
    anemo_table_text(table, "%s", x->name);
    anemo_table_number(table, x->value, "%.6g");
    anemo_table_number(table, y->value, "%.6g");
    const bool positive = x->lo > 0 && y->lo > 0;
    anemo_table_number(table, positive ? y->value / x->value : NAN, "%.4f");
    anemo_table_number(table, positive ? y->lo / x->hi : NAN, "%.4f");
    anemo_table_number(table, positive ? y->hi / x->lo : NAN, "%.4f");
    anemo_table_text(table, "INCONCLUSIVE");
    anemo_table_text(table, "%s",
                     same_text(a, b, "machine", "id") ? "not measured together" : "other machine");
}

/* Headline metrics: those with raw samples behind them; not the ceilings beside them. */
static bool is_headline(const anemo_metric *m) {
    static const char *const names[] = {"time", "ttft", "tpot", "tokens_per_s", NULL};
    for (int i = 0; names[i]; i++) {
        if (strcmp(m->name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static int32_t compare_lists(anemo_table *table, const record_list *a, const record_list *b) {
    int32_t matched = 0;
    for (int64_t i = 0; i < a->n; i++) {
        const anemo_record *other = partner(a->record[i], b);
        anemo_metric x, y;
        if (!other || superseded(a, i) || !anemo_record_get_text(a->record[i], "case", "name")) {
            continue;
        }
        for (size_t m = 0; anemo_record_get_metric(a->record[i], m, &x); m++) {
            if (is_headline(&x) && anemo_record_find_metric(other, x.name, &y)) {
                row(table, a->record[i], other, &x, &y);
                matched++;
            }
        }
    }
    return matched;
}

int compare_records(const anemo_cli *cli, const char *a, const char *b) {
    record_list lists[2] = {{0}, {0}};
    anemo_error err = {{0}};
    char title[1024];
    snprintf(title, sizeof title, "A = %s, B = %s", a, b);
    anemo_status status = read_list(a, &lists[0], &err);
    status = status ? status : read_list(b, &lists[1], &err);
    anemo_table *table = anemo_table_create("records", title);
    static const char *const columns[][2] = {{"case", "case"},
                                             {"variant", "variant"},
                                             {"metric", "metric"},
                                             {"a", "A"},
                                             {"b", "B"},
                                             {"ratio", "B / A"},
                                             {"ratio_lo", "from"},
                                             {"ratio_hi", "to"},
                                             {"verdict", "verdict"},
                                             {"remark", "remark"}};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        anemo_table_column(table, columns[i][0], columns[i][1]);
    }
    int code = ANEMO_EXIT_OK;
    if (status) {
        code = anemo_cli_fail(status, &err);
    } else if (compare_lists(table, &lists[0], &lists[1]) == 0) {
        anemo_fail(&err, ANEMO_E_INPUT, "%s and %s have no case and variant in common", a, b);
        code = anemo_cli_fail(ANEMO_E_INPUT, &err);
    } else {
        anemo_cli_warn("%s and %s were not measured together: drift of the machine is in every "
                       "ratio, so none is judged; compare variants, builds or models instead",
                       a, b);
        const anemo_table *tables[] = {table};
        anemo_table_print(tables, 1, cli->format, cli->out);
    }
    anemo_table_free(table);
    free_list(&lists[0]);
    free_list(&lists[1]);
    return code;
}
