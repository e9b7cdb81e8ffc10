// The whole C surface: single-threaded kernels over plain arrays.
//
// Every kernel has one body, compiled for three instruction sets (portable, AVX2, AVX-512) and chosen at run time; those
// of products.c have a portable body and one for AVX512_BF16, those of tiles.c one by hand for each.
// Lengths count elements. Pointers may be unaligned; outputs do not alias inputs unless said so. No kernel
// allocates, starts threads or does I/O. Letters: rows x cols matrices are row-major.
#ifndef SLUICE_CKERNELS_H
#define SLUICE_CKERNELS_H

#include <stddef.h>
#include <stdint.h>

// ---- cpu.c

// The instruction set in use: "avx512_bf16", "avx512", "avx2" or "portable".
const char *sluice_instruction_set(void);
// Makes the calling thread use the named one, or again the best one for NULL. Returns 0, and keeps to the best one, when
// the CPU lacks it. For tests and benchmarks: a run must not mix instruction sets, whose sums differ in the last bit.
int sluice_use_instruction_set(const char *name);

// ---- convert.c

void sluice_bf16_to_f32(const uint16_t *source, float *result, size_t count);
void sluice_f16_to_f32(const uint16_t *source, float *result, size_t count);
// Round to nearest, ties to even; NaN stays NaN.
void sluice_f32_to_bf16(const float *source, uint16_t *result, size_t count);
void sluice_f32_to_f16(const float *source, uint16_t *result, size_t count);
// result[i] = e4m3(source[i]) * scales[(first + i) / block], in float32: elements from `first` on of a row whose every
// `block` elements share a scale.
void sluice_e4m3_to_f32(const uint8_t *source, const float *scales, size_t first, size_t block, size_t count,
                        float *result);
// Scaled e4m3 to float32, then rounded to bf16 as sluice_f32_to_bf16 does.
void sluice_e4m3_to_bf16(const uint8_t *source, const float *scales, size_t first, size_t block, size_t count,
                         uint16_t *result);
// Byte `b` of element `i` goes to result[b * count + i], so that the exponent bytes of floats lie side by side.
void sluice_split_planes(const uint8_t *source, uint8_t *result, size_t count, size_t width);
void sluice_join_planes(const uint8_t *source, uint8_t *result, size_t count, size_t width);
// result[r][c] = source[r * row_stride + c * column_stride]: elements of 2 or 4 bytes, strides in elements.
void sluice_gather(const void *source, size_t width, size_t rows, size_t cols, size_t row_stride,
                   size_t column_stride, void *result);

// ---- activation.c

// result[r, c] = x[r, c] / sqrt(mean(x[r]^2) + epsilon) * weight[c]. `result` may be `x`.
void sluice_rms_norm(const float *x, const float *weight, float epsilon, size_t rows, size_t cols, float *result);
// result[r, c] = (x[r, c] - mean(x[r])) / sqrt(variance(x[r]) + epsilon) * weight[c] + bias[c]; no bias where that is NULL.
// `result` may be `x`.
void sluice_layer_norm(const float *x, const float *weight, const float *bias, float epsilon, size_t rows, size_t cols,
                       float *result);
// up[i] = silu(gate[i]) * up[i].
void sluice_swiglu(const float *gate, float *up, size_t count);
// x[i] = x[i] / (1 + exp(-x[i])).
void sluice_silu(float *x, size_t count);
// x[i] = x[i] * the normal distribution's share below x[i].
void sluice_gelu(float *x, size_t count);
// x[i] = x[i] / 2 * (1 + tanh(sqrt(2 / pi) * (x[i] + 0.044715 x[i]^3))).
void sluice_gelu_tanh(float *x, size_t count);
// x[i] = beta * tanh(x[i] / beta) * sigmoid(x[i]).
void sluice_situ(float *x, float beta, size_t count);
// x[i] = max(x[i], 0)^2.
void sluice_relu_squared(float *x, size_t count);
// result[i] = (up + 1) * gate * sigmoid(alpha * gate) of x[2i], gate, at most `limit`, and x[2i + 1], up, within `limit` of 0.
void sluice_clamped_pairs(const float *x, float alpha, float limit, float *result, size_t count);
// up[i] = (up + 1) * gate * sigmoid(alpha * gate) of gate[i], at most `limit`, and up[i], within `limit` of 0.
void sluice_clamped_gates(const float *gate, float alpha, float limit, float *up, size_t count);
// x[i] = 1 / (1 + exp(-x[i])).
void sluice_sigmoid(float *x, size_t count);
// x[i] = x[i], at least `low` and at most `high`.
void sluice_clamp(float *x, float low, float high, size_t count);
// x[i] = ln(1 + exp(x[i])).
void sluice_softplus(float *x, size_t count);
// x[i] = cap * tanh(x[i] / cap).
void sluice_soft_cap(float *x, float cap, size_t count);
// x = softmax(scale * x) in place.
void sluice_softmax(float *x, float scale, size_t count);
// x = softmax(scale * x) in place, beside one more score, `sink`, as it is, whose share nobody gets.
void sluice_softmax_sink(float *x, float scale, float sink, size_t count);
// From the gradient at y = softmax(scale * x), beside a sink or not, to that at x, in its place.
void sluice_softmax_gradient(const float *y, float scale, float *gradient, size_t count);
// result[c] = sum over states s of share[s] * x[s][c], where share is the softmax of the scores
// sum over c of x[s][c] / sqrt(mean(x[s]^2) + epsilon) * weight[c]. `scores` has room for a number of each state.
void sluice_mix_states(const float *x, const float *weight, float epsilon, size_t states, size_t cols, float *scores,
                       float *result);
