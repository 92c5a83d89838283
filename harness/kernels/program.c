/* Runs a program of operations: the one function that Python calls. */
#include <sched.h>
#include <stdatomic.h>

#include "operations.h"

static void perform(const Operation *o, int64_t part, int64_t parts) {
    const void *s = o->settings;
    void *const *p = o->operand;
    const int64_t *n = o->number;
    switch (o->kind) {
    case CONVOLVE: convolve(s, p[0], p[1], p[2], n[0], n[1], n[2], n[3], n[4], n[5], part, parts); break;
    case WEIGHT_GRADIENT: weight_gradient(s, p[0], p[1], p[2], n[0], part, parts); break;
    case NORMALISE: normalise(s, p[0], p[1], p[2], part, parts); break;
    case NORMALISE_BACKWARD: normalise_backward(s, p[0], p[1], p[2], p[3], p[4], p[5], p[6], part, parts); break;
    case POOL: pool(p[0], p[1], n[0], n[1], n[2], n[3], part, parts); break;
    case POOL_BACKWARD: pool_backward(p[0], p[1], n[0], n[1], n[2], n[3], part, parts); break;
    case DENSE: dense(s, p[0], p[1], p[2], p[3], part, parts); break;
    case LOSS: loss(s, p[0], p[1], p[2], n[0], part, parts); break;
    case TRANSPOSE: transpose(p[0], p[1], n[0], n[1], n[2], n[3], part, parts); break;
    case DENSE_BACKWARD: dense_backward(s, p[0], p[1], p[2], p[3], part, parts); break;
    case DENSE_GRADIENT: dense_gradient(s, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], part, parts); break;
    case BIAS_GRADIENT: bias_gradient(s, p[0], p[1], part, parts); break;
    case PAD: pad(p[0], p[1], n[0], n[1], n[2], n[3], part, parts); break;
    case UPDATE: update(s, p[0], p[1], p[2], p[3], p[4], n[0], part, parts); break;
    }
}

/* Run a program as part `part` of `parts` threads, which all call this; `arrived` is zero before the first does. An
 * operation starts when every thread is done with the one before. */
__attribute__((visibility("default")))
 void execute(const Operation *program, int64_t count, _Atomic int64_t *arrived, int64_t part, int64_t parts) {
    for (int64_t i = 0; i < count; i++) {
        perform(program + i, part, parts);
        if (parts == 1) continue;
        atomic_fetch_add(arrived, 1);
        for (int64_t spins = 0; atomic_load(arrived) < (i + 1) * parts; spins++)
            if (spins > 10000) sched_yield();
    }
}
