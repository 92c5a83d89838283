/* Runs programs of operations: the one function that Python calls. */
#include <sched.h>
#include <stdatomic.h>

#include "operations.h"

/* Of what this library was compiled: 64 hex digits, which the package compares with the sources beside it. */
__attribute__((visibility("default"))) const char source_digest[] = SOURCE_DIGEST;

/* Part `part` of `parts` of an operation. */
static void perform(const Operation *o, int64_t part, int64_t parts) {
    const void *s = o->settings;
    void *const *p = o->operand;
    const int64_t *n = o->number;
    switch (o->kind) {
    case CONVOLVE: convolve(s, p[0], p[1], p[2], n[0], n[1], n[2], n[3], part, parts); break;
    case WEIGHT_GRADIENT: weight_gradient(s, p[0], p[1], p[2], part, parts); break;
    case NORMALISE: normalise(s, p[0], p[1], p[2], part, parts); break;
    case NORMALISE_BACKWARD: normalise_backward(s, p[0], p[1], p[2], p[3], p[4], p[5], p[6], part, parts); break;
    case POOL: pool(p[0], p[1], n[0], n[1], n[2], n[3], n[4], part, parts); break;
    case POOL_BACKWARD: pool_backward(p[0], p[1], n[0], n[1], n[2], n[3], n[4], part, parts); break;
    case DENSE: dense(s, p[0], p[1], p[2], p[3], part, parts); break;
    case LOSS: loss(s, p[0], p[1], p[2], n[0], part); break;
    case TRANSPOSE: transpose(p[0], p[1], n[0], n[1], n[2], part, parts); break;
    case DENSE_BACKWARD: dense_backward(s, p[0], p[1], p[2], p[3], part, parts); break;
    case DENSE_GRADIENT: dense_gradient(s, p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], part, parts); break;
    case BIAS_GRADIENT: bias_gradient(s, p[0], p[1], part, parts); break;
    case PAD: pad(p[0], p[1], n[0], n[1], n[2], n[3], part, parts); break;
    case UPDATE: update(s, p[0], p[1], p[2], p[3], p[4], n[0], part, parts); break;
    case SELECT: select_rows(s, p[0], p[1], n[0], n[1], part, parts); break;
    case GATHER: gather(p[0], p[1], p[2], n[0], part, parts); break;
    case TO_BLOCKS: to_blocks(s, p[0], p[1], p[2], n[0], n[1], part, parts); break;
    case TO_ROWS: to_rows(p[0], p[1], n[0], n[1], part, parts); break;
    case SPARSE_ROWS: sparse_rows(s, p[0], p[1], p[2], p[3], p[4], part, parts); break;
    case SPARSE_GRADIENT: sparse_gradient(s, p[0], p[1], p[2], p[3], p[4], p[5], part, parts); break;
    case SPARSE_BIAS: sparse_bias(s, p[0], p[1], part, parts); break;
    case SPARSE_CONVOLVE: sparse_convolve(s, p[0], p[1], p[2], part, parts); break;
    case SPARSE_WEIGHT_GRADIENT: sparse_weight_gradient(s, p[0], p[1], p[2], p[3], part, parts); break;
    }
}

/* How the processor treats numbers below 2^-126. Adam's memory of a weight whose gradient has become 0, as that of a
 * border pixel does, falls among them and stays: some processors take a hundred cycles for an operation on one. As zeros
 * they cost nothing, and no weight differs: the step that they make is below its last bit. */
#if defined(__x86_64__)
typedef unsigned Mode;
static const Mode SMALL_ARE_ZERO = 0x8040; /* as inputs, as results */
static Mode mode(void) { return __builtin_ia32_stmxcsr(); }
static void set_mode(Mode to) { __builtin_ia32_ldmxcsr(to); }
#elif defined(__aarch64__)
typedef uint64_t Mode;
static const Mode SMALL_ARE_ZERO = 1 << 24;
static Mode mode(void) {
    Mode now;
    __asm__ volatile("mrs %0, fpcr" : "=r"(now));
    return now;
}
static void set_mode(Mode to) { __asm__ volatile("msr fpcr, %0" : : "r"(to)); }
#endif

/* Run the programs of a stack, one for each replicate, as thread `thread` of `threads`, which all call this; `arrived` is
 * zero before the first does. Each thread takes whole replicates through their programs, one after the other, so that
 * what an operation leaves in the cache is there for the next. The replicates that are left over when every thread has
 * had as many are run by all threads together: there, an operation starts when every thread is done with the one before. */
__attribute__((visibility("default")))
void execute(const Operation *const *programs, const int64_t *counts, int64_t replicates, _Atomic int64_t *arrived,
             int64_t thread, int64_t threads) {
    const Mode before = mode();
    set_mode(before | SMALL_ARE_ZERO);
    const int64_t alone = replicates / threads * threads;
    for (int64_t r = thread; r < alone; r += threads)
        for (int64_t i = 0; i < counts[r]; i++) perform(programs[r] + i, 0, 1);
    int64_t done = 0;
    for (int64_t r = alone; r < replicates; r++)
        for (int64_t i = 0; i < counts[r]; i++) {
            perform(programs[r] + i, thread, threads);
            done += threads;
            atomic_fetch_add(arrived, 1);
            for (int64_t spins = 0; atomic_load(arrived) < done; spins++)
                if (spins > 10000) sched_yield();
        }
    set_mode(before);
}
