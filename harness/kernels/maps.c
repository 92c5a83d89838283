/* Convolution and batch normalisation of feature maps.
 *
 * A feature map is [C, P, N]: channel, position (row by row when there are two dimensions), sample. The
 * samples lie innermost, so every operation is a plain run over a vector register of samples, whatever the kernel's
 * width, the stride or the edge of the map. N is a multiple of 16. float32 throughout; sums over a whole channel in
 * double.
 */
#include "operations.h"

#define WIDE 4           /* vectors of samples that a tile of the convolution holds for each of its outputs */
#define TALL 4           /* outputs (channels) of a tile */
#define DEEP (LANES / 4) /* inputs (channels) of a tile of the weight gradient: TALL * DEEP sums = LANES */

/* One tile: `tall` outputs at one position for `wide` vectors of samples. Weight of (output i, input k, tap t) is at
 * w[i * wi + k * wk + t * wt]. */
INLINE void tile(float *out, const float *in, const float *w, const Geometry *g, int64_t p, int64_t wi, int64_t wk,
                 int64_t wt, int64_t add, const int tall, const int wide) {
    const int64_t out_row = g->out_row, in_row = g->in_row;
    vec y[TALL][WIDE];
    for (int i = 0; i < tall; i++)
        for (int j = 0; j < wide; j++) y[i][j] = add ? load(out + i * out_row + j * LANES) : (vec){0};
    for (int64_t t = 0; t < g->taps; t++) {
        const int32_t position = g->under[p * g->taps + t];
        if (position < 0) continue;
        const float *x = in + position * g->samples, *weight = w + t * wt;
        for (int64_t k = 0; k < g->inputs; k++, x += in_row, weight += wk)
            for (int j = 0; j < wide; j++) {
                const vec xj = load(x + j * LANES);
                for (int i = 0; i < tall; i++) y[i][j] += weight[i * wi] * xj;
            }
    }
    for (int i = 0; i < tall; i++)
        for (int j = 0; j < wide; j++) store(out + i * out_row + j * LANES, y[i][j]);
}

/* out[i, p, n] (+)= sum over taps and inputs k of w[i, k, t] in[k, position, n].
 * The gradient to the input is the same sum with the weights' two channel strides exchanged. */
void convolve(const Geometry *g, float *out, const float *in, const float *w, int64_t wi, int64_t wk, int64_t wt,
              int64_t add, int64_t part, int64_t parts) {
    int64_t from, to;
    share(g->out_positions, part, parts, &from, &to);
    for (int64_t n = 0; n < g->samples;) { /* outermost, so that neighbouring positions find their rows still close */
        const int wide = n + WIDE * LANES <= g->samples ? WIDE : 1;
        for (int64_t p = from; p < to; p++) {
            const float *x = in + n;
            float *y = out + p * g->samples + n;
            for (int64_t i = 0; i < g->outputs;) {
                const int tall = i + TALL <= g->outputs ? TALL : 1;
                const float *from_w = w + i * wi;
                if (tall == TALL && wide == WIDE) tile(y + i * g->out_row, x, from_w, g, p, wi, wk, wt, add, TALL, WIDE);
                else if (wide == WIDE) tile(y + i * g->out_row, x, from_w, g, p, wi, wk, wt, add, 1, WIDE);
                else if (tall == TALL) tile(y + i * g->out_row, x, from_w, g, p, wi, wk, wt, add, TALL, 1);
                else tile(y + i * g->out_row, x, from_w, g, p, wi, wk, wt, add, 1, 1);
                i += tall;
            }
        }
        n += wide * LANES;
    }
}

