/* Tables in five formats. See table.h. A cell keeps its text for people and, when it is one, its
 * value for machines. */
#include "harness/cli/table.h"

#include "harness/cli/html.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MAX_COLUMNS 32

typedef enum cell_kind { CELL_ABSENT, CELL_TEXT, CELL_NUMBER, CELL_FLAG } cell_kind;

typedef struct cell {
    cell_kind kind;
    double value;
    char *shown;
} cell;

struct anemo_table {
    char *name, *title;
    char *key[MAX_COLUMNS], *heading[MAX_COLUMNS];
    int32_t columns;
    cell *cells; /* [n_cells], row-major */
    size_t n_cells, capacity;
    bool strict_csv;
};

/* A command that has no memory for a table cannot report that either. */
static void *must(void *memory) {
    if (!memory)
        abort();
    return memory;
}

anemo_table *anemo_table_create(const char *name, const char *title) {
    anemo_table *table = must(calloc(1, sizeof *table));
    table->name = must(strdup(name));
    table->title = title ? must(strdup(title)) : NULL;
    return table;
}

void anemo_table_free(anemo_table *table) {
    if (!table)
        return;
    for (size_t i = 0; i < table->n_cells; i++)
        free(table->cells[i].shown);
    for (int32_t c = 0; c < table->columns; c++) {
        free(table->key[c]);
        free(table->heading[c]);
    }
    free(table->cells);
    free(table->name);
    free(table->title);
    free(table);
}

void anemo_table_column(anemo_table *table, const char *key, const char *heading) {
    if (table->columns == MAX_COLUMNS || table->n_cells)
        abort(); /* a mistake of the programmer */
    table->key[table->columns] = must(strdup(key));
    table->heading[table->columns++] = must(strdup(heading));
}

static cell *add_cell(anemo_table *table, cell_kind kind, double value) {
    if (table->n_cells == table->capacity) {
        table->capacity = table->capacity ? 2 * table->capacity : 64;
        table->cells = must(realloc(table->cells, table->capacity * sizeof *table->cells));
    }
    cell *added = &table->cells[table->n_cells++];
    *added = (cell){.kind = kind, .value = value};
    return added;
}

static char *vformat(const char *format, va_list list) {
    char *text = NULL;
    if (vasprintf(&text, format, list) < 0)
        abort();
    return text;
}

void anemo_table_text(anemo_table *table, const char *format, ...) {
    va_list list;
    va_start(list, format);
    add_cell(table, CELL_TEXT, 0)->shown = vformat(format, list);
    va_end(list);
}

void anemo_table_number(anemo_table *table, double value, const char *shown) {
    if (!isfinite(value)) {
        anemo_table_absent(table);
        return;
    }
    char text[64];
    snprintf(text, sizeof text, shown, value);
    add_cell(table, CELL_NUMBER, value)->shown = must(strdup(text));
}

void anemo_table_both(anemo_table *table, double value, const char *shown, ...) {
    va_list list;
    va_start(list, shown);
    add_cell(table, isfinite(value) ? CELL_NUMBER : CELL_ABSENT, value)->shown =
        vformat(shown, list);
    va_end(list);
}

void anemo_table_flag(anemo_table *table, bool value) {
    add_cell(table, CELL_FLAG, value)->shown = must(strdup(value ? "yes" : "no"));
}

void anemo_table_absent(anemo_table *table) {
    add_cell(table, CELL_ABSENT, 0)->shown = must(strdup("-"));
}

void anemo_table_strict_csv(anemo_table *table) {
    table->strict_csv = true;
}

int32_t anemo_table_rows(const anemo_table *table) {
    return table->columns ? (int32_t)(table->n_cells / (size_t)table->columns) : 0;
}

static const cell *cell_at(const anemo_table *table, int32_t row, int32_t column) {
    return &table->cells[(size_t)row * (size_t)table->columns + (size_t)column];
}

