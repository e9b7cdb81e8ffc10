// Error-compensated rounding of a tile of a weight, and the refinement of its scales and codes.
//
// A tile is held by columns: element [c][r] is column c of row r, so that what one column does to all later ones is
// vector arithmetic over rows. The rows of a tile are padded to whole strips.
#include <math.h>

#include "rounding.h"

enum { STRIP = SLUICE_TILE_STRIP };

enum { LANES = 16 };

// The group of a tile's column, counted from the group of its first column.
BODY size_t group_of(uint32_t column, struct sluice_rounding rounding) {
    return (column + (size_t)rounding.before) / (size_t)rounding.group;
}

// acc[k][r] += step[r] factor[k] for all columns of a group. Most steps are none: what a vector of them leaves as it is
// is not touched.
BODY void spread_steps(const float *restrict step, const float *restrict factor, size_t count, size_t rows,
                       float *restrict acc) {
    for (size_t first = 0; first < STRIP; first += LANES) {
        uint32_t any = 0;
        for (size_t r = first; r < first + LANES; r++) any |= bits_of(step[r]) & 0x7fffffffu;
        if (!any) continue;
        for (size_t k = 0; k < count; k++) {
            float share = factor[k];
            float *to = acc + k * rows;
            for (size_t r = first; r < first + LANES; r++) to[r] += step[r] * share;
        }
    }
}

// A strip of the sums of a block, where the cache holds it.
BODY void take_near(const float *restrict acc, size_t rows, size_t count, float *restrict near) {
    for (size_t j = 0; j < count; j++)
        for (size_t r = 0; r < STRIP; r++) near[j * STRIP + r] = acc[j * rows + r];
}

// near[k][r] += d[r] factor[k] for the columns k of a block that follow.
BODY void spread(const float *restrict d, const float *restrict factor, size_t first, size_t count,
                 float *restrict near) {
    for (size_t k = first; k < count; k++) {
        float share = factor[k];
        float *to = near + k * STRIP;
        for (size_t r = 0; r < STRIP; r++) to[r] += d[r] * share;
    }
}

BODY void sluice_triangular_block_body(size_t rows, size_t count, const float *restrict factor, size_t stride,
                                       const float *restrict d, const float *restrict acc, float *restrict loss) {
    float near[SLUICE_LARGEST_BLOCK * STRIP];
    for (size_t start = 0; start < rows; start += STRIP) {
        take_near(acc + start, rows, count, near);
        for (size_t j = 0; j < count; j++) {
            const float *row = factor + j * stride, *here = d + j * rows + start, *sums = near + j * STRIP;
            for (size_t r = 0; r < STRIP; r++) {
                float error = sums[r] + here[r] * row[j];
                loss[start + r] += error * error;
            }
            spread(here, row, j + 1, count, near);
        }
    }
}
VARIANTS(void, sluice_triangular_block,
         (size_t rows, size_t count, const float *factor, size_t stride, const float *d, const float *acc,
          float *loss),
         (rows, count, factor, stride, d, acc, loss))

BODY void compensate_block(size_t rows, size_t count, const float *restrict factor, size_t stride,
                           const uint32_t *restrict columns, const float *restrict w, const float *restrict scales,
                           const float *restrict zero_points, struct sluice_rounding rounding, const float *restrict acc,
                           float *restrict d, int8_t *restrict codes, float *restrict loss, int is_float) {
    float near[SLUICE_LARGEST_BLOCK * STRIP];
    struct numbers numbers = numbers_of(rounding, is_float);
    for (size_t start = 0; start < rows; start += STRIP) {
        take_near(acc + start, rows, count, near);
        for (size_t j = 0; j < count; j++) {
            size_t place = columns[j] * rows + start, group = group_of(columns[j], rounding) * rows + start;
            const float *row = factor + j * stride;
            float pivot = row[j], inverse = 1 / pivot;
            float *here = d + j * rows + start;
            const float *sums = near + j * STRIP;
            for (size_t r = 0; r < STRIP; r++) {
                float scale = scales[group + r], zero = zero_points[group + r], value = w[place + r];
                float number = nearest_number((value + sums[r] * inverse) / scale + zero, numbers);
                float difference = value - value_of_number(number, zero, scale), error = sums[r] + difference * pivot;
                here[r] = difference;
                codes[place + r] = code_of_number(number, numbers);
                loss[start + r] += error * error;
            }
            spread(here, row, j + 1, count, near);
        }
    }
}

