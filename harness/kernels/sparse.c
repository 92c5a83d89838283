/* Layers by kept weight: what a mask has pruned is neither read nor computed.
 *
 * The kept weights are a list, output by output, each with the input that it multiplies. Samples lie innermost, so that a
 * weight meets a run of vectors of samples wherever its input lies: rows of a fully connected layer are cut in blocks of
 * BLOCK samples, [blocks, features, BLOCK]; feature maps are as in maps.c. Sums run in the order of the dense kernels, and
 * a pruned weight would add nothing to them: outputs and gradients to inputs have the dense kernels' bits. The gradient of
 * a weight is summed over samples in another order.
 */
#include "update.h"

#define WIDE (BLOCK / LANES) /* vectors of a block of samples */

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* out[j] = in[at[j]]. */
void gather(float *out, const float *in, const int32_t *at, int64_t count, int64_t part, int64_t parts) {
    int64_t from, to;
    share(count, part, parts, &from, &to);
    for (int64_t j = from; j < to; j++) out[j] = in[at[j]];
}

/* v [LANES vectors] transposed. */
INLINE void transposed(vec *v) {
    vec w[LANES];
    for (int round = LANES; round > 1; round /= 2) {
        for (int i = 0; i < LANES / 2; i++) {
            w[2 * i] = __builtin_shufflevector(v[i], v[i + LANES / 2], LOW);
            w[2 * i + 1] = __builtin_shufflevector(v[i], v[i + LANES / 2], HIGH);
        }
        for (int i = 0; i < LANES; i++) v[i] = w[i];
    }
}

/* Rows [samples, columns] of LANES columns or more as blocks [blocks, columns, BLOCK]; samples that are missing from the
 * last block are zero. With an `index`, sample n is row index[n] of the source. */
void to_blocks(const Source *s, float *blocks, const float *rows, const int64_t *index, int64_t samples, int64_t columns,
               int64_t part, int64_t parts) {
    if (index) rows = s->rows;
    const int64_t strips = (columns + LANES - 1) / LANES;
    int64_t from, to;
    share((samples + BLOCK - 1) / BLOCK * strips, part, parts, &from, &to);
    for (int64_t work = from; work < to; work++) {
        const int64_t block = work / strips, c = least(work % strips * LANES, columns - LANES);
        for (int64_t n = 0; n < BLOCK; n += LANES) {
            vec v[LANES];
            for (int i = 0; i < LANES; i++) {
                const int64_t sample = block * BLOCK + n + i;
                v[i] = sample < samples ? load(rows + (index ? index[sample] : sample) * columns + c) : (vec){0};
            }
            transposed(v);
            for (int i = 0; i < LANES; i++) store(blocks + (block * columns + c + i) * BLOCK + n, v[i]);
        }
    }
}

/* The reverse. */
void to_rows(float *rows, const float *blocks, int64_t samples, int64_t columns, int64_t part, int64_t parts) {
    const int64_t strips = (columns + LANES - 1) / LANES;
    int64_t from, to;
    share((samples + BLOCK - 1) / BLOCK * strips, part, parts, &from, &to);
    for (int64_t work = from; work < to; work++) {
        const int64_t block = work / strips, c = least(work % strips * LANES, columns - LANES);
        for (int64_t n = 0; n < BLOCK && block * BLOCK + n < samples; n += LANES) {
            vec v[LANES];
            for (int i = 0; i < LANES; i++) v[i] = load(blocks + (block * columns + c + i) * BLOCK + n);
            transposed(v);
            for (int64_t i = 0; i < LANES && block * BLOCK + n + i < samples; i++)
                store(rows + (block * BLOCK + n + i) * columns + c, v[i]);
        }
    }
}

