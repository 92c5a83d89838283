/* Runs a program of operations: the one function that Python calls. */
#include <sched.h>
#include <stdatomic.h>

#include "operations.h"

/* Of what this library was compiled: 64 hex digits, which the package compares with the sources beside it. */
__attribute__((visibility("default"))) const char source_digest[] = SOURCE_DIGEST;

/* Part `part` of `parts` of an operation: every operation's work is cut along the replicates first, so that part r of R
 * is that of replicate r. */
static void perform(const Operation *o, int64_t part, int64_t parts) {
    const void *s = o->settings;
    void *const *p = o->operand;
    const int64_t *n = o->number;
    switch (o->kind) {
    case CONVOLVE: convolve(s, p[0], p[1], p[2], n[0], n[1], n[2], n[3], n[4], n[5], part, parts); break;
    case WEIGHT_GRADIENT: weight_gradient(s, p[0], p[1], p[2], n[0], part, parts); break;
    case NORMALISE: normalise(s, p[0], p[1], p[2], part, parts); break;
    case NORMALISE_BACKWARD: normalise_backward(s, p[0], p[1], p[2], p[3], p[4], p[5], p[6], part, parts); break;
    case POOL: pool(p[0], p[1], n[0], n[1], n[2], n[3], n[4], part, parts); break;
    case POOL_BACKWARD: pool_backward(p[0], p[1], n[0], n[1], n[2], n[3], n[4], part, parts); break;
    case DENSE: dense(s, p[0], p[1], p[2], p[3], part, parts); break;
    case LOSS: loss(s, p[0], p[1], p[2], n[0], part, parts); break;
    case TRANSPOSE: transpose(p[0], p[1], n[0], n[1], n[2], n[3], part, parts); break;
    case DENSE_BACKWARD: dense_backward(s, p[0], p[1], p[2], p[3], part, parts); break;
    case DENSE_GRADIENT: dense_gradient(s, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], part, parts); break;
    case BIAS_GRADIENT: bias_gradient(s, p[0], p[1], part, parts); break;
    case PAD: pad(p[0], p[1], n[0], n[1], n[2], n[3], part, parts); break;
    case UPDATE: update(s, p[0], p[1], p[2], p[3], p[4], n[0], n[1], part, parts); break;
    }
}

/* Run a program for a stack of `replicates` as thread `thread` of `threads`, which all call this; `arrived` is zero
 * before the first does. Each thread takes whole replicates through the program, one after the other, so that what an
 * operation leaves in the cache is there for the next. The replicates that are left over when every thread has had as
 * many go through it together: there, an operation starts when every thread is done with the one before. */
__attribute__((visibility("default")))
void execute(const Operation *program, int64_t count, int64_t replicates, _Atomic int64_t *arrived, int64_t thread,
             int64_t threads) {
    const int64_t alone = replicates / threads * threads;
    for (int64_t r = thread; r < alone; r += threads)
        for (int64_t i = 0; i < count; i++) perform(program + i, r, replicates);
    const int64_t left = replicates - alone;
    for (int64_t i = 0; left && i < count; i++) {
        /* the last `left` of the replicates, each cut in as many parts as there are threads */
        for (int64_t r = alone; r < replicates; r++) perform(program + i, r * threads + thread, replicates * threads);
        atomic_fetch_add(arrived, 1);
        for (int64_t spins = 0; atomic_load(arrived) < (i + 1) * threads; spins++)
            if (spins > 10000) sched_yield();
    }
}
