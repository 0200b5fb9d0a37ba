/* The thread team on POSIX threads: what the ThreadSanitizer build uses (it cannot see into
 * libgomp), and builds without OpenMP. Workers live as long as the team and sleep on a condition
 * variable between two loops; a generation number tells a new loop from the last one. */
#include "kernels/exec_internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct team team;
typedef struct worker {
    team *owner;
    int32_t thread;
    pthread_t handle;
} worker;

struct team {
    anemo_binding binding;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    uint64_t generation; /* of the loop now running */
    int32_t running;     /* workers that have not finished it */
    int32_t started;     /* workers that exist */
    int32_t unbound;     /* threads that the system refused to bind */
    bool stop;
    anemo_loop *loop;
    worker *workers; /* [n_threads - 1] */
    int32_t *cpus;
};

static void *worker_main(void *argument) {
    worker *self = argument;
    team *t = self->owner;
    const bool bound = anemo_bind_thread(&t->binding, self->thread);
    uint64_t seen = 0;
    pthread_mutex_lock(&t->lock);
    t->unbound += !bound;
    t->running--;
    pthread_cond_signal(&t->done);
    for (;;) {
        while (t->generation == seen && !t->stop) {
            pthread_cond_wait(&t->work, &t->lock);
        }
        if (t->stop) {
            break;
        }
        seen = t->generation;
        anemo_loop *loop = t->loop;
        pthread_mutex_unlock(&t->lock);
        anemo_loop_run(loop, self->thread, t->binding.n_threads, t->binding.n_threads);
        pthread_mutex_lock(&t->lock);
        if (--t->running == 0) {
            pthread_cond_signal(&t->done);
        }
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void wait_for_workers(team *t) {
    while (t->running > 0) {
        pthread_cond_wait(&t->done, &t->lock);
    }
}

static void parallel(const anemo_exec *exec, int64_t n, int64_t grain, anemo_task task, void *ctx) {
    team *t = exec->team;
    anemo_loop loop = {.task = task, .ctx = ctx, .n = n, .grain = grain};
    anemo_bind_thread(&t->binding, 0);
    if (exec->n_threads == 1 || n <= 1 || n <= grain) { /* one piece: nobody to wake */
        anemo_loop_run(&loop, 0, 1, 1);
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->loop = &loop;
    t->running = t->started;
    t->generation++;
    pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->lock);
    anemo_loop_run(&loop, 0, exec->n_threads, exec->n_threads);
    pthread_mutex_lock(&t->lock);
    wait_for_workers(t);
    pthread_mutex_unlock(&t->lock);
}

static anemo_status start_workers(team *t, anemo_error *err) {
    const int32_t wanted = t->binding.n_threads - 1;
    const bool bound = anemo_bind_thread(&t->binding, 0);
    pthread_mutex_lock(&t->lock);
    t->unbound += !bound;
    for (int32_t i = 0; i < wanted; i++) {
        t->workers[i] = (worker){.owner = t, .thread = i + 1};
        if (pthread_create(&t->workers[i].handle, NULL, worker_main, &t->workers[i]) != 0) {
            break;
        }
        t->started++;
        t->running++;
    }
    wait_for_workers(t);
    const int32_t unbound = t->unbound;
    pthread_mutex_unlock(&t->lock);
    if (t->started != wanted || unbound > 0) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "threads: %d asked for, %d started, and %d cannot be bound to their CPU; "
                          "fewer threads or permitted CPUs are accepted",
                          wanted + 1, t->started + 1, unbound);
    }
    return ANEMO_OK;
}

anemo_status anemo_team_create(int32_t n_threads, const int32_t *cpus, anemo_exec *exec,
                               anemo_error *err) {
    team *t = calloc(1, sizeof *t);
    worker *workers = calloc((size_t)n_threads, sizeof *workers);
    int32_t *own_cpus = cpus ? malloc((size_t)n_threads * sizeof *cpus) : NULL;
    if (!t || !workers || (cpus && !own_cpus)) {
        free(t);
        free(workers);
        free(own_cpus);
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a team of %d threads", n_threads);
    }
    if (cpus) {
        memcpy(own_cpus, cpus, (size_t)n_threads * sizeof *cpus);
    }
    t->cpus = own_cpus;
    t->workers = workers;
    t->binding =
        (anemo_binding){.n_threads = n_threads, .cpus = own_cpus, .unbound = anemo_unbound_mask()};
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->work, NULL);
    pthread_cond_init(&t->done, NULL);
    exec->n_threads = n_threads;
    exec->parallel = parallel;
    exec->team = t;
    const anemo_status status = start_workers(t, err);
    if (status != ANEMO_OK) {
        anemo_team_free(exec);
    }
    return status;
}

void anemo_team_free(anemo_exec *exec) {
    team *t = exec->team;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->lock);
    for (int32_t i = 0; i < t->started; i++) {
        pthread_join(t->workers[i].handle, NULL);
    }
    anemo_unbind_thread();
    pthread_cond_destroy(&t->done);
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->lock);
    free(t->workers);
    free(t->cpus);
    free(t);
    exec->team = NULL;
}
