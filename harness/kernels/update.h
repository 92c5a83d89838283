/* How an optimizer moves a vector of weights. */
#ifndef HARNESS_UPDATE_H
#define HARNESS_UPDATE_H
#include "operations.h"

/* 1 / sqrt(x) and 1 / x of numbers from 0 up, to two units in the last place: a guess from the exponent and three steps
 * of Newton's, in a third of the time of the instructions for root and division. For 0 the first is large, not infinite. */
INLINE vec one_by_root(vec x) {
    vec y = (vec)(0x5f3759df - ((lanes_of_int)x >> 1));
    for (int i = 0; i < 3; i++) y *= 1.5f - 0.5f * x * y * y;
    return y;
}

INLINE vec one_by(vec x) {
    vec y = (vec)(0x7ef311c3 - (lanes_of_int)x);
    for (int i = 0; i < 3; i++) y *= 2.0f - x * y;
    return y;
}

/* The weights after one step of the optimizer with gradient g; a pruned one (mask 0) is exactly zero. */
INLINE vec moved(const Update *u, vec w, vec g, vec *first, vec *second, vec mask) {
    g += u->decay * w;
    if (u->kind == MOMENTUM) {
        *first = u->momentum * *first + g;
        return (w - u->rate * *first) * mask;
    }
    *first += (g - *first) * (1 - u->beta1);
    *second = u->beta2 * *second + (1 - u->beta2) * (g * g);
    const vec root = *second * one_by_root(*second);
    return (w - u->rate * *first * one_by(root * u->root + u->eps)) * mask;
}
#endif