/* Adds to dw[i, k, t] for one tile of weights (tall x deep channels, tap t) the sum over output positions from..to. */
INLINE void weight_tile(float *dw, const float *dy, const float *x, const Geometry *g, int64_t t, int64_t from,
                        int64_t to, const int tall, const int deep) {
    const int64_t dy_row = g->out_row, x_row = g->in_row;
    vec total[TALL * DEEP];
    for (int i = 0; i < TALL * DEEP; i++) total[i] = (vec){0};
    for (int64_t p = from; p < to; p++) {
        const int32_t position = g->under[p * g->taps + t];
        if (position < 0) continue;
        const float *a = dy + p * g->samples, *b = x + position * g->samples;
        for (int64_t n = 0; n < g->samples; n += LANES) {
            vec at[TALL];
            for (int i = 0; i < tall; i++) at[i] = load(a + i * dy_row + n);
            for (int k = 0; k < deep; k++) {
                const vec bk = load(b + k * x_row + n);
                for (int i = 0; i < tall; i++) total[i * DEEP + k] += at[i] * bk;
            }
        }
    }
    const vec done = sums(total);
    for (int i = 0; i < tall; i++)
        for (int k = 0; k < deep; k++) dw[(i * g->inputs + k) * g->taps + t] += done[i * DEEP + k];
}

#define SPAN 4096 /* bytes of a map's row that stay in the first-level cache while its taps pass */

/* dw[i, k, t] = sum over positions and samples of dy[i, p, n] x[k, position, n]. A block of positions passes all tiles
 * before the next does, so that x comes from far away once. */
void weight_gradient(const Geometry *g, float *dw, const float *dy, const float *x, int64_t part, int64_t parts) {
    const int64_t pairs = g->inputs * g->taps, block = SPAN / 4 / g->samples > 1 ? SPAN / 4 / g->samples : 1;
    int64_t first, last;
    share((g->outputs + TALL - 1) / TALL, part, parts, &first, &last);
    for (int64_t from = 0; from < g->out_positions; from += block) {
        const int64_t to = from + block < g->out_positions ? from + block : g->out_positions;
        for (int64_t i = first * TALL; i < last * TALL; i += TALL) {
            const int tall = g->outputs - i < TALL ? (int)(g->outputs - i) : TALL;
            const float *dyi = dy + i * g->out_row;
            float *dwi = dw + i * pairs;
            if (!from)
                for (int64_t j = 0; j < tall * pairs; j++) dwi[j] = 0;
            for (int64_t k = 0; k < g->inputs; k += DEEP) {
                const int deep = g->inputs - k < DEEP ? (int)(g->inputs - k) : DEEP;
                const float *xk = x + k * g->in_row;
                for (int64_t t = 0; t < g->taps; t++) {
                    if (tall == TALL && deep == DEEP)
                        weight_tile(dwi + k * g->taps, dyi, xk, g, t, from, to, TALL, DEEP);
                    else weight_tile(dwi + k * g->taps, dyi, xk, g, t, from, to, tall, deep);
                }
            }
        }
    }
}

#define RUN 256 /* vectors summed in float32 before their sum goes on in double */

/* Sum over a row of y - centre, or of its square. */
INLINE double sum_of_row(const float *y, int64_t count, float centre, const int squared) {
    double total = 0;
    for (int64_t from = 0; from < count; from += RUN * LANES) {
        const int64_t to = from + RUN * LANES < count ? from + RUN * LANES : count;
        vec part[4] = {0};
        for (int64_t m = from; m < to; m += LANES) {
            const vec value = load(y + m) - centre;
            if (squared) part[m / LANES & 3] += value * value;
            else part[m / LANES & 3] += value;
        }
        total += sum((part[0] + part[1]) + (part[2] + part[3]));
    }
    return total;
}

/* out = [relu](scale * (y - centre) * steep + shift [+ residual]); out may be y. */
void normalise(const Norm *b, float *out, const float *y, const float *residual, int64_t part, int64_t parts) {
    int64_t from, to;
    share(b->channels, part, parts, &from, &to);
    for (int64_t c = from; c < to; c++) {
        const float *row = y + c * b->row, *extra = residual + c * b->row;
        float *at = out + c * b->row;
        double mean = b->mean[c], variance = b->variance[c];
        if (b->training) {
            const double count = (double)b->count;
            mean = sum_of_row(row, b->count, 0, 0) / count;
            variance = sum_of_row(row, b->count, (float)mean, 1) / count;
            b->mean[c] += (float)(b->momentum * (mean - b->mean[c]));
            b->variance[c] += (float)(b->momentum * (variance * count / (count - 1) - b->variance[c]));
        }
        const float centre = (float)mean, steep = (float)(1 / sqrt(variance + b->eps));
        const float scale = b->scale[c] * steep, shift = b->shift[c];
        b->centre[c] = centre;
        b->steep[c] = steep;
        for (int64_t m = 0; m < b->count; m += LANES) {
            vec value = (load(row + m) - centre) * scale + shift;
            if (residual) value += load(extra + m);
            if (b->relu) value = where_open(value, value);
            store(at + m, value);
        }
    }
}