// Rotates pairs (x[i], x[i + half]) by the angle whose cosine and sine are given, i < half.
void sluice_rotate_half(float *x, const float *cosine, const float *sine, size_t half);
// Rotates neighbours: x[2i] with x[2i + 1].
void sluice_rotate_pairs(float *x, const float *cosine, const float *sine, size_t half);
// result[i] += factor * x[i].
void sluice_add_scaled(const float *x, float factor, float *result, size_t count);
// result[i] = x[i] * factor[i]. `result` may be `x`.
void sluice_multiply(const float *x, const float *factor, float *result, size_t count);
// result[i] = x[i] * factor. `result` may be `x`.
void sluice_scale(const float *x, float factor, float *result, size_t count);

// ---- recurrence.c

// x[t][c] = sum over back < taps of weight[taps - 1 - back][c] * x[t - back][c], as if there were zeros before the first row,
// in place. `stride` between rows of both.
void sluice_causal_convolution(float *x, const float *weight, size_t taps, size_t rows, size_t cols, size_t stride);
// One token of the gated delta rule: each row k of state [keys][values] *= decay[k * decay_step], then state += key^T change,
// where change [values] = strength * (value - key state); then value = query state.
void sluice_delta_step(float *state, const float *query, const float *key, float *value, const float *decay,
                       size_t decay_step, float strength, size_t keys, size_t values, float *change);
// One token of a state space: state [keys][values] = decay * state + key^T change, where change [values] = strength * value;
// then value = query state + skip * value.
void sluice_state_step(float *state, const float *query, const float *key, float *value, float decay, float strength,
                       float skip, size_t keys, size_t values, float *change);

// One token of a state space whose every channel has a state and a step of its own: state [keys][cols] = exp(-rates * step)
// * state + key^T (step * value), then value [cols] = query state + skip * value. `stride` between rows of rates.
void sluice_selective_step(float *state, const float *rates, size_t stride, const float *query, const float *key,
                           const float *step, const float *skip, float *value, size_t keys, size_t cols, float *change);

// ---- reduce.c

// absolute_sum[c] += sum over rows of weight[r] |x[r, c]|; square_sum[c] += sum over rows of weight[r] x[r, c]^2.
// x is rows x cols with `stride` elements between rows; weights are not negative, and NULL stands for ones.
void sluice_add_moments(const float *x, const float *weight, size_t rows, size_t cols, size_t stride,
                        double *absolute_sum, double *square_sum);
// sum[c] += |w[c]| / (max over the group of |w| + 1e-6), for one row of a weight; the last group may be shorter.
// Source: llm-compressor, AWQ weight mean (reference: AutoAWQ's duo scaling).
void sluice_add_relative_magnitude(const float *w, size_t cols, size_t group, double *sum);
// sum of a[i] * b[i].
double sluice_dot(const float *a, const float *b, size_t count);
// sum of x[i]^2 * weight[i].
double sluice_weighted_squares(const float *x, const float *weight, size_t count);
// The index of the first NaN or infinity, or count.
size_t sluice_first_nonfinite(const float *x, size_t count);

// ---- quantize.c

// E8M0: powers of two. E4M3: under a global scale, which divides them.
enum { SLUICE_SCALE_F32 = 0, SLUICE_SCALE_BF16 = 1, SLUICE_SCALE_F16 = 2, SLUICE_SCALE_E8M0 = 3, SLUICE_SCALE_E4M3 = 4 };

// Integers lie in [-2^(bits-1), 2^(bits-1) - 1]. Codes of floats are their bits: E2M1 in 4, E2M3 in 6, E4M3 in 8 of them.
enum { SLUICE_INTEGERS = 0, SLUICE_E2M1 = 1, SLUICE_E2M3 = 2, SLUICE_E4M3 = 3 };

