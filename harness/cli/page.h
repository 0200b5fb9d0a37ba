/* A page for people, written once and printed as Markdown or as one self-contained HTML file:
 * headings, paragraphs, lists, tables, commands, figures. What is passed in is text, never markup.
 */
#ifndef ANEMO_CLI_PAGE_H
#define ANEMO_CLI_PAGE_H

#include "harness/cli/table.h"

typedef enum page_form { PAGE_MD, PAGE_HTML } page_form;

typedef struct page {
    FILE *out;
    page_form form;
    const char *mark; /* "EXAMPLE: made-up figures" across the page, on tables and figures; NULL */
    enum { PAGE_NO_LIST, PAGE_LIST, PAGE_FIRST } list; /* the list that is open */
    bool lead_done;                                    /* the first page has its sentence */
    int32_t placeholders;                              /* figures that could not be drawn */
} page;

void page_begin(page *p, const char *title);
void page_end(page *p);
/* level 2: a section, in HTML with the id that `anchor` gives it; 3: below that, without (NULL). */
void page_heading(page *p, int level, const char *anchor, const char *text);
void page_text(page *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* An item of a list; `lead`, when not NULL, stands first and is stressed. */
void page_item(page *p, const char *lead, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The items of the first page: numbered in Markdown, without bullets in HTML. */
void page_first(page *p, const char *lead, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Prints the table unless it is empty, and frees it. */
void page_table(page *p, anemo_table *table);
/* The same, folded behind "The numbers" in HTML unless `open`. */
void page_numbers(page *p, anemo_table *table, bool open);
/* A command or several, one a line. */
void page_command(page *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Links to the sections, pairs of anchor and words, ended by NULL. HTML only. */
void page_links(page *p, const char *const *anchor_and_words);
/* Shares of 1 with class names (anemo_class_name), drawn as one bar. HTML only: a table says the
 * same. */
void page_shares(page *p, const char *described, const double *share, int32_t n);

#endif
