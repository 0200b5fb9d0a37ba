/* Tables: built once, printed as aligned text, Markdown, CSV or JSON.
 *
 * A document is one or more tables. JSON: {"name": [{key: value, ...}, ...], ...}, numbers in full
 * precision, an absent value null. CSV: a heading row of keys per table, tables apart by an empty
 * line. Text and Markdown: numbers rounded as asked, an absent value "-". */
#ifndef ANEMO_CLI_TABLE_H
#define ANEMO_CLI_TABLE_H

#include "harness/cli/common.h"

typedef struct anemo_table anemo_table;

/* name: the JSON key; title: a line above the table in text and Markdown, or NULL. */
anemo_table *anemo_table_create(const char *name, const char *title);
void anemo_table_free(anemo_table *table);
/* key: for JSON and CSV ("time_ns"); heading: for people ("time, us"). All columns come first. */
void anemo_table_column(anemo_table *table, const char *key, const char *heading);
/* Cells are filled left to right; a row ends when every column has its cell. */
void anemo_table_text(anemo_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* shown: the printf form of one double for people, e.g. "%.1f"; NaN counts as absent. */
void anemo_table_number(anemo_table *table, double value, const char *shown);
/* The number for machines, another text for people ("12.3 GiB"). */
void anemo_table_both(anemo_table *table, double value, const char *shown, ...)
    __attribute__((format(printf, 3, 4)));
void anemo_table_flag(anemo_table *table, bool value); /* yes/no; true/false */
void anemo_table_absent(anemo_table *table);
int32_t anemo_table_rows(const anemo_table *table);
/* Lines of CSV end as RFC 4180 wants it, in \r\n; else in \n, for the shell. */
void anemo_table_strict_csv(anemo_table *table);
void anemo_table_print(const anemo_table *const *tables, int32_t n, anemo_cli_format format,
                       FILE *out);
/* One table for a page (html.h): caption, headings with scope, numbers with their full value for
 * sorting, every text escaped. The caption is the title with `mark` before it (NULL: none). */
void anemo_table_print_html(const anemo_table *table, const char *mark, FILE *out);
const char *anemo_table_title(const anemo_table *table); /* or its name */

#endif