// How a row of weights is rounded.
struct sluice_rounding {
    int32_t numbers;      // SLUICE_INTEGERS or floats
    int32_t bits;         // of integers, 2 to 8
    int32_t group;        // columns that share a scale; the last group of a row may be shorter
    int32_t before;       // columns of the first group that lie before a tile's first column; tiles of whole rows have none
    int32_t symmetric;    // 0: with zero points, integers only; 2: where ranges are searched, also with negative scales
    int32_t scale_type;   // SLUICE_SCALE_*: the type that scales are stored in, and rounded to before use
    int32_t weight_type;  // SLUICE_SCALE_F32, _BF16 or _F16: what the range of a group of floats is computed in
    float global_scale;   // of scales in E4M3; 0 where it is not known yet, and only their bits of fraction count
};

// Codes, scales [groups] and zero points [groups] (0 when symmetric) of one row.
// Returns cols, or the index of the first NaN or infinity in the row, in which case nothing else is written.
size_t sluice_quantize_row(const float *w, size_t cols, struct sluice_rounding rounding, int8_t *codes, float *scales,
                           int8_t *zero_points);
// error[c] = (Q(w[c] * scale[c])) / scale[c] - w[c], the change that rounding under a smoothing scale makes to a row.
// inverse[c] = 1 / scale[c]. Non-finite rows give non-finite errors.
void sluice_rounding_error(const float *w, const float *scale, const float *inverse, size_t cols,
                           struct sluice_rounding rounding, float *error);
// The scales [groups] and zero points [groups] of one row of finite weights, as floats, without its codes.
void sluice_group_ranges(const float *w, size_t cols, struct sluice_rounding rounding, float *scales, float *zero_points);
// largest[group] = the largest magnitude of one row's group, where that is more than what is there.
void sluice_group_magnitudes(const float *w, size_t cols, size_t group, float *largest);
// Codes of one row under given scales and zero points, and error[c] = w[c] minus what its code stands for.
void sluice_round_within(const float *w, size_t cols, struct sluice_rounding rounding, const float *scales,
                         const float *zero_points, int8_t *codes, float *error);
// What sluice_group_ranges gives, after a search over 21 ranges, from the whole one down to half of it, for the least
// sum of weight[c] * (Q(w[c]) - w[c])^2 of each group. Of powers of two, the nearest three are searched; for scales in
// E4M3 also one and a half times the whole range.
// Source: the clipping of AWQ (arXiv:2306.00978, section 3.2) with the diagonal of the layer's quadratic loss.
void sluice_clipped_ranges(const float *w, const float *weight, size_t cols, struct sluice_rounding rounding,
                           float *scales, float *zero_points);
// Integers of 2 to 8 bits to ceil(cols * bits / 32) words: code j, plus 2^(bits-1), in bits bits*j.. of all of them, which
// may go on in the next word.
void sluice_pack_row(const int8_t *codes, size_t cols, int32_t bits, int32_t *words);
void sluice_unpack_row(const int32_t *words, size_t cols, int32_t bits, int8_t *codes);
// Codes of 4, 6 or 8 bits to ceil(cols * bits / 8) bytes, the first in the lowest bits.
void sluice_pack_bytes(const int8_t *codes, size_t cols, int32_t bits, uint8_t *bytes);
void sluice_unpack_bytes(const uint8_t *bytes, size_t cols, int32_t bits, int8_t *codes);
// result[c] = (number[c] - zero_point[group of c]) * scale[group of c]; zero_points in codes, or NULL for zeros.
void sluice_values_of_codes(const int8_t *codes, const float *scales, const int8_t *zero_points, size_t cols,
                            struct sluice_rounding rounding, float *result);
// Scales of type E8M0 or E4M3 to the bytes they are stored in, and back; E4M3 times `global_scale`.
void sluice_scale_codes(const float *scales, size_t count, int32_t type, float global_scale, uint8_t *codes);
void sluice_scales_of_codes(const uint8_t *codes, size_t count, int32_t type, float global_scale, float *scales);

// ---- compensate.c

// Tiles of a weight by columns: element [c][r] at c * rows + r. `rows` is a multiple of SLUICE_TILE_STRIP, padded with
// zeros; scales and zero points are [group][rows]. `d` is the weight minus its rounded value.
enum { SLUICE_TILE_STRIP = 64, SLUICE_LARGEST_BLOCK = 256 };