/* Columns on a terminal: bytes that do not continue a UTF-8 character. */
static int width(const char *text) {
    int n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static void pad(FILE *out, int n) {
    for (; n > 0; n--)
        fputc(' ', out);
}

/* A column is right-aligned when no cell of it is text. */
static bool right_aligned(const anemo_table *table, int32_t column) {
    bool numbers = false;
    for (int32_t r = 0; r < anemo_table_rows(table); r++) {
        cell_kind kind = cell_at(table, r, column)->kind;
        if (kind == CELL_TEXT || kind == CELL_FLAG)
            return false;
        numbers = numbers || kind == CELL_NUMBER;
    }
    return numbers;
}

static void print_line(const anemo_table *table, FILE *out, int32_t row, const int *widths) {
    for (int32_t c = 0; c < table->columns; c++) {
        const char *text = row < 0 ? table->heading[c] : cell_at(table, row, c)->shown;
        bool last = c + 1 == table->columns;
        int space = widths[c] - width(text);
        if (right_aligned(table, c))
            pad(out, space), fputs(text, out);
        else
            fputs(text, out), pad(out, last ? 0 : space);
        fputs(last ? "\n" : "  ", out);
    }
}

static void print_text(const anemo_table *table, FILE *out) {
    int widths[MAX_COLUMNS];
    if (table->title)
        fprintf(out, "%s\n", table->title);
    for (int32_t c = 0; c < table->columns; c++) {
        widths[c] = width(table->heading[c]);
        for (int32_t r = 0; r < anemo_table_rows(table); r++) {
            int w = width(cell_at(table, r, c)->shown);
            widths[c] = w > widths[c] ? w : widths[c];
        }
    }
    for (int32_t r = -1; r < anemo_table_rows(table); r++)
        print_line(table, out, r, widths);
}

static void print_markdown_cell(FILE *out, const char *text) {
    for (; *text; text++) {
        if (*text == '|' || *text == '\\')
            fputc('\\', out);
        if (*text == '<') /* else a name in a record could be a tag of the page that shows it */
            fputs("&lt;", out);
        else
            fputc(*text == '\n' ? ' ' : *text, out);
    }
}

static void print_markdown(const anemo_table *table, FILE *out) {
    if (table->title) {
        fputs("### ", out);
        print_markdown_cell(out, table->title);
        fputs("\n\n", out);
    }
    for (int32_t r = -2; r < anemo_table_rows(table); r++) { /* -2: heading, -1: rule */
        fputs("|", out);
        for (int32_t c = 0; c < table->columns; c++) {
            if (r == -1) {
                fputs(right_aligned(table, c) ? "---:|" : "---|", out);
                continue;
            }
            fputc(' ', out);
            print_markdown_cell(out, r == -2 ? table->heading[c] : cell_at(table, r, c)->shown);
            fputs(" |", out);
        }
        fputc('\n', out);
    }
}

static void print_csv_cell(FILE *out, const char *text) {
    if (!strpbrk(text, ",\"\n\r")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void print_csv(const anemo_table *table, FILE *out) {
    for (int32_t r = -1; r < anemo_table_rows(table); r++)
        for (int32_t c = 0; c < table->columns; c++) {
            const cell *at = r < 0 ? NULL : cell_at(table, r, c);
            if (!at)
                print_csv_cell(out, table->key[c]);
            else if (at->kind == CELL_NUMBER)
                fprintf(out, "%.10g", at->value);
            else if (at->kind != CELL_ABSENT)
                print_csv_cell(out, at->shown);
            fputs(c + 1 < table->columns ? "," : table->strict_csv ? "\r\n" : "\n", out);
        }
}

static json_t *json_cell(const cell *at) {
    switch (at->kind) {
    case CELL_NUMBER:
        if (at->value == floor(at->value) && fabs(at->value) < 9e15)
            return json_integer((json_int_t)at->value);
        return json_real(at->value);
    case CELL_FLAG:
        return json_boolean(at->value != 0);
    case CELL_TEXT: {
        json_t *text = json_string(at->shown);
        return text ? text : json_string("(not UTF-8)");
    }
    case CELL_ABSENT:
        break;
    }
    return json_null();
}

static void print_json(const anemo_table *const *tables, int32_t n, FILE *out) {
    json_t *document = must(json_object());
    for (int32_t t = 0; t < n; t++) {
        json_t *rows = must(json_array());
        for (int32_t r = 0; r < anemo_table_rows(tables[t]); r++) {
            json_t *row = must(json_object());
            for (int32_t c = 0; c < tables[t]->columns; c++)
                json_object_set_new(row, tables[t]->key[c], json_cell(cell_at(tables[t], r, c)));
            json_array_append_new(rows, row);
        }
        json_object_set_new(document, tables[t]->name, rows);
    }
    json_dumpf(document, out, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(10));
    fputc('\n', out);
    json_decref(document);
}

const char *anemo_table_title(const anemo_table *table) {
    return table->title ? table->title : table->name;
}

/* "-1,234,567" */
static void print_grouped(FILE *out, const char *digits) {
    for (const char *d = digits; *d; d++) {
        fputc(*d, out);
        if (*d != '-' && d[1] && strlen(d + 1) % 3 == 0)
            fputc(',', out);
    }
}

static void print_html_cell(const cell *at, bool right, bool header, FILE *out) {
    fputs(header ? "<th scope=\"row\"" : right ? "<td class=\"n\"" : "<td", out);
    if (at->kind == CELL_NUMBER)
        fprintf(out, " data-v=\"%.10g\"", at->value);
    fputc('>', out);
    if (at->kind == CELL_NUMBER && strspn(at->shown, "-0123456789") == strlen(at->shown))
        print_grouped(out, at->shown);
    else
        html_text(out, at->shown);
    fputs(header ? "</th>" : "</td>", out);
}

void anemo_table_print_html(const anemo_table *table, const char *mark, FILE *out) {
    const char *title = anemo_table_title(table);
    fputs("<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"", out);
    html_text(out, title);
    fprintf(out, "\">\n<table data-table=\"%s\"><caption>", table->name);
    if (mark) {
        fputs("<span class=\"mark\">", out);
        html_text(out, mark);
        fputs("</span> ", out);
    }
    html_text(out, title);
    fputs("</caption>\n<thead><tr>", out);
    for (int32_t c = 0; c < table->columns; c++) {
        fprintf(out, "<th scope=\"col\"%s>", right_aligned(table, c) ? " class=\"n\"" : "");
        html_text(out, *table->heading[c] ? table->heading[c] : table->key[c]);
        fputs("</th>", out);
    }
    fputs("</tr></thead>\n<tbody>\n", out);
    for (int32_t r = 0; r < anemo_table_rows(table); r++) {
        fputs("<tr>", out);
        for (int32_t c = 0; c < table->columns; c++)
            print_html_cell(cell_at(table, r, c), right_aligned(table, c), c == 0, out);
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table></div>\n", out);
}

void anemo_table_print(const anemo_table *const *tables, int32_t n, anemo_cli_format format,
                       FILE *out) {
    if (format == ANEMO_FORMAT_JSON) {
        print_json(tables, n, out);
        return;
    }
    for (int32_t t = 0; t < n; t++) {
        if (t)
            fputc('\n', out);
        if (format == ANEMO_FORMAT_CSV)
            print_csv(tables[t], out);
        else if (format == ANEMO_FORMAT_MD)
            print_markdown(tables[t], out);
        else
            print_text(tables[t], out);
    }
}
