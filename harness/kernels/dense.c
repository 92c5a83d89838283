/* Fully connected layers, the loss, and the optimizers: on rows, [N, features], as in operations.h. */
#include <string.h>

#include "update.h"

#define WIDE 4 /* vectors of outputs in a tile */
#if LANES == 16
#define TALL 6 /* rows of a tile: TALL * WIDE sums, WIDE vectors and one more fit the registers */
#else
#define TALL 2
#endif
#define DEPTH 64 /* inputs that pass before a tile goes back to memory: their weights stay in the second-level cache */

/* Where the vectors of a tile at column `from` of `columns` begin; returns how many there are. A vector overlaps one of
 * its own tile only, so that what a tile reads before it writes is not changed twice. */
INLINE int columns_of(int64_t from, int64_t columns, int64_t *at) {
    const int64_t beyond = columns - from - WIDE * LANES;
    const int most = beyond > 0 && beyond < LANES ? WIDE - 1 : WIDE;
    int wide = 0;
    for (int64_t c = from; wide < most && c < columns; c += LANES) at[wide++] = c + LANES <= columns ? c : columns - LANES;
    return wide;
}

/* sum[i][j] += sum over k < depth of a[i * ai + k * ak] * (vector at b[k * pitch + at[j]]). */
INLINE void product(vec (*sum)[WIDE], const float *a, int64_t ai, int64_t ak, const float *b, int64_t pitch,
                    int64_t depth, const int64_t *at, const int tall, const int wide) {
    for (int64_t k = 0; k < depth; k++, a += ak, b += pitch)
        for (int j = 0; j < wide; j++) {
            const vec bj = load(b + at[j]);
            for (int i = 0; i < tall; i++) sum[i][j] += a[i * ai] * bj;
        }
}

/* The same for tiles at the edge, whose height and width are known only now. */
INLINE void any_product(vec (*sum)[WIDE], const float *a, int64_t ai, int64_t ak, const float *b, int64_t pitch,
                        int64_t depth, const int64_t *at, int tall, int wide) {
    if (tall == TALL && wide == WIDE) product(sum, a, ai, ak, b, pitch, depth, at, TALL, WIDE);
    else if (tall == TALL && wide == 3) product(sum, a, ai, ak, b, pitch, depth, at, TALL, 3);
    else if (tall == TALL && wide == 1) product(sum, a, ai, ak, b, pitch, depth, at, TALL, 1);
    else
        for (int i = 0; i < tall; i++)
            for (int j = 0; j < wide; j++) product((vec(*)[WIDE])&sum[i][j], a + i * ai, ai, ak, b, pitch, depth, at + j, 1, 1);
}

/* out[m, c] = epilogue(start[c] + sum over k of a[m, k] b[k, c]), rows m cut among the parts. With `open`, only where
 * open[m, c] > 0. */
INLINE void rows_times(float *out, int64_t out_pitch, const float *a, int64_t a_pitch, const float *b, int64_t b_pitch,
                       const float *start, const float *open, int64_t open_pitch, int relu, int64_t rows, int64_t depth,
                       int64_t columns, int64_t part, int64_t parts) {
    int64_t from, to, at[WIDE];
    share((rows + TALL - 1) / TALL, part, parts, &from, &to);
    for (int64_t k = 0; k < depth; k += DEPTH) {
        const int64_t deep = k + DEPTH < depth ? DEPTH : depth - k;
        const int last = k + deep == depth;
        for (int64_t c = 0, wide; c < columns; c += wide * LANES) {
            wide = columns_of(c, columns, at);
            for (int64_t t = from; t < to; t++) {
                const int64_t m = t * TALL;
                const int tall = m + TALL <= rows ? TALL : (int)(rows - m);
                float *y = out + m * out_pitch;
                vec sum[TALL][WIDE];
                for (int i = 0; i < tall; i++)
                    for (int j = 0; j < wide; j++)
                        sum[i][j] = k ? load(y + i * out_pitch + at[j]) : start ? load(start + at[j]) : (vec){0};
                any_product(sum, a + m * a_pitch + k, a_pitch, 1, b + k * b_pitch, b_pitch, deep, at, tall, (int)wide);
                for (int i = 0; i < tall; i++)
                    for (int j = 0; j < wide; j++) {
                        vec value = sum[i][j];
                        if (last && relu) value = where_open(value, value);
                        if (last && open) value = where_open(load(open + (m + i) * open_pitch + at[j]), value);
                        store(y + i * out_pitch + at[j], value);
                    }
            }
        }
    }
}

