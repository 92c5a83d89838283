/* Convolution and batch normalisation of feature maps.
 *
 * A feature map is [B, C, P, N]: block of samples, channel, position (row by row when there are two
 * dimensions), sample. The samples lie innermost, so every operation is a plain run over a vector register of samples, whatever the kernel's
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

/* out[b, i, p, n] (+)= sum over taps and inputs k of w[i, k, t] in[b, k, position, n].
 * The gradient to the input is the same sum with the weights' two channel strides exchanged. */
void convolve(const Geometry *g, float *out, const float *in, const float *w, int64_t wi, int64_t wk, int64_t wt,
              int64_t add, int64_t part, int64_t parts) {
    int64_t from, to;
    share(g->out_positions, part, parts, &from, &to);
    for (int64_t n = 0; n < g->blocks * g->samples;) { /* outermost, so that neighbouring positions find their rows close */
        const int64_t b = n / g->samples, within = n % g->samples;
        const int wide = within + WIDE * LANES <= g->samples ? WIDE : 1;
        const float *x = in + b * g->inputs * g->in_row + within;
        for (int64_t p = from; p < to; p++) {
            float *y = out + b * g->outputs * g->out_row + p * g->samples + within;
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

/* dw[i, k, t] = sum over positions and samples of dy[b, i, p, n] x[b, k, position, n]. A band of positions passes all
 * tiles before the next does, so that x comes from far away once. */
void weight_gradient(const Geometry *g, float *dw, const float *dy, const float *x, int64_t part, int64_t parts) {
    const int64_t pairs = g->inputs * g->taps, band = SPAN / 4 / g->samples > 1 ? SPAN / 4 / g->samples : 1;
    const int64_t bands = (g->out_positions + band - 1) / band;
    int64_t first, last;
    share((g->outputs + TALL - 1) / TALL, part, parts, &first, &last);
    for (int64_t work = 0; work < g->blocks * bands; work++) {
        const int64_t b = work / bands, from = work % bands * band;
        const int64_t to = from + band < g->out_positions ? from + band : g->out_positions;
        for (int64_t i = first * TALL; i < last * TALL; i += TALL) {
            const int tall = g->outputs - i < TALL ? (int)(g->outputs - i) : TALL;
            const float *dyi = dy + (b * g->outputs + i) * g->out_row;
            float *dwi = dw + i * pairs;
            if (!work)
                for (int64_t j = 0; j < tall * pairs; j++) dwi[j] = 0;
            for (int64_t k = 0; k < g->inputs; k += DEEP) {
                const int deep = g->inputs - k < DEEP ? (int)(g->inputs - k) : DEEP;
                const float *xk = x + (b * g->inputs + k) * g->in_row;
                for (int64_t t = 0; t < g->taps; t++) {
                    if (tall == TALL && deep == DEEP)
                        weight_tile(dwi + k * g->taps, dyi, xk, g, t, from, to, TALL, DEEP);
                    else weight_tile(dwi + k * g->taps, dyi, xk, g, t, from, to, tall, deep);
                }
            }
        }
    }
}

#define LONG 256 /* vectors summed in float32 before their sum goes on in double */

INLINE void add_term(vec *total, const float *y, float centre, const int squared) {
    const vec value = load(y) - centre;
    if (squared) *total += value * value;
    else *total += value;
}

/* Sum over a channel's rows of y - centre, or of its square. */
INLINE double sum_of_rows(const Norm *b, const float *y, float centre, const int squared) {
    const int64_t count = b->count, blocks = b->blocks, next = b->channels * b->row;
    double total = 0;
    for (int64_t block = 0; block < blocks; block++, y += next) {
        for (int64_t from = 0; from < count; from += LONG * LANES) {
            const int64_t to = from + LONG * LANES < count ? from + LONG * LANES : count;
            vec part[4] = {0};
            int64_t m = from;
            for (; m + 4 * LANES <= to; m += 4 * LANES)
                for (int j = 0; j < 4; j++) add_term(part + j, y + m + j * LANES, centre, squared);
            for (int j = 0; m < to; m += LANES, j++) add_term(part + j, y + m, centre, squared);
            total += sum((part[0] + part[1]) + (part[2] + part[3]));
        }
    }
    return total;
}

/* out = [relu](scale * (y - centre) + shift [+ residual]) for a row of `count` numbers. */
INLINE void scaled(float *out, const float *y, const float *residual, int64_t count, float centre, float scale, float shift,
                   const int added, const int relu) {
    for (int64_t m = 0; m < count; m += LANES) {
        vec value = (load(y + m) - centre) * scale + shift;
        if (added) value += load(residual + m);
        if (relu) value = where_open(value, value);
        store(out + m, value);
    }
}

/* out = [relu](scale * (y - centre) * steep + shift [+ residual]); out may be y. */
void normalise(const Norm *b, float *out, const float *y, const float *residual, int64_t part, int64_t parts) {
    const int64_t numbers = b->blocks * b->count, next = b->channels * b->row;
    const double count = (double)numbers;
    int64_t from, to;
    share(b->channels, part, parts, &from, &to);
    for (int64_t c = from; c < to; c++) {
        const float *row = y + c * b->row, *extra = residual + c * b->row;
        float *at = out + c * b->row;
        double mean = b->mean[c], variance = b->variance[c];
        if (b->training) {
            mean = sum_of_rows(b, row, 0, 0) / count;
            variance = sum_of_rows(b, row, (float)mean, 1) / count;
            b->mean[c] += (float)(b->momentum * (mean - b->mean[c]));
            b->variance[c] += (float)(b->momentum * (variance * count / (count - 1) - b->variance[c]));
        }
        const float centre = (float)mean, steep = (float)(1 / sqrt(variance + b->eps));
        const float scale = b->scale[c] * steep, shift = b->shift[c];
        b->centre[c] = centre;
        b->steep[c] = steep;
        for (int64_t block = 0; block < b->blocks; block++, at += next, row += next, extra += next) {
            if (residual && b->relu) scaled(at, row, extra, b->count, centre, scale, shift, 1, 1);
            else if (residual) scaled(at, row, extra, b->count, centre, scale, shift, 1, 0);
            else if (b->relu) scaled(at, row, extra, b->count, centre, scale, shift, 0, 1);
            else scaled(at, row, extra, b->count, centre, scale, shift, 0, 0);
        }
    }
}

/* The gradient to a row where the ReLU let it pass. */
INLINE vec passed(const float *gradient, const float *out, const int relu) {
    return relu ? where_open(load(out), load(gradient)) : load(gradient);
}

/* One channel of what follows. */
INLINE void row_backward(const Norm *b, int64_t c, float *dy, float *dscale, float *dshift, float *through,
                         const float *gradient, const float *out, const float *y, const int relu, const int further) {
    const int64_t count = b->count, blocks = b->blocks, next = b->channels * b->row;
    const int64_t pieces = (count + LONG * LANES - 1) / (LONG * LANES);
    const float centre = b->centre[c], steep = b->steep[c];
    double total = 0, along = 0;
    for (int64_t piece = 0; piece < blocks * pieces; piece++) {
        const int64_t start = piece / pieces * next, from = start + piece % pieces * LONG * LANES;
        const int64_t to = from + LONG * LANES < start + count ? from + LONG * LANES : start + count;
        vec sum_g[2] = {0}, sum_gy[2] = {0};
        int64_t m = from;
        for (; m + 2 * LANES <= to; m += 2 * LANES)
            for (int j = 0; j < 2; j++) {
                const vec g = passed(gradient + m + j * LANES, out + m + j * LANES, relu);
                sum_g[j] += g;
                sum_gy[j] += g * (load(y + m + j * LANES) - centre);
            }
        for (; m < to; m += LANES) {
            const vec g = passed(gradient + m, out + m, relu);
            sum_g[0] += g;
            sum_gy[0] += g * (load(y + m) - centre);
        }
        total += sum(sum_g[0] + sum_g[1]);
        along += sum(sum_gy[0] + sum_gy[1]);
    }
    dshift[c] = (float)total;
    dscale[c] = (float)(along * steep);
    const float scale = b->scale[c] * steep, flat = (float)(total / (double)(blocks * count));
    const float tilt = (float)(along * steep * steep / (double)(blocks * count));
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t m = block * next; m < block * next + count; m += LANES) {
            const vec g = passed(gradient + m, out + m, relu);
            if (further) store(through + m, g);
            store(dy + m, scale * (g - flat - (load(y + m) - centre) * tilt));
        }
}

/* From the gradient to `out`: dy to y, dscale and dshift, and (unless null) `through`, the gradient to the residual:
 * that to `out` where the ReLU let it pass. dy may be `gradient`. */
void normalise_backward(const Norm *b, float *dy, float *dscale, float *dshift, float *through, const float *gradient,
                        const float *out, const float *y, int64_t part, int64_t parts) {
    int64_t from, to;
    share(b->channels, part, parts, &from, &to);
    for (int64_t c = from; c < to; c++) {
        const int64_t at = c * b->row;
        float *open = through + at;
        const float *g = gradient + at, *o = out + at, *row = y + at;
        if (through && b->relu) row_backward(b, c, dy + at, dscale, dshift, open, g, o, row, 1, 1);
        else if (through) row_backward(b, c, dy + at, dscale, dshift, open, g, o, row, 0, 1);
        else if (b->relu) row_backward(b, c, dy + at, dscale, dshift, open, g, o, row, 1, 0);
        else row_backward(b, c, dy + at, dscale, dshift, open, g, o, row, 0, 0);
    }
}

/* Mean over positions of maps [B, C, P, N], as rows [B * N, C]: what the output layer takes. */
void pool(float *rows, const float *maps, int64_t blocks, int64_t channels, int64_t positions, int64_t row,
          int64_t samples, int64_t part, int64_t parts) {
    int64_t from, to;
    share(blocks * channels, part, parts, &from, &to);
    for (int64_t work = from; work < to; work++) {
        const float *map = maps + work * row;
        float *at = rows + work / channels * samples * channels + work % channels;
        for (int64_t n = 0; n < samples; n += LANES) {
            vec total = {0};
            for (int64_t p = 0; p < positions; p++) total += load(map + p * samples + n);
            total *= 1.0f / (float)positions;
            for (int i = 0; i < LANES; i++) at[(n + i) * channels] = total[i];
        }
    }
}

/* The gradient to maps [B, C, P, N] from that to their means, rows [B * N, C]. */
void pool_backward(float *maps, const float *rows, int64_t blocks, int64_t channels, int64_t positions, int64_t row,
                   int64_t samples, int64_t part, int64_t parts) {
    int64_t from, to;
    share(blocks * channels, part, parts, &from, &to);
    for (int64_t work = from; work < to; work++) {
        float *map = maps + work * row;
        const float *at = rows + work / channels * samples * channels + work % channels;
        for (int64_t n = 0; n < samples; n += LANES) {
            vec value;
            for (int i = 0; i < LANES; i++) value[i] = at[(n + i) * channels];
            value *= 1.0f / (float)positions;
            for (int64_t p = 0; p < positions; p++) store(map + p * samples + n, value);
        }
    }
}