/* y[i] = [relu](bias[i] + sum over the kept weights of output i of w x[input]); with `open`, only where open > 0. */
void sparse_rows(const Kept *s, float *y, const float *x, const float *w, const float *bias, const float *open,
                 int64_t part, int64_t parts) {
    int64_t from, to;
    share(s->blocks * s->outputs, part, parts, &from, &to);
    while (from < to) {
        const int64_t block = from / s->outputs, end = least(to, (block + 1) * s->outputs);
        const float *in = x + block * s->inputs * BLOCK;
        for (int64_t chunk = 0; chunk < s->chunks; chunk++)
            for (int64_t work = from; work < end; work++) {
                const int64_t i = work - block * s->outputs, *start = s->start + chunk * s->outputs + i;
                float *out = y + work * BLOCK;
                vec sum[WIDE];
                for (int v = 0; v < WIDE; v++)
                    sum[v] = chunk ? load(out + v * LANES) : (vec){0} + (bias ? bias[i] : 0.0f);
                for (int64_t j = start[0]; j < start[1]; j++) {
                    const float *at = in + (int64_t)s->input[j] * BLOCK;
                    for (int v = 0; v < WIDE; v++) sum[v] += w[j] * load(at + v * LANES);
                }
                for (int v = 0; v < WIDE; v++) {
                    vec value = sum[v];
                    if (chunk + 1 == s->chunks) {
                        if (s->relu) value = where_open(value, value);
                        if (open) value = where_open(load(open + work * BLOCK + v * LANES), value);
                    }
                    store(out + v * LANES, value);
                }
            }
        from = end;
    }
}

/* Moves the kept weights by their gradients, the sums over samples of dy[output] x[input]. The lists of weights and of
 * the optimizer's memory have room for a multiple of LANES. */
void sparse_gradient(const Kept *s, const float *dy, const float *x, const Update *u, float *w, float *first,
                     float *second, int64_t part, int64_t parts) {
    const int64_t kept = s->start[s->chunks * s->outputs];
    int64_t from, to;
    share((kept + LANES - 1) / LANES, part, parts, &from, &to);
    for (int64_t j = from * LANES; j < least(to * LANES, kept); j += LANES) {
        vec products[LANES];
        const int64_t last = least(LANES, kept - j);
        for (int64_t l = last; l < LANES; l++) products[l] = (vec){0};
        for (int64_t block = 0; block < s->blocks; block++)
            for (int64_t l = 0; l < last;) {
                const int64_t i = s->output[j + l];
                const float *a = dy + (block * s->outputs + i) * BLOCK, *in = x + block * s->inputs * BLOCK;
                vec d[WIDE];
                for (int v = 0; v < WIDE; v++) d[v] = load(a + v * LANES);
                do {
                    const float *at = in + (int64_t)s->input[j + l] * BLOCK;
                    vec sum = block ? products[l] : (vec){0};
                    for (int v = 0; v < WIDE; v++) sum += d[v] * load(at + v * LANES);
                    products[l++] = sum;
                } while (l < last && s->output[j + l] == i);
            }
        vec one = load(first + j), two = second ? load(second + j) : (vec){0};
        store(w + j, moved(u, load(w + j), sums(products), &one, &two, (vec){0} + 1.0f));
        store(first + j, one);
        if (second) store(second + j, two);
    }
}

/* db[i] = sum of dy[i] over the samples. */
void sparse_bias(const Kept *s, float *db, const float *dy, int64_t part, int64_t parts) {
    int64_t from, to;
    share(s->outputs, part, parts, &from, &to);
    for (int64_t i = from; i < to; i++) {
        vec total = {0};
        for (int64_t n = 0; n < s->blocks * BLOCK; n += LANES)
            total += load(dy + (n / BLOCK * s->outputs + i) * BLOCK + n % BLOCK);
        db[i] = (float)sum(total);
    }
}

#define MAP_WIDE 4 /* vectors of samples in a tile of a feature map */

/* Where a tile's outputs and inputs lie: `count` positions, TILE at most. */
typedef struct {
    const int32_t *under[TILE]; /* the input positions under the taps at each of its positions */
    int64_t count, out[TILE];
    int inside;
} Tile;

static const float nothing[MAP_WIDE * LANES]; /* the zeros around a map */

