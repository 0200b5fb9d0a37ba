/* Markdown and HTML from the same calls. See page.h. */
#include "harness/cli/page.h"

#include "harness/cli/html.h"
#include "harness/cost/reference.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static bool html(const page *p) {
    return p->form == PAGE_HTML;
}

/* Text from a record must not become a tag where Markdown is shown. */
static void markdown_text(FILE *out, const char *text) {
    for (; *text; text++)
        if (*text == '<')
            fputs("&lt;", out);
        else
            fputc(*text, out);
}

static void text_of(page *p, const char *text) {
    (html(p) ? html_text : markdown_text)(p->out, text);
}

static void close_list(page *p) {
    if (p->list != PAGE_NO_LIST)
        fputs(!html(p) ? "\n" : p->list == PAGE_FIRST ? "</ol>\n" : "</ul>\n", p->out);
    p->list = PAGE_NO_LIST;
}

static char *formatted(const char *format, va_list list) {
    char *text = NULL;
    if (vasprintf(&text, format, list) < 0)
        abort();
    return text;
}

/* ---------------------------------------------------------------- frame and headings */

void page_begin(page *p, const char *title) {
    if (html(p))
        html_begin(p->out, title, p->mark);
    fputs(html(p) ? "<h1>" : "# ", p->out);
    text_of(p, title);
    fputs(html(p) ? "</h1>\n" : "\n\n", p->out);
    if (p->mark && !html(p))
        fprintf(p->out, "**%s**\n\n", p->mark);
}

void page_end(page *p) {
    close_list(p);
    if (html(p)) {
        fputs("</main>\n", p->out);
        html_end(p->out);
    }
}

void page_heading(page *p, int level, const char *anchor, const char *text) {
    close_list(p);
    if (html(p)) {
        fprintf(p->out, anchor ? "<h%d id=\"%s\">" : "<h%d>", level, anchor);
        text_of(p, text);
        fprintf(p->out, "</h%d>\n", level);
    } else {
        fprintf(p->out, "%.*s ", level, "####");
        text_of(p, text);
        fputs("\n\n", p->out);
    }
}

void page_links(page *p, const char *const *anchor_and_words) {
    if (!html(p))
        return;
    fputs("<nav aria-label=\"Sections\">", p->out);
    for (; *anchor_and_words; anchor_and_words += 2)
        fprintf(p->out, "<a href=\"#%s\">%s</a> ", anchor_and_words[0], anchor_and_words[1]);
    fputs("</nav>\n", p->out);
}

/* ---------------------------------------------------------------- words */

void page_text(page *p, const char *format, ...) {
    va_list list;
    va_start(list, format);
    char *text = formatted(format, list);
    va_end(list);
    close_list(p);
    fputs(html(p) ? "<p>" : "", p->out);
    text_of(p, text);
    fputs(html(p) ? "</p>\n" : "\n\n", p->out);
    free(text);
}

static void item(page *p, int kind, const char *lead, const char *text) {
    if (p->list != PAGE_NO_LIST && (int)p->list != kind)
        close_list(p);
    if (p->list == PAGE_NO_LIST && html(p))
        fputs(kind == PAGE_FIRST ? "<ol class=\"first\">\n" : "<ul>\n", p->out);
    bool sentence = kind == PAGE_FIRST && !p->lead_done;
    p->lead_done = p->lead_done || sentence;
    p->list = kind == PAGE_FIRST ? PAGE_FIRST : PAGE_LIST;
    if (html(p))
        fputs(sentence ? "<li class=\"lead\">" : "<li>", p->out);
    else
        fputs(kind == PAGE_FIRST ? "1. " : "- ", p->out);
    if (lead) {
        fputs(html(p) ? "<strong>" : "**", p->out);
        text_of(p, lead);
        fputs(html(p) ? "</strong> " : "** ", p->out);
    }
    text_of(p, text);
    fputs(html(p) ? "</li>\n" : "\n", p->out);
}

void page_item(page *p, const char *lead, const char *format, ...) {
    va_list list;
    va_start(list, format);
    char *text = formatted(format, list);
    va_end(list);
    item(p, PAGE_LIST, lead, text);
    free(text);
}

void page_first(page *p, const char *lead, const char *format, ...) {
    va_list list;
    va_start(list, format);
    char *text = formatted(format, list);
    va_end(list);
    item(p, PAGE_FIRST, lead, text);
    free(text);
}

void page_command(page *p, const char *format, ...) {
    va_list list;
    va_start(list, format);
    char *text = formatted(format, list), *save = NULL;
    va_end(list);
    close_list(p);
    fputs(html(p) ? "<pre><code>" : "~~~~\n", p->out); /* no indented line ends such a block */
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        fputs(html(p) ? "" : "    ", p->out);
        (html(p) ? html_text(p->out, line) : (void)fputs(line, p->out));
        fputc('\n', p->out);
    }
    fputs(html(p) ? "</code></pre>\n" : "~~~~\n\n", p->out);
    free(text);
}

/* ---------------------------------------------------------------- tables and shares */

void page_table(page *p, anemo_table *table) {
    const anemo_table *const one = table;
    close_list(p);
    if (anemo_table_rows(table) > 0) {
        if (html(p))
            anemo_table_print_html(table, p->mark, p->out);
        else
            anemo_table_print(&one, 1, ANEMO_FORMAT_MD, p->out);
        fputc('\n', p->out);
    }
    anemo_table_free(table);
}

void page_numbers(page *p, anemo_table *table, bool open) {
    if (html(p) && anemo_table_rows(table) > 0)
        fprintf(p->out, "<details%s><summary>The numbers</summary>\n", open ? " open" : "");
    bool folded = html(p) && anemo_table_rows(table) > 0;
    page_table(p, table);
    fputs(folded ? "</details>\n" : "", p->out);
}

void page_shares(page *p, const char *described, const double *share, int32_t n) {
    if (!html(p))
        return;
    close_list(p);
    fputs("<div class=\"bar\" role=\"img\" aria-label=\"", p->out);
    html_text(p->out, described);
    fputs("\">", p->out);
    for (int32_t k = 0; k < n; k++)
        if (share[k] > 0)
            fprintf(p->out, "<span class=\"%s\" style=\"width:%.2f%%\">%s</span>",
                    anemo_class_name((anemo_class)k), 100 * share[k],
                    share[k] > 0.12 ? anemo_class_name((anemo_class)k) : "");
    fputs("</div>\n", p->out);
}