// result[c][r] = x[r][c], with strides.
void sluice_transpose(const float *x, size_t rows, size_t cols, size_t stride, float *result, size_t result_stride);
// d[j] of the columns `columns[j]`, rounded to nearest.
void sluice_column_errors(size_t rows, size_t count, const uint32_t *columns, const float *w, const float *scales,
                          const float *zero_points, struct sluice_rounding rounding, float *d);
// Given acc[j] = sum over all columns before the block of d factor, adds the squares of
// acc[j] + sum over i <= j of d[i] factor[i][j] to loss [rows]: the block's share of |d R|^2.
// factor: the block of R on its diagonal, upper triangular, `stride` between rows; count <= SLUICE_LARGEST_BLOCK.
void sluice_triangular_block(size_t rows, size_t count, const float *factor, size_t stride, const float *d,
                             const float *acc, float *loss);
// sluice_triangular_block, but for columns that are rounded on the way, each so that its own square is least:
// `w` [all columns][rows], `codes` likewise; `columns` are the block's columns in the order of the factor.
// Source: Frantar et al., GPTQ (arXiv:2210.17323), algorithm 1, with R where the paper has the inverse's factor.
void sluice_compensate_block(size_t rows, size_t count, const float *factor, size_t stride, const uint32_t *columns,
                             const float *w, const float *scales, const float *zero_points,
                             struct sluice_rounding rounding, const float *acc, float *d, int8_t *codes,
                             float *loss);
// Makes d G d^T smaller for every row of `count` columns of a group while all others stay: where `fits_scale`, its scale by
// least squares, at most a fifth down or a quarter up (a power of two by one), then its codes one by one. gram:
// [count][count] of the columns; correlation: d G on them, kept up to date, as is d. change [rows] += what d G d^T became
// less (negative). work: 2 * count * SLUICE_TILE_STRIP floats.
void sluice_refine_group(size_t rows, size_t count, const float *gram, struct sluice_rounding rounding, int fits_scale,
                         float *scale, const float *zero_point, int8_t *codes, float *correlation, float *d, float *change,
                         float *work);

// ---- factor.c

// Upper triangle of a [n][n] to R with a = R R^T, R upper triangular. work: n * n + n doubles.
// Returns 0, with `a` undefined, where a is not positive definite.
int sluice_factor_upper(float *a, size_t n, size_t stride, double *work);
// inverse [n][n] of an upper triangular r, zeros below. work: n * n doubles.
void sluice_invert_upper(const float *r, size_t n, size_t stride, float *inverse, double *work);

// ---- products.c

enum {
    SLUICE_DEPTH = 512,       // terms of a block
    SLUICE_ROW_STRIDE = 544,  // elements between packed rows; no power of two, for the sake of caches
    SLUICE_PANEL = 32,        // columns of a packed panel, which is SLUICE_PANEL * SLUICE_DEPTH elements
    SLUICE_TILE_ROWS = 14,    // rows whose sums stay in registers
};

// All of these take depth <= SLUICE_DEPTH, and 64-byte aligned `packed`, a and b. What is packed is filled up with zeros:
// depth to a multiple of 32, columns to whole panels. Floats are rounded to bf16, to nearest, ties to even; vector
// instructions take denormals for zero.

// x[rows, depth] to packed rows.
void sluice_pack_rows(const float *x, size_t rows, size_t depth, size_t stride, uint16_t *packed);
// The columns of x[depth, columns] to packed rows.
void sluice_pack_columns(const float *x, size_t columns, size_t depth, size_t stride, uint16_t *packed);
// bf16 w[columns, depth] to panels.
void sluice_pack_panels(const uint16_t *w, size_t columns, size_t depth, size_t stride, uint16_t *packed);
// x[depth, columns] to panels.
void sluice_pack_column_panels(const float *x, size_t columns, size_t depth, size_t stride, uint16_t *packed);
// c[rows, columns] = a b, or c += a b where `add`: packed rows times packed panels.
void sluice_multiply_packed(const uint16_t *a, const uint16_t *b, size_t rows, size_t columns, size_t depth, int add,
                            float *c, size_t stride);

// ---- tiles.c

enum {
    SLUICE_TILE = 64, // rows and columns of a tile that lies in the nearest cache
};

// c[i][r] = the sum over k of a[i * row_stride + k * term_stride] b[k][r], or c += it where `add`; one of the strides is 1. b
// and c have `columns` columns, a multiple of 16. Terms are added in order, each by a fused multiplication and addition.
// next: as many elements in one piece, which will be read next; NULL where that is not known.
void sluice_multiply_tile(const float *a, size_t row_stride, size_t term_stride, const float *next, size_t rows,
                          size_t terms, const float *b, size_t columns, int add, float *c);

#endif
