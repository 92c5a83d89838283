/* What a program is made of. The structures are written by operations.py, field by field the same. */
#ifndef HARNESS_OPERATIONS_H
#define HARNESS_OPERATIONS_H
#include "kernels.h"

/* Every operation is one network's. A feature map is [B, C, P, N], where B blocks of N samples are a batch, with `row`
 * numbers from one channel to the next: P * N, or more, for rows that lie a power of two apart fall on the same few places
 * of a cache. */

/* What a convolution reads: under[p * taps + t] is the input position under tap t of the kernel at output position p,
 * or -1 where the tap falls outside the map: that is the zero padding. */
typedef struct {
    int64_t outputs, inputs, out_positions, in_positions, out_row, in_row, blocks, samples, taps;
    const int32_t *under;
} Geometry;

/* A batch normalisation of `channels`, each of `count` numbers in each of `blocks` of samples. Per channel: scale and shift (trained), mean and variance
 * (running, updated by `momentum` when `training`), and of this batch centre = mean and steep = 1 / sqrt(var + eps). */
typedef struct {
    int64_t channels, blocks, count, row;
    const float *scale, *shift;
    float *mean, *variance, *centre, *steep;
    double momentum, eps;
    int64_t training, relu;
} Norm;

/* A fully connected layer on rows: x [N, inputs], w [inputs, outputs], y [N, outputs]; the pitches are the
 * lengths of their rows in memory. No product of a tile reads beyond a row: a row has `LANES` numbers or more, and the
 * last vector of a row that is no multiple of them overlaps the one before. */
typedef struct {
    int64_t samples, inputs, outputs, x_pitch, w_pitch, y_pitch, relu;
} Dense;

/* The rows that a batch's samples are in a data set, which may lie elsewhere for each batch. */
typedef struct {
    const float *rows;
} Source;

/* How an optimizer moves a weight p with gradient g, in PyTorch's order of operations; `first` and `second` are its
 * memory. Momentum: first = momentum * first + g; p -= rate * first. Adam (Kingma and Ba): rate and root, a factor of
 * the square root, hold the corrections for its first steps. */
enum { MOMENTUM, ADAM };
typedef struct {
    int64_t kind;
    float rate, decay, momentum, beta1, beta2, eps, root;
} Update;

/* The kept weights of a fully connected layer, in the order of (chunk of inputs, output, input): weight j multiplies
 * input[j] and adds to output[j]; those of chunk c and output i are start[c * outputs + i] to the next start. The first-level
 * cache holds a chunk of inputs while all outputs pass. The samples are in `blocks` of BLOCK. */
#define BLOCK 64
typedef struct {
    int64_t outputs, inputs, chunks, blocks, relu;
    const int64_t *start;
    const int32_t *output, *input;
} Kept;

/* The kept weights of a convolution, in the order of (output channel, tap, input channel); weight[j] is the place in the
 * layer's weights. Outputs are computed in `tiles` of TILE positions or fewer (then -1 follows). Those of an `inner` tile lie
 * side by side, inside the map: there the input under a tap is distance[j] numbers from the input under the centre of the
 * kernel in channel 0, and `step` numbers on for the next position. For the weight gradient, positions are cut in `bands`,
 * each of runs of length[k] positions from run[k] on, inside the map and as far apart in the input as in the output, k from
 * run_of[b] to run_of[b + 1], and of the positions edge[k], k from edge_of[b] to edge_of[b + 1]. */
#define TILE 4
typedef struct {
    Geometry map;
    int64_t add, tiles, step, bands;
    const int64_t *start, *distance;
    const int32_t *input, *tap, *weight, *tile, *inner, *run, *length, *edge;
    const int64_t *run_of, *edge_of;
} KeptMap;

/* One operation of a program, with its operands; see the functions below for which it takes. */
enum { CONVOLVE, WEIGHT_GRADIENT, NORMALISE, NORMALISE_BACKWARD, POOL, POOL_BACKWARD, DENSE, LOSS, TRANSPOSE,
       DENSE_BACKWARD, DENSE_GRADIENT, BIAS_GRADIENT, PAD, UPDATE, SELECT, GATHER, TO_BLOCKS, TO_ROWS, SPARSE_ROWS,
       SPARSE_GRADIENT, SPARSE_BIAS, SPARSE_CONVOLVE, SPARSE_WEIGHT_GRADIENT };
typedef struct {
    int64_t kind;
    const void *settings;
    void *operand[8];
    int64_t number[6];
} Operation;

void convolve(const Geometry *g, float *out, const float *in, const float *w, int64_t wi, int64_t wk, int64_t wt,
              int64_t add, int64_t part, int64_t parts);
void weight_gradient(const Geometry *g, float *dw, const float *dy, const float *x, int64_t part, int64_t parts);
void normalise(const Norm *b, float *out, const float *y, const float *residual, int64_t part, int64_t parts);
void normalise_backward(const Norm *b, float *dy, float *dscale, float *dshift, float *through, const float *gradient,
                        const float *out, const float *y, int64_t part, int64_t parts);
void pool(float *rows, const float *maps, int64_t blocks, int64_t channels, int64_t positions, int64_t row,
          int64_t samples, int64_t part, int64_t parts);
void pool_backward(float *maps, const float *rows, int64_t blocks, int64_t channels, int64_t positions, int64_t row,
                   int64_t samples, int64_t part, int64_t parts);
void dense(const Dense *d, float *y, const float *x, const float *w, const float *b, int64_t part, int64_t parts);
void loss(const Dense *d, float *losses, float *z, const int64_t *labels, int64_t classes, int64_t part);
void transpose(float *out, const float *in, int64_t rows, int64_t columns, int64_t in_pitch, int64_t part, int64_t parts);
void dense_backward(const Dense *d, float *dx, const float *dy, const float *wt, const float *x, int64_t part,
                    int64_t parts);
void dense_gradient(const Dense *d, float *dw, const float *dy, const float *x, const Update *u, float *w, float *first,
                    float *second, const uint8_t *mask, int64_t part, int64_t parts);
void bias_gradient(const Dense *d, float *db, const float *dy, int64_t part, int64_t parts);
void pad(float *out, const float *in, int64_t rows, int64_t columns, int64_t in_pitch, int64_t out_pitch, int64_t part,
         int64_t parts);
void update(const Update *u, float *w, const float *g, float *first, float *second, const uint8_t *mask, int64_t count,
            int64_t part, int64_t parts);
void select_rows(const Source *s, float *out, const int64_t *index, int64_t samples, int64_t columns, int64_t part,
                 int64_t parts);
void gather(float *out, const float *in, const int32_t *at, int64_t count, int64_t part, int64_t parts);
void to_blocks(const Source *s, float *blocks, const float *rows, const int64_t *index, int64_t samples, int64_t columns,
               int64_t part, int64_t parts);
void to_rows(float *rows, const float *blocks, int64_t samples, int64_t columns, int64_t part, int64_t parts);
void sparse_rows(const Kept *s, float *y, const float *x, const float *w, const float *bias, const float *open,
                 int64_t part, int64_t parts);
void sparse_gradient(const Kept *s, const float *dy, const float *x, const Update *u, float *w, float *first,
                     float *second, int64_t part, int64_t parts);
void sparse_bias(const Kept *s, float *db, const float *dy, int64_t part, int64_t parts);
void sparse_convolve(const KeptMap *s, float *out, const float *in, const float *w, int64_t part, int64_t parts);
void sparse_weight_gradient(const KeptMap *s, float *dw, const float *dy, const float *x, float *products, int64_t part,
                            int64_t parts);
#endif
