/* The accuracy step of the demo: the embedded model in three forms on the same held-out cases. */
#include "harness/cli/demo.h"
#include "harness/eval/suite.h"

#include <string.h>
#include <unistd.h>

#define FORMS          3
#define CASES_PER_KIND 40 /* of each kind and level: two minutes do not allow all of them */

typedef struct eval_watch {
    anemo_progress progress;
    int form;
} eval_watch;

static bool watch_eval(void *ctx, double share) {
    eval_watch *w = ctx;
    anemo_progress_show(&w->progress, w->form + share, "");
    return !anemo_cli_interrupted();
}

static void print_form(const anemo_eval_suite *suite, const anemo_eval_run *runs, int form,
                       FILE *out) {
    anemo_eval_score scores[ANEMO_EVAL_SCORES];
    anemo_eval_comparison c[ANEMO_EVAL_COMPARISONS + ANEMO_EVAL_TEXTS];
    const int32_t n =
        anemo_eval_scores(suite->cases, runs[form].results, scores, ANEMO_EVAL_SCORES);
    const anemo_eval_score *all = &scores[n - 1];
    fprintf(out, "  %-5s exact %.1f %% [%.1f, %.1f], choice %.1f %%", runs[form].weights,
            100 * all->exact.value, 100 * all->exact.lo, 100 * all->exact.hi,
            100 * all->choice.value);
    if (form == 0) {
        fprintf(out, " (chance: 25 %%); n = %lld\n", (long long)all->n);
        return;
    }
    const int32_t n_compared = anemo_eval_suite_compare(suite, &runs[0], &runs[form], c);
    for (int32_t i = 0; i < n_compared; i++)
        if (strcmp(c[i].metric, "exact") == 0)
            fprintf(out, "; paired %+.2f points [%+.2f, %+.2f], %s", 100 * c[i].difference.value,
                    100 * c[i].difference.lo, 100 * c[i].difference.hi,
                    c[i].different ? "differs" : "not shown to differ");
    fputc('\n', out);
}

static demo_fate run_forms(demo *d, anemo_eval_suite *suite) {
    static const char *const forms[FORMS] = {NULL, "q8_0", "q4_0"};
    eval_watch watch = {.progress = anemo_progress_start(d->cli, "accuracy", FORMS)};
    anemo_eval_run runs[FORMS];
    anemo_error err = {0};
    anemo_status status = ANEMO_OK;
    int done = 0;
    const anemo_eval_record_info info = {
        .device = d->device, .repro = "anemo eval --weights stored,q8_0,q4_0", .demo = true};
    suite->progress = watch_eval;
    suite->progress_ctx = &watch;
    while (done < FORMS && status == ANEMO_OK) {
        watch.form = done;
        status = anemo_eval_suite_run(suite, d->device, forms[done], &runs[done], &err);
        if (status != ANEMO_OK)
            break;
        done++;
        status = anemo_eval_suite_record(suite, &runs[done - 1], done > 1 ? &runs[0] : NULL, &info,
                                         d->sink, &err);
        anemo_progress_end(&watch.progress);
        print_form(suite, runs, done - 1, d->cli->out);
        watch.progress = anemo_progress_start(d->cli, "accuracy", FORMS);
    }
    anemo_progress_end(&watch.progress);
    for (int i = 0; i < done; i++)
        anemo_eval_run_free(&runs[i]);
    return status == ANEMO_OK ? DEMO_OK : demo_fail(d, status, &err);
}

demo_fate demo_accuracy(demo *d) {
    anemo_eval_cases cases;
    anemo_error err = {0};
    char tasks[4200];
    const anemo_eval_filter filter = {.limit = CASES_PER_KIND};
    if (!d->model[0])
        return demo_fail(d, ANEMO_E_INPUT, &d->no_model);
    snprintf(tasks, sizeof tasks, "%s/tasks", d->model);
    if (access(tasks, R_OK) != 0)
        return demo_skip(d, "%s is not there", tasks);
    anemo_status status = anemo_eval_cases_load(tasks, &filter, &cases, &err);
    if (status != ANEMO_OK)
        return demo_fail(d, status, &err);
    anemo_eval_suite suite = {
        .model = d->model, .cases = &cases, .rules = {.exact = true, .choice = true}};
    demo_fate fate = run_forms(d, &suite);
    anemo_eval_cases_free(&cases);
    return fate;
}