BODY void sluice_compensate_block_body(size_t rows, size_t count, const float *restrict factor, size_t stride,
                                       const uint32_t *restrict columns, const float *restrict w,
                                       const float *restrict scales, const float *restrict zero_points,
                                       struct sluice_rounding rounding, const float *restrict acc, float *restrict d,
                                       int8_t *restrict codes, float *restrict loss) {
    BY_NUMBERS(compensate_block, rows, count, factor, stride, columns, w, scales, zero_points, rounding, acc, d, codes, loss);
}
VARIANTS(void, sluice_compensate_block,
         (size_t rows, size_t count, const float *factor, size_t stride, const uint32_t *columns, const float *w,
          const float *scales, const float *zero_points, struct sluice_rounding rounding, const float *acc, float *d,
          int8_t *codes, float *loss),
         (rows, count, factor, stride, columns, w, scales, zero_points, rounding, acc, d, codes, loss))

enum { TOGETHER = 4 };

// products[j][r] = sum over k of gram[j][k] steps[k][r], for `rows` columns j, which the compiler knows: their sums stay
// in registers.
BODY void correlate_steps(size_t rows, size_t count, const float *restrict gram, const float *restrict steps,
                          float *restrict products) {
// No other program has these sums to be held against, and a run never mixes instruction sets.
#pragma STDC FP_CONTRACT ON
    float sums[TOGETHER][STRIP] = {{0}};
    for (size_t k = 0; k < count; k++)
        for (size_t j = 0; j < rows; j++) {
            float share = gram[j * count + k];
            for (size_t r = 0; r < STRIP; r++) sums[j][r] += share * steps[k * STRIP + r];
        }
    for (size_t j = 0; j < rows; j++)
        for (size_t r = 0; r < STRIP; r++) products[j * STRIP + r] = sums[j][r];
}

// The scales that fit the codes of a group best while all else stays: one step of least squares.
BODY void fit_scales(size_t start, size_t rows, size_t count, const float *restrict gram, const int8_t *restrict codes,
                     struct sluice_rounding rounding, float *restrict scale, const float *restrict zero,
                     float *restrict correlation, float *restrict d, float *restrict change, float *restrict steps,
                     int is_float) {
    struct numbers numbers = numbers_of(rounding, is_float);
    // A power of two has none nearer than its half and its double.
    int is_power = rounding.scale_type == SLUICE_SCALE_E8M0;
    float lowest = is_power ? 0.5f : 0.8f, highest = is_power ? 2 : 1.25f;
    float numerator[STRIP] = {0}, denominator[STRIP] = {0}, delta[STRIP];
    for (size_t j = 0; j < count; j++)
        for (size_t r = 0; r < STRIP; r++)
            steps[j * STRIP + r] = number_of_code(codes[j * rows + start + r], numbers) - zero[start + r];
    float *products = steps + count * STRIP;
    size_t together = count / TOGETHER * TOGETHER;
    for (size_t j = 0; j < together; j += TOGETHER)
        correlate_steps(TOGETHER, count, gram + j * count, steps, products + j * STRIP);
    for (size_t j = together; j < count; j++) correlate_steps(1, count, gram + j * count, steps, products + j * STRIP);
    for (size_t j = 0; j < count; j++)
        for (size_t r = 0; r < STRIP; r++) {
            numerator[r] += correlation[j * rows + start + r] * steps[j * STRIP + r];
            denominator[r] += products[j * STRIP + r] * steps[j * STRIP + r];
        }
    for (size_t r = 0; r < STRIP; r++) {
        float old = scale[start + r], down = old < 0 ? highest : lowest, up = old < 0 ? lowest : highest;
        float best = round_scale(clamped(old + numerator[r] / denominator[r], down * old, up * old), rounding, is_float);
        float step = best * old > 0 && fabsf(best) <= 3.0e38f && denominator[r] > 0 ? best - old : 0;
        float gain = step * (step * denominator[r] - 2 * numerator[r]);
        // Rounding to the scale's type may lose more than the fit gains.
        step = gain < 0 ? step : 0;
        delta[r] = step;
        scale[start + r] = old + step;
        change[start + r] += gain < 0 ? gain : 0;
    }
    for (size_t j = 0; j < count; j++)
        for (size_t r = 0; r < STRIP; r++) {
            d[j * rows + start + r] -= delta[r] * steps[j * STRIP + r];
            correlation[j * rows + start + r] -= delta[r] * products[j * STRIP + r];
        }
}

