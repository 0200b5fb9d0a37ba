/* The report as a page: what a hostile record may do to it, what it is without gnuplot, what is
 * refused. Its form as a whole is checked by tests/report_check.py (ci/report), in a browser by
 * tests/report_browser.py. */
#include "harness/cli/html.h"
#include "harness/cli/report_internal.h"
#include "harness/record/record.h"
#include "tests/support/asserts.h"
#include "tests/support/run_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIXED    ANEMO_TEST_DIR "/../results/examples/mixed.json"
#define PURCHASE ANEMO_TEST_DIR "/../results/examples/purchase.json"
#define DEMO     ANEMO_TEST_DIR "/data/report/demo.jsonl"
#define LEDGER   ANEMO_TEST_DIR "/data/report/ledger.jsonl"
#define AS_OF    "--as-of", "2026-11-26", "--draws", "200" /* the wording, not the figures */
#define HOSTILE  "\"'><script>alert(1)</script><img src=x onerror=alert(2)>"

static int count(const char *text, const char *part) {
    int n = 0;
    for (; (text = strstr(text, part)); text += strlen(part))
        n++;
    return n;
}

static bool have_gnuplot(void) {
    return system("gnuplot --version >/dev/null 2>&1") == 0;
}

/* ---------------------------------------------------------------- pieces */

static char *escaped(const char *text) {
    char *out = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&out, &n);
    assert_non_null(f);
    html_text(f, text);
    fclose(f);
    return out;
}

static void text_stays_text(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"a < b & c > \"d\" 'e'", "a &lt; b &amp; c &gt; &quot;d&quot; &#39;e&#39;"},
        {"µs, 東, 🙂", "µs, 東, 🙂"},
        {"\xC3(", "\xEF\xBF\xBD("},                                 /* a lead without its tail */
        {"\xC0\xBC", "\xEF\xBF\xBD\xEF\xBF\xBD"},                   /* an overlong '<' */
        {"\xED\xA0\x80!", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD!"}, /* a surrogate */
        {"a\x01\x1B[1m", "a\xEF\xBF\xBD\xEF\xBF\xBD[1m"},
        {"\xF0\x9F", "\xEF\xBF\xBD\xEF\xBF\xBD"}, /* cut off at the end */
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char *got = escaped(pairs[i][0]);
        assert_string_equal(got, pairs[i][1]);
        free(got);
    }
}

static bool takes(const char *svg, char **shown) {
    size_t n = 0;
    FILE *f = open_memstream(shown, &n);
    assert_non_null(f);
    bool good = html_svg(f, svg, "fig", "says <what> it shows");
    fclose(f);
    return good;
}

static void drawings_are_taken_strictly(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "no drawing",
        "<svg viewBox=\"0 0 1 1\"><script>alert(1)</script></svg>",
        "<svg viewBox=\"0 0 1 1\"><g onload=\"alert(1)\"></g></svg>",
        "<svg viewBox=\"0 0 1 1\"><g\tonload=\"alert(1)\"></g></svg>",
        "<svg viewBox=\"0 0 1 1\"><a xlink:href=\"http://x.y/\"></a></svg>",
        "<svg viewBox=\"0 0 1 1\"><image href=\"x.png\"/></svg>",
        "<svg viewBox=\"0 0 1 1\"><foreignObject></foreignObject></svg>",
        "<svg width=\"1\"><g></g></svg>",
    };
    char *shown = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (takes(wrong[i], &shown))
            fail_msg("taken: %s", wrong[i]);
        free(shown);
    }
    assert_true(takes("<?xml?><svg viewBox=\"0 0 2 3\"><title>t</title><g id=\"a\" "
                      "clip-path=\"url(#a)\"><use xlink:href='#a' stroke='black'/>x &lt; y > z</g>"
                      "</svg>",
                      &shown));
    assert_contains(shown, "viewBox=\"0 0 2 3\"");
    assert_contains(shown, "aria-label=\"says &lt;what&gt; it shows\"");
    assert_contains(shown, "<g id=\"fig-a\" clip-path=\"url(#fig-a)\">");
    assert_contains(shown, "<use xlink:href='#fig-a' stroke=\"currentColor\"/>x &lt; y > z</g>");
    assert_null(strstr(shown, "title"));
    free(shown);
}