/* y = [relu](x w + b). */
void dense(const Dense *d, float *y, const float *x, const float *w, const float *b, int64_t part, int64_t parts) {
    rows_times(y, d->y_pitch, x, d->x_pitch, w, d->w_pitch, b, NULL, 0, (int)d->relu, d->samples, d->inputs,
               d->outputs, part, parts);
}

/* dx = dy w^T where x > 0 (x may be null: everywhere); wt is w transposed, [outputs, inputs]. */
void dense_backward(const Dense *d, float *dx, const float *dy, const float *wt, const float *x, int64_t part,
                    int64_t parts) {
    rows_times(dx, d->x_pitch, dy, d->y_pitch, wt, d->inputs, NULL, x, d->x_pitch, 0, d->samples, d->outputs,
               d->inputs, part, parts);
}

typedef uint8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

INLINE vec kept(const uint8_t *mask) {
    return mask ? __builtin_convertvector(*(const bytes *)mask, vec) : (vec){0} + 1.0f;
}

#define GROUP 8 /* tiles of weights that pass before the next strip of columns */

/* Moves a row of a tile by its gradient; what lies `next` numbers on is asked for, since a stack outgrows the cache.
 * All is read before any is written: the last two vectors may overlap. */
INLINE void move_row(const Update *u, float *w, float *first, float *second, const uint8_t *mask, const vec *gradient,
                     const int64_t *at, int wide, int64_t next) {
    vec new[WIDE], one[WIDE], two[WIDE];
    for (int j = 0; j < wide; j++) {
        __builtin_prefetch(w + next + at[j], 1);
        __builtin_prefetch(first + next + at[j], 1);
        if (second) __builtin_prefetch(second + next + at[j], 1);
        one[j] = load(first + at[j]);
        two[j] = second ? load(second + at[j]) : (vec){0};
        new[j] = moved(u, load(w + at[j]), gradient[j], one + j, two + j, kept(mask ? mask + at[j] : NULL));
    }
    for (int j = 0; j < wide; j++) {
        store(w + at[j], new[j]);
        store(first + at[j], one[j]);
        if (second) store(second + at[j], two[j]);
    }
}

/* dw = x^T dy. With `u` the weights move at once, and dw is not written: half of a large layer's time would go into
 * writing and reading it. */
void dense_gradient(const Dense *d, float *dw, const float *dy, const float *x, const Update *u, float *w, float *first,
                    float *second, const uint8_t *mask, int64_t part, int64_t parts) {
    int64_t from, to, at[WIDE];
    share((d->inputs + TALL - 1) / TALL, part, parts, &from, &to);
    while (from < to) {
        /* a few tiles share a strip of dy, which the first-level cache holds */
        const int64_t end = from + GROUP < to ? from + GROUP : to;
        for (int64_t c = 0, wide; c < d->outputs; c += wide * LANES) {
            wide = columns_of(c, d->outputs, at);
            for (int64_t t = from; t < end; t++) {
                const int64_t m = t * TALL, row = m * d->w_pitch;
                const int tall = m + TALL <= d->inputs ? TALL : (int)(d->inputs - m);
                vec sum[TALL][WIDE] = {0};
                any_product(sum, x + m, 1, d->x_pitch, dy, d->y_pitch, d->samples, at, tall, (int)wide);
                for (int i = 0; i < tall; i++) {
                    const int64_t here = row + i * d->w_pitch;
                    if (u)
                        move_row(u, w + here, first + here, second ? second + here : NULL, mask ? mask + here : NULL,
                                 sum[i], at, (int)wide, TALL * d->w_pitch);
                    else
                        for (int j = 0; j < wide; j++) store(dw + here + at[j], sum[i][j]);
                }
            }
        }
        from = end;
    }
}