// Each code where it fits best while all others stay, one column after the other.
BODY void fit_codes(size_t start, size_t rows, size_t count, const float *restrict gram, int8_t *restrict codes,
                    struct sluice_rounding rounding, const float *restrict scale, float *restrict correlation,
                    float *restrict d, float *restrict change, int is_float) {
    struct numbers numbers = numbers_of(rounding, is_float);
    for (size_t j = 0; j < count; j++) {
        const float *row = gram + j * count;
        float inverse = row[j] > 0 ? 1 / row[j] : 0, step[STRIP];
        float *here = correlation + j * rows + start;
        for (size_t r = 0; r < STRIP; r++) {
            float old = number_of_code(codes[j * rows + start + r], numbers), unit = scale[start + r];
            float number = nearest_number(old + here[r] * inverse / unit, numbers);
            step[r] = (old - number) * unit;
            change[start + r] += step[r] * (step[r] * row[j] + 2 * here[r]);
            d[j * rows + start + r] += step[r];
            codes[j * rows + start + r] = code_of_number(number, numbers);
        }
        spread_steps(step, row, count, rows, correlation + start);
    }
}

BODY void refine_group(size_t rows, size_t count, const float *restrict gram, struct sluice_rounding rounding,
                       int fits_scale, float *restrict scale, const float *restrict zero_point, int8_t *restrict codes,
                       float *restrict correlation, float *restrict d, float *restrict change, float *restrict work,
                       int is_float) {
    for (size_t start = 0; start < rows; start += STRIP) {
        if (fits_scale)
            fit_scales(start, rows, count, gram, codes, rounding, scale, zero_point, correlation, d, change, work, is_float);
        fit_codes(start, rows, count, gram, codes, rounding, scale, correlation, d, change, is_float);
    }
}

BODY void sluice_refine_group_body(size_t rows, size_t count, const float *restrict gram, struct sluice_rounding rounding,
                                   int fits_scale, float *restrict scale, const float *restrict zero_point,
                                   int8_t *restrict codes, float *restrict correlation, float *restrict d,
                                   float *restrict change, float *restrict work) {
    BY_NUMBERS(refine_group, rows, count, gram, rounding, fits_scale, scale, zero_point, codes, correlation, d, change, work);
}
VARIANTS(void, sluice_refine_group,
         (size_t rows, size_t count, const float *gram, struct sluice_rounding rounding, int fits_scale, float *scale,
          const float *zero_point, int8_t *codes, float *correlation, float *d, float *change, float *work),
         (rows, count, gram, rounding, fits_scale, scale, zero_point, codes, correlation, d, change, work))

BODY void column_errors(size_t rows, size_t count, const uint32_t *restrict columns, const float *restrict w,
                        const float *restrict scales, const float *restrict zero_points, struct sluice_rounding rounding,
                        float *restrict d, int is_float) {
    struct numbers numbers = numbers_of(rounding, is_float);
    for (size_t j = 0; j < count; j++) {
        size_t place = columns[j] * rows, group = group_of(columns[j], rounding) * rows;
        for (size_t r = 0; r < rows; r++) {
            float scale = scales[group + r], zero = zero_points[group + r];
            float number = nearest_number(over_scale(w[place + r], scale, zero, numbers), numbers);
            d[j * rows + r] = w[place + r] - value_of_number(number, zero, scale);
        }
    }
}

BODY void sluice_column_errors_body(size_t rows, size_t count, const uint32_t *restrict columns,
                                    const float *restrict w, const float *restrict scales,
                                    const float *restrict zero_points, struct sluice_rounding rounding,
                                    float *restrict d) {
    BY_NUMBERS(column_errors, rows, count, columns, w, scales, zero_points, rounding, d);
}
VARIANTS(void, sluice_column_errors,
         (size_t rows, size_t count, const uint32_t *columns, const float *w, const float *scales,
          const float *zero_points, struct sluice_rounding rounding, float *d),
         (rows, count, columns, w, scales, zero_points, rounding, d))

BODY void sluice_transpose_body(const float *restrict x, size_t rows, size_t cols, size_t stride, float *restrict result,
                                size_t result_stride) {
    enum { TILE = 16 };
    for (size_t r0 = 0; r0 < rows; r0 += TILE)
        for (size_t c0 = 0; c0 < cols; c0 += TILE) {
            size_t r1 = r0 + TILE < rows ? r0 + TILE : rows, c1 = c0 + TILE < cols ? c0 + TILE : cols;
            for (size_t c = c0; c < c1; c++)
                for (size_t r = r0; r < r1; r++) result[c * result_stride + r] = x[r * stride + c];
        }
}
VARIANTS(void, sluice_transpose,
         (const float *x, size_t rows, size_t cols, size_t stride, float *result, size_t result_stride),
         (x, rows, cols, stride, result, result_stride))
