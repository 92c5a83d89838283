/* Vectors, and what every kernel shares. Work is cut in `parts`, of which a call does number `part`: threads share
 * nothing but what they read. */
#ifndef HARNESS_KERNELS_H
#define HARNESS_KERNELS_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t lanes_of_int __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *at) { return *(const vec *)at; }
INLINE void store(float *at, vec value) { *(vec *)at = value; }
/* x where `test` is above zero, or no number, which must not be lost; else 0. */
INLINE vec where_open(vec test, vec x) { return (vec)((lanes_of_int)x & ~(lanes_of_int)(test <= 0)); }

#if LANES == 16
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif LANES == 8
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#endif

/* Lane i of the result is the sum over the lanes of v[i]; v has LANES vectors and is overwritten. */
INLINE vec sums(vec *v) {
    for (int count = LANES; count > 1; count /= 2)
        for (int i = 0; i < count / 2; i++)
            v[i] = __builtin_shufflevector(v[2 * i], v[2 * i + 1], EVEN) +
                   __builtin_shufflevector(v[2 * i], v[2 * i + 1], ODD);
    return v[0];
}

INLINE double sum(vec v) {
    double total = 0;
    for (int i = 0; i < LANES; i++) total += v[i];
    return total;
}

INLINE void share(int64_t work, int64_t part, int64_t parts, int64_t *from, int64_t *to) {
    *from = work * part / parts;
    *to = work * (part + 1) / parts;
}

#endif