/* ---------------------------------------------------------------- a hostile record */

static void add_hostile(anemo_record_sink *sink, anemo_record_kind kind, int64_t batch) {
    anemo_error err = {0};
    anemo_record *r = anemo_record_create(kind);
    anemo_record_text(r, NULL, "status", "passed");
    anemo_record_text(r, NULL, "repro", HOSTILE);
    anemo_record_text(r, "case", "name", HOSTILE);
    anemo_record_text(r, "case", "op", HOSTILE);
    anemo_record_text(r, "case", "model", HOSTILE);
    anemo_record_integer(r, "case", "batch", batch);
    anemo_record_text(r, "solution", "variant", HOSTILE);
    anemo_record_text(r, "solution", "weights", HOSTILE);
    anemo_record_text(r, "sampling", "binding_ceiling", HOSTILE);
    anemo_record_reason(r, HOSTILE, false);
    static const struct {
        const char *name, *unit;
        double value;
    } metrics[] = {{"time", "s", 1e-3},
                   {"tpot", "s", 1e-2},
                   {"throughput", "token/s", 9},
                   {"arithmetic", "op/s", 4e9},
                   {"bandwidth", "byte/s", 2e9},
                   {"roof_fraction", "1", 0.5},
                   {"ceiling_read", "byte/s", 4e9},
                   {"ceiling_fp32", "op/s", 9e9}};
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        anemo_record_metric(r, metrics[i].name, metrics[i].unit, true, metrics[i].value,
                            metrics[i].value, metrics[i].value, 9);
    if (anemo_record_write(sink, r, &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    anemo_record_free(r);
}

static void records_cannot_bring_markup(void **state) {
    (void)state;
    char *folder = test_folder_create(), path[600], target[600];
    anemo_record_sink *sink;
    anemo_error err = {0};
    snprintf(path, sizeof path, "%s/hostile.jsonl", folder);
    snprintf(target, sizeof target, "%s/page.html", folder);
    assert_int_equal(anemo_record_sink_open(path, &sink, &err), ANEMO_OK);
    add_hostile(sink, ANEMO_RECORD_KERNEL, 1);
    add_hostile(sink, ANEMO_RECORD_MODEL, 1);
    add_hostile(sink, ANEMO_RECORD_MODEL, 2);
    assert_int_equal(anemo_record_sink_close(sink, &err), ANEMO_OK);
    program_result r = program_run("report", path, "--output", target);
    assert_int_equal(r.code, 0);
    program_result_free(&r);
    size_t bytes;
    char *html = test_read_file(target, &bytes);
    assert_int_equal(count(html, "<script"), 1);
    assert_int_equal(count(html, "<img"), 0);
    assert_true(count(html, "&lt;script&gt;alert(1)") >= 10);
    assert_contains(html, "default-src 'none'");
    if (have_gnuplot()) { /* the drawings bear the names, as text */
        assert_int_equal(count(html, "<figure id="), 2);
        assert_int_equal(count(html, "class=\"missing\""), 0);
        assert_true(count(html, "&lt;script>alert(1)") >= 1);
    }
    free(html);
    r = program_run("report", path);
    assert_int_equal(r.code, 0);
    for (const char *at = r.out; (at = strstr(at, "<script")); at++) { /* only in a block of code */
        const char *line = at;
        while (line > r.out && line[-1] != '\n')
            line--;
        assert_memory_equal(line, "    ", 4);
    }
    program_result_free(&r);
    test_folder_remove(folder);
}

/* ---------------------------------------------------------------- the page of a scenario */

/* Each lead stands behind the one before it. */
static void in_order(const char *text, const char *const *leads) {
    for (const char *at = text; *leads; leads++) {
        const char *next = strstr(at, *leads);
        if (!next)
            fail_msg("'%s' is missing or too early", *leads);
        at = next;
    }
}

static void first_page_keeps_its_order(void **state) {
    (void)state;
    static const char *const leads[] = {"**EXAMPLE: made-up figures**",
                                        "**UNDECIDED.**",
                                        "**Money, in EUR:**",
                                        "5 % point",
                                        "95 % point",
                                        "with probability",
                                        "if demand is half",
                                        "**The saving becomes 0 with:**",
                                        "**Limits, use, spare:**",
                                        "(N+",
                                        "**Accuracy, with 95 % intervals:**",
                                        "**Evidence:**",
                                        "0 % measured",
                                        "**Age of the prices**",
                                        "**Left out:**",
                                        "**What would change our mind:**",
                                        "    anemo cost ",
                                        "Figure break_even",
                                        "## Evidence",
                                        "No figure ledger (",
                                        "anemo bench model MODEL --ledger --record FILE",
                                        "## Records",
                                        "## Sources",
                                        NULL};
    static const char *const files[] = {MIXED, PURCHASE};
    for (int i = 0; i < 2; i++) {
        program_result r = program_run("report", files[i], AS_OF);
        assert_int_equal(r.code, 0);
        in_order(r.out, leads);
        program_result_free(&r);
    }
}

/* The purchase without its queue simulation, which takes most of a second under sanitizers and has
 * nothing to do with what these tests look at. */
static void write_small(const char *folder, char *path, size_t path_bytes) {
    json_t *root = json_load_file(PURCHASE, 0, NULL), *option;
    size_t i;
    assert_non_null(root);
    json_array_foreach(json_object_get(root, "options"), i, option)
        json_object_del(option, "sizing");
    snprintf(path, path_bytes, "%s/small.json", folder);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
}

/* The environment of a machine without gnuplot. */
static const char *const without_gnuplot[] = {"PATH=/nowhere", NULL};

static void without_gnuplot_the_numbers_stay(void **state) {
    (void)state;
    const program_setting bare = {.environment = without_gnuplot};
    char *folder = test_folder_create(), small[600];
    write_small(folder, small, sizeof small);
    program_result r = program_run_with(
        &bare, (const char *const[]){"report", MIXED, AS_OF, "--format", "html", NULL});
    assert_int_equal(r.code, 0);
    assert_contains(r.err, "5 figures could not be drawn");
    assert_int_equal(count(r.out, "class=\"missing\""), 5);
    assert_int_equal(count(r.out, "gnuplot is not here"), 5);
    assert_int_equal(count(r.out, "<details open>"), 5);
    program_result_free(&r);
    r = program_run_with(
        &bare, (const char *const[]){"plot", "tornado", small, AS_OF, "--format", "svg", NULL});
    assert_int_equal(r.code, 6);
    assert_string_equal(r.out, "");
    assert_contains(r.err, "figure tornado: gnuplot is not here; install it");
    program_result_free(&r);
    r = program_run_with(
        &bare, (const char *const[]){"plot", "tornado", small, AS_OF, "--format", "csv", NULL});
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "input,low,high,point\n");
    program_result_free(&r);
    test_folder_remove(folder);
}

/* All of them are drawn and looked at by ci/report; here: into files, in both forms. */
static void figures_go_to_files(void **state) {
    (void)state;
    static const char *const names[] = {"tornado", "latency", "roofline", "accuracy", "ledger"};
    if (!have_gnuplot())
        skip();
    char *folder = test_folder_create(), path[600], small[600];
    size_t bytes;
    write_small(folder, small, sizeof small);
    for (int i = 0; i < 5; i++) {
        const char *from = i == 0 ? small : i == 4 ? LEDGER : DEMO;
        bool png = i == 1;
        snprintf(path, sizeof path, "%s/%s.%s", folder, names[i], png ? "png" : "svg");
        program_result r = program_run("plot", names[i], from, AS_OF, "-o", path);
        if (r.code != 0)
            fail_msg("%s: exit code %d: %s", names[i], r.code, r.err);
        program_result_free(&r);
        char *drawn = test_read_file(path, &bytes);
        assert_true(bytes > 4000);
        if (png)
            assert_memory_equal(drawn, "\x89PNG", 4);
        else
            assert_contains(drawn, i == 0 ? "EXAMPLE" : "DEMO");
        free(drawn);
    }
    test_folder_remove(folder);
}

/* Records of the ledger: a bar for each step, whose parts are the records' own. */
static void ledger_bars_are_the_records(void **state) {
    (void)state;
    program_result r = program_run("plot", "ledger", LEDGER, "--format", "csv");
    assert_int_equal(r.code, 0);
    assert_contains(r.out, "what,step,launch/host,embed,norms,qkv,rope,attention,attention out,");
    int rows = 0;
    for (char *line = strchr(r.out, '\n'); line && line[1]; line = strchr(line + 1, '\n'), rows++) {
        char *at = strchr(line + 1, ',');
        double step = strtod(at + 1, &at), sum = 0;
        while (*at == ',')
            sum += strtod(at + 1, &at);
        assert_true(sum > 0.25 * step && sum < 1.2 * step); /* medians of each class */
    }
    assert_int_equal(rows, 3);
    program_result_free(&r);
}

/* Forms of one model on the same questions, against the margin: the default's, or a scenario's. */
static void accuracy_is_compared_in_pairs(void **state) {
    (void)state;
    program_result r = program_run("report", DEMO);
    assert_int_equal(r.code, 0);
    in_order(r.out,
             (const char *const[]){"Paired, where 2.0 points may be lost:",
                                   "q4_0 against bf16 on the same 960 questions: -0.4 points "
                                   "[-1.3, +0.6], non-inferior",
                                   "| may lose 2.0 points |", "| non-inferior |", NULL});
    program_result_free(&r);
    const anemo_metric close = {.lo = -0.019, .hi = 0.01}, wide = {.lo = -0.021, .hi = 0.01},
                       worse = {.lo = -0.05, .hi = -0.021}, none = {.lo = NAN, .hi = NAN};
    assert_string_equal(report_non_inferior(&close, 0.02), "non-inferior");
    assert_string_equal(report_non_inferior(&wide, 0.02), "open");
    assert_string_equal(report_non_inferior(&worse, 0.02), "inferior");
    assert_string_equal(report_non_inferior(&none, 0.02), "open");
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    char *folder = test_folder_create(), small[600];
    write_small(folder, small, sizeof small);
    const struct {
        const char *says, *arguments[8];
    } cases[] = {
        {"a report is about one", {"report", small, small, AS_OF}},
        {"expected one of md, html", {"report", MIXED, "--format", "pdf"}},
        {"expected one of break_even", {"plot", "pie", MIXED}},
        {"a name that ends in .svg, .png or .csv", {"plot", "tornado", MIXED, "-o", "x.gif"}},
        {"nothing to draw; it needs records of whole models",
         {"plot", "latency", small, "--draws", "200"}},
        {"nothing to draw; it needs a scenario", {"plot", "tornado", DEMO}},
        {"/nowhere.json", {"report", "/nowhere.json"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        program_result r = program_run_with(NULL, cases[i].arguments);
        if (r.code != 2)
            fail_msg("%s %s: exit code %d", cases[i].arguments[0], cases[i].arguments[1], r.code);
        assert_contains(r.err, cases[i].says);
        assert_string_equal(r.out, "");
        program_result_free(&r);
    }
    test_folder_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_stays_text),
        cmocka_unit_test(drawings_are_taken_strictly),
        cmocka_unit_test(records_cannot_bring_markup),
        cmocka_unit_test(first_page_keeps_its_order),
        cmocka_unit_test(without_gnuplot_the_numbers_stay),
        cmocka_unit_test(figures_go_to_files),
        cmocka_unit_test(ledger_bars_are_the_records),
        cmocka_unit_test(accuracy_is_compared_in_pairs),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