/* One output channel at `count` positions. Inside the map every tap has the same distance to the kernel's centre, and
 * the next position the same step; at the edge each has its own place, or none. */
INLINE void channel(float *out, const float *in, const float *w, const KeptMap *s, const Tile *tile, int64_t from,
                    int64_t to, const int count, const int inside, const int wide) {
    const Geometry *g = &s->map;
    const float *centre = in + tile->under[0][g->taps / 2] * g->samples;
    vec y[TILE][MAP_WIDE];
    for (int q = 0; q < count; q++)
        for (int v = 0; v < wide; v++) y[q][v] = s->add ? load(out + tile->out[q] + v * LANES) : (vec){0};
    for (int64_t j = from; j < to; j++) {
        const float *at[TILE];
        for (int q = 0; q < count; q++) {
            if (inside) at[q] = centre + s->distance[j] + q * s->step;
            else {
                const int32_t position = tile->under[q][s->tap[j]];
                at[q] = position < 0 ? nothing : in + s->input[j] * g->in_row + position * g->samples;
            }
        }
        for (int q = 0; q < count; q++)
            for (int v = 0; v < wide; v++) y[q][v] += w[j] * load(at[q] + v * LANES);
    }
    for (int q = 0; q < count; q++)
        for (int v = 0; v < wide; v++) store(out + tile->out[q] + v * LANES, y[q][v]);
}

INLINE void channels(const KeptMap *s, float *out, const float *in, const float *w, const Tile *tile, const int count,
                     const int inside, const int wide) {
    for (int64_t i = 0; i < s->map.outputs; i++)
        channel(out + i * s->map.out_row, in, w, s, tile, s->start[i], s->start[i + 1], count, inside, wide);
}

INLINE void sparse_strip(const KeptMap *s, float *out, const float *in, const float *w, int64_t from, int64_t to,
                         const int wide) {
    const Geometry *g = &s->map;
    for (int64_t work = from; work < to; work++) {
        const int32_t *positions = s->tile + work * TILE;
        Tile tile = {.inside = s->inner[work]};
        for (; tile.count < TILE && positions[tile.count] >= 0; tile.count++) {
            tile.under[tile.count] = g->under + positions[tile.count] * g->taps;
            tile.out[tile.count] = positions[tile.count] * g->samples;
        }
        if (tile.inside)
            switch (tile.count) {
            case TILE: channels(s, out, in, w, &tile, TILE, 1, wide); break;
            case 3: channels(s, out, in, w, &tile, 3, 1, wide); break;
            case 2: channels(s, out, in, w, &tile, 2, 1, wide); break;
            case 1: channels(s, out, in, w, &tile, 1, 1, wide); break;
            }
        else
            switch (tile.count) {
            case TILE: channels(s, out, in, w, &tile, TILE, 0, wide); break;
            case 3: channels(s, out, in, w, &tile, 3, 0, wide); break;
            case 2: channels(s, out, in, w, &tile, 2, 0, wide); break;
            case 1: channels(s, out, in, w, &tile, 1, 0, wide); break;
            }
    }
}

/* out[i, p, n] (+)= sum over the kept weights of output channel i of w in[input channel, position under its tap, n]. */
void sparse_convolve(const KeptMap *s, float *out, const float *in, const float *w, int64_t part, int64_t parts) {
    int64_t from, to;
    share(s->tiles, part, parts, &from, &to);
    const Geometry *g = &s->map;
    for (int64_t n = 0; n < g->blocks * g->samples;) {
        const int64_t b = n / g->samples, within = n % g->samples;
        const int wide = within + MAP_WIDE * LANES <= g->samples ? MAP_WIDE : 1;
        float *y = out + b * g->outputs * g->out_row + within;
        const float *x = in + b * g->inputs * g->in_row + within;
        if (wide == MAP_WIDE) sparse_strip(s, y, x, w, from, to, MAP_WIDE);
        else sparse_strip(s, y, x, w, from, to, 1);
        n += wide * LANES;
    }
}