/* db = sum of dy over the samples. */
void bias_gradient(const Dense *d, float *db, const float *dy, int64_t part, int64_t parts) {
    int64_t from, to;
    share((d->outputs + LANES - 1) / LANES, part, parts, &from, &to);
    for (int64_t j = from; j < to; j++) {
        const int64_t c = (j + 1) * LANES <= d->outputs ? j * LANES : d->outputs - LANES;
        vec total = {0};
        for (int64_t n = 0; n < d->samples; n++) total += load(dy + n * d->y_pitch + c);
        store(db + c, total);
    }
}

/* Mean cross-entropy of the logits z [N, classes], which become their gradient: the first part's work. */
void loss(const Dense *d, float *losses, float *z, const int64_t *labels, int64_t classes, int64_t part) {
    if (part) return;
    double total = 0;
    for (int64_t n = 0; n < d->samples; n++) {
        float *row = z + n * d->y_pitch, most = row[0], sum = 0;
        for (int64_t c = 1; c < classes; c++) most = row[c] > most ? row[c] : most;
        const float own = row[labels[n]] - most;
        for (int64_t c = 0; c < classes; c++) sum += row[c] = expf(row[c] - most);
        for (int64_t c = 0; c < classes; c++) row[c] = (row[c] / sum - (c == labels[n])) / (float)d->samples;
        for (int64_t c = classes; c < d->y_pitch; c++) row[c] = 0;
        total += logf(sum) - own;
    }
    *losses = (float)(total / (double)d->samples);
}

/* out[c, m] = in[m, c]. */
void transpose(float *out, const float *in, int64_t rows, int64_t columns, int64_t in_pitch, int64_t part, int64_t parts) {
    enum { BAND = 8 };
    int64_t from, to;
    share((rows + BAND - 1) / BAND, part, parts, &from, &to);
    for (int64_t m = from * BAND; m < to * BAND; m += BAND) {
        const int64_t end = m + BAND < rows ? m + BAND : rows;
        for (int64_t c = 0; c < columns; c++)
            for (int64_t i = m; i < end; i++) out[c * rows + i] = in[i * in_pitch + c];
    }
}

/* Rows of `in`, cut or filled with zeros to the length of rows of `out`. */
void pad(float *out, const float *in, int64_t rows, int64_t columns, int64_t in_pitch, int64_t out_pitch, int64_t part,
         int64_t parts) {
    int64_t from, to;
    share(rows, part, parts, &from, &to);
    for (int64_t i = from; i < to; i++)
        for (int64_t c = 0; c < out_pitch; c++) out[i * out_pitch + c] = c < columns ? in[i * in_pitch + c] : 0;
}

/* out[n] = row index[n] of the source. */
void select_rows(const Source *s, float *out, const int64_t *index, int64_t samples, int64_t columns, int64_t part,
                 int64_t parts) {
    int64_t from, to;
    share(samples, part, parts, &from, &to);
    for (int64_t n = from; n < to; n++) memcpy(out + n * columns, s->rows + index[n] * columns, columns * sizeof(float));
}

#define STRIDE 64 /* vectors of a piece of an update */

/* One step of the optimizer for `count` weights with gradient g. */
void update(const Update *u, float *w, const float *g, float *first, float *second, const uint8_t *mask, int64_t count,
            int64_t part, int64_t parts) {
    int64_t k, end;
    share((count + STRIDE * LANES - 1) / (STRIDE * LANES), part, parts, &k, &end);
    k *= STRIDE * LANES;
    end = end * STRIDE * LANES < count ? end * STRIDE * LANES : count;
    for (; k + LANES <= end; k += LANES) {
        vec one = load(first + k), two = second ? load(second + k) : (vec){0};
        store(w + k, moved(u, load(w + k), load(g + k), &one, &two, kept(mask ? mask + k : NULL)));
        store(first + k, one);
        if (second) store(second + k, two);
    }
    for (; k < end; k++) { /* the last few, one in each vector */
        vec one = {first[k]}, two = {second ? second[k] : 0};
        const vec keep = (vec){0} + (mask ? (float)mask[k] : 1.0f);
        w[k] = moved(u, (vec){w[k]}, (vec){g[k]}, &one, &two, keep)[0];
        first[k] = one[0];
        if (second) second[k] = two[0];
    }
}
