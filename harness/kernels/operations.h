/* What a program is made of. The structures are written by operations.py, field by field the same. */
#ifndef HARNESS_OPERATIONS_H
#define HARNESS_OPERATIONS_H
#include "kernels.h"

/* Every operation is one network's. A feature map is [C, P, N] with `row` numbers from one channel to the next: P * N, or more, for rows that lie a
 * power of two apart fall on the same few places of a cache. */

/* What a convolution reads: under[p * taps + t] is the input position under tap t of the kernel at output position p,
 * or -1 where the tap falls outside the map: that is the zero padding. */
typedef struct {
    int64_t outputs, inputs, out_positions, in_positions, out_row, in_row, samples, taps;
    const int32_t *under;
} Geometry;

/* A batch normalisation of `channels` rows of `count` numbers. Per channel: scale and shift (trained), mean and variance
 * (running, updated by `momentum` when `training`), and of this batch centre = mean and steep = 1 / sqrt(var + eps). */
typedef struct {
    int64_t channels, count, row;
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

/* How an optimizer moves a weight p with gradient g, in PyTorch's order of operations; `first` and `second` are its
 * memory. Momentum: first = momentum * first + g; p -= rate * first. Adam (Kingma and Ba): rate and root, a factor of
 * the square root, hold the corrections for its first steps. */
enum { MOMENTUM, ADAM };
typedef struct {
    int64_t kind;
    float rate, decay, momentum, beta1, beta2, eps, root;
} Update;

/* One operation of a program, with its operands; see the functions below for which it takes. */
enum { CONVOLVE, WEIGHT_GRADIENT, NORMALISE, NORMALISE_BACKWARD, POOL, POOL_BACKWARD, DENSE, LOSS, TRANSPOSE,
       DENSE_BACKWARD, DENSE_GRADIENT, BIAS_GRADIENT, PAD, UPDATE };
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
void pool(float *rows, const float *maps, int64_t channels, int64_t positions, int64_t row, int64_t samples, int64_t part,
          int64_t parts);
void pool_backward(float *maps, const float *rows, int64_t channels, int64_t positions, int64_t row, int64_t samples,
                   int64_t part, int64_t parts);
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
#endif