#define MANY 8 /* weights of one output channel whose gradients are summed side by side */

/* Adds to `many` sums [LANES], from j on, the products of an output channel's gradient and what lies under their taps, over
 * a band of positions; they begin at zero when it is the `first`. */
INLINE void few_gradients(const KeptMap *s, float *products, const float *dy, const float *x, int64_t j, int64_t band,
                          int first, const int many) {
    const Geometry *g = &s->map;
    const int64_t samples = g->samples;
    vec total[MANY];
    int64_t distance[MANY];
    for (int m = 0; m < many; m++) {
        total[m] = first ? (vec){0} : load(products + (j + m) * LANES);
        distance[m] = s->distance[j + m];
    }
    for (int64_t k = s->run_of[band]; k < s->run_of[band + 1]; k++) {
        const int64_t p = s->run[k], numbers = s->length[k] * samples;
        const float *a = dy + p * samples, *centre = x + g->under[p * g->taps + g->taps / 2] * samples;
        for (int64_t n = 0; n < numbers; n += LANES) {
            const vec an = load(a + n);
            for (int m = 0; m < many; m++) total[m] += an * load(centre + n + distance[m]);
        }
    }
    for (int64_t k = s->edge_of[band]; k < s->edge_of[band + 1]; k++) {
        const int64_t p = s->edge[k];
        const float *a = dy + p * samples, *at[MANY];
        int64_t on[MANY]; /* no bit: the tap falls outside the map, where all is zero */
        for (int m = 0; m < many; m++) {
            const int32_t position = g->under[p * g->taps + s->tap[j + m]];
            at[m] = position < 0 ? nothing : x + s->input[j + m] * g->in_row + position * samples;
            on[m] = position < 0 ? 0 : -1;
        }
        for (int64_t n = 0; n < samples; n += LANES) {
            const vec an = load(a + n);
            for (int m = 0; m < many; m++) total[m] += an * load(at[m] + (n & on[m]));
        }
    }
    for (int m = 0; m < many; m++) store(products + (j + m) * LANES, total[m]);
}

/* The gradients of the kept weights, written to their places in dw [outputs, inputs, taps]. `products` has room for LANES
 * sums of each. */
void sparse_weight_gradient(const KeptMap *s, float *dw, const float *dy, const float *x, float *products, int64_t part,
                            int64_t parts) {
    int64_t from, to;
    const Geometry *g = &s->map;
    share(g->outputs, part, parts, &from, &to);
    for (int64_t work = 0; work < g->blocks * s->bands; work++) {
        const int64_t b = work / s->bands, band = work % s->bands;
        const float *in = x + b * g->inputs * g->in_row;
        for (int64_t i = from; i < to; i++) {
            const float *a = dy + (b * g->outputs + i) * g->out_row;
            int64_t j = s->start[i];
            for (; j + MANY <= s->start[i + 1]; j += MANY) few_gradients(s, products, a, in, j, band, !work, MANY);
            switch (s->start[i + 1] - j) {
            case 7: few_gradients(s, products, a, in, j, band, !work, 7); break;
            case 6: few_gradients(s, products, a, in, j, band, !work, 6); break;
            case 5: few_gradients(s, products, a, in, j, band, !work, 5); break;
            case 4: few_gradients(s, products, a, in, j, band, !work, 4); break;
            case 3: few_gradients(s, products, a, in, j, band, !work, 3); break;
            case 2: few_gradients(s, products, a, in, j, band, !work, 2); break;
            case 1: few_gradients(s, products, a, in, j, band, !work, 1); break;
            }
        }
    }
    for (int64_t j = s->start[from]; j < s->start[to]; j += LANES) {
        const int64_t count = least(LANES, s->start[to] - j);
        vec v[LANES];
        for (int m = 0; m < LANES; m++) v[m] = m < count ? load(products + (j + m) * LANES) : (vec){0};
        const vec done = sums(v);
        for (int m = 0; m < count; m++) dw[s->weight[j + m]] = done[m];
    }
}