/* From the gradient to `out`: dy to y, dscale and dshift, and (unless null) `through`, the gradient to the residual:
 * that to `out` where the ReLU let it pass. dy may be `gradient`. */
void normalise_backward(const Norm *b, float *dy, float *dscale, float *dshift, float *through,
                               const float *gradient, const float *out, const float *y, int64_t part, int64_t parts) {
    int64_t from, to;
    share(b->channels, part, parts, &from, &to);
    for (int64_t c = from; c < to; c++) {
        const float *g = gradient + c * b->row, *a = out + c * b->row, *row = y + c * b->row;
        float *at = dy + c * b->row, *open = through + c * b->row;
        const float centre = b->centre[c], steep = b->steep[c];
        double total = 0, along = 0;
        for (int64_t first = 0; first < b->count; first += RUN * LANES) {
            const int64_t last = first + RUN * LANES < b->count ? first + RUN * LANES : b->count;
            vec sum_g[2] = {0}, sum_gy[2] = {0};
            for (int64_t m = first; m < last; m += LANES) {
                const int j = (m / LANES) & 1;
                vec passed = load(g + m);
                if (b->relu) passed = where_open(load(a + m), passed);
                sum_g[j] += passed;
                sum_gy[j] += passed * (load(row + m) - centre);
            }
            total += sum(sum_g[0] + sum_g[1]);
            along += sum(sum_gy[0] + sum_gy[1]);
        }
        dshift[c] = (float)total;
        dscale[c] = (float)(along * steep);
        const float scale = b->scale[c] * steep, flat = (float)(total / (double)b->count);
        const float tilt = (float)(along * steep * steep / (double)b->count);
        for (int64_t m = 0; m < b->count; m += LANES) {
            vec passed = load(g + m);
            if (b->relu) passed = where_open(load(a + m), passed);
            if (through) store(open + m, passed);
            store(at + m, scale * (passed - flat - (load(row + m) - centre) * tilt));
        }
    }
}

/* Mean over positions of maps [C, P, N], as rows [N, C]: what the output layer takes. */
void pool(float *rows, const float *maps, int64_t channels, int64_t positions, int64_t row, int64_t samples, int64_t part,
          int64_t parts) {
    int64_t from, to;
    share(channels, part, parts, &from, &to);
    for (int64_t c = from; c < to; c++) {
        const float *map = maps + c * row;
        for (int64_t n = 0; n < samples; n += LANES) {
            vec total = {0};
            for (int64_t p = 0; p < positions; p++) total += load(map + p * samples + n);
            total *= 1.0f / (float)positions;
            for (int i = 0; i < LANES; i++) rows[(n + i) * channels + c] = total[i];
        }
    }
}

/* The gradient to maps [C, P, N] from that to their means, rows [N, C]. */
void pool_backward(float *maps, const float *rows, int64_t channels, int64_t positions, int64_t row, int64_t samples,
                   int64_t part, int64_t parts) {
    int64_t from, to;
    share(channels, part, parts, &from, &to);
    for (int64_t c = from; c < to; c++) {
        float *map = maps + c * row;
        for (int64_t n = 0; n < samples; n += LANES) {
            vec value;
            for (int i = 0; i < LANES; i++) value[i] = rows[(n + i) * channels + c];
            value *= 1.0f / (float)positions;
            for (int64_t p = 0; p < positions; p++) store(map + p * samples + n, value);
        }
    }
}
