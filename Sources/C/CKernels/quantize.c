// Rounding to groups of 4-bit or 8-bit codes, packing and unpacking.
//
// Source: compressed-tensors 0.19 `_quantize` and `pack_to_int32`. One deviation: quotients are
// float32, as in the peer's GPU path, and not rounded to the weight's type first, as in its CPU path.
#include "rounding.h"

BODY size_t sluice_quantize_row_body(const float *restrict w, size_t cols, struct sluice_rounding rounding,
                                     int8_t *restrict codes, float *restrict scales, int8_t *restrict zero_points) {
    size_t bad = sluice_first_nonfinite(w, cols);
    if (bad < cols) return bad;
    struct numbers numbers = numbers_of(rounding);
    size_t group = (size_t)rounding.group;
    for (size_t start = 0; start < cols; start += group) {
        struct group_parameters p = parameters_of_group(w + start, rounding, numbers);
        for (size_t c = start; c < start + group; c++)
            codes[c] = (int8_t)nearest_code(w[c] / p.scale + p.zero_point, numbers);
        scales[start / group] = p.scale;
        zero_points[start / group] = (int8_t)p.zero_point;
    }
    return cols;
}
VARIANTS(size_t, sluice_quantize_row,
         (const float *w, size_t cols, struct sluice_rounding rounding, int8_t *codes, float *scales, int8_t *zero_points),
         (w, cols, rounding, codes, scales, zero_points))

BODY void sluice_rounding_error_body(const float *restrict w, const float *restrict scale,
                                     const float *restrict inverse, size_t cols, struct sluice_rounding rounding,
                                     float *restrict error) {
    struct numbers numbers = numbers_of(rounding);
    size_t group = (size_t)rounding.group;
    for (size_t start = 0; start < cols; start += group) {
        for (size_t c = start; c < start + group; c++) error[c] = w[c] * scale[c];
        struct group_parameters p = parameters_of_group(error + start, rounding, numbers);
        for (size_t c = start; c < start + group; c++) {
            float code = nearest_code(error[c] / p.scale + p.zero_point, numbers);
            error[c] = code_value(code, p.zero_point, p.scale) * inverse[c] - w[c];
        }
    }
}
VARIANTS(void, sluice_rounding_error,
         (const float *w, const float *scale, const float *inverse, size_t cols, struct sluice_rounding rounding,
          float *error),
         (w, scale, inverse, cols, rounding, error))

BODY void sluice_group_ranges_body(const float *restrict w, size_t cols, struct sluice_rounding rounding,
                                   float *restrict scales, float *restrict zero_points) {
    struct numbers numbers = numbers_of(rounding);
    size_t group = (size_t)rounding.group;
    for (size_t start = 0; start < cols; start += group) {
        struct group_parameters p = parameters_of_group(w + start, rounding, numbers);
        scales[start / group] = p.scale;
        zero_points[start / group] = p.zero_point;
    }
}
VARIANTS(void, sluice_group_ranges,
         (const float *w, size_t cols, struct sluice_rounding rounding, float *scales, float *zero_points),
         (w, cols, rounding, scales, zero_points))

BODY void sluice_round_within_body(const float *restrict w, size_t cols, struct sluice_rounding rounding,
                                   const float *restrict scales, const float *restrict zero_points,
                                   int8_t *restrict codes, float *restrict error) {
    struct numbers numbers = numbers_of(rounding);
    size_t group = (size_t)rounding.group;
    for (size_t start = 0; start < cols; start += group) {
        float scale = scales[start / group], zero = zero_points[start / group];
        for (size_t c = start; c < start + group; c++) {
            float code = nearest_code(w[c] / scale + zero, numbers);
            codes[c] = (int8_t)code;
            error[c] = w[c] - code_value(code, zero, scale);
        }
    }
}
VARIANTS(void, sluice_round_within,
         (const float *w, size_t cols, struct sluice_rounding rounding, const float *scales, const float *zero_points,
          int8_t *codes, float *error),
         (w, cols, rounding, scales, zero_points, codes, error))

enum { CLIPS = 21, LANES = 16 };

// sum over a group of weight[c] (Q(w[c]) - w[c])^2.
BODY float group_error(const float *restrict w, const float *restrict weight, size_t group, struct group_parameters p,
                       struct numbers numbers) {
    float inverse = 1 / p.scale;
    float lanes[LANES] = {0};
    size_t c = 0;
    for (; c + LANES <= group; c += LANES)
        for (size_t lane = 0; lane < LANES; lane++) {
            float code = nearest_code(w[c + lane] * inverse + p.zero_point, numbers);
            float error = code_value(code, p.zero_point, p.scale) - w[c + lane];
            lanes[lane] += error * error * weight[c + lane];
        }
    for (; c < group; c++) {
        float code = nearest_code(w[c] * inverse + p.zero_point, numbers);
        float error = code_value(code, p.zero_point, p.scale) - w[c];
        lanes[c % LANES] += error * error * weight[c];
    }
    float total = 0;
    for (size_t lane = 0; lane < LANES; lane++) total += lanes[lane];
    return total;
}

BODY void sluice_clipped_ranges_body(const float *restrict w, const float *restrict weight, size_t cols,
                                     struct sluice_rounding rounding, float *restrict scales,
                                     float *restrict zero_points) {
    struct numbers numbers = numbers_of(rounding);
    size_t group = (size_t)rounding.group;
    for (size_t start = 0; start < cols; start += group) {
        float smallest, largest, least = 0;
        range_of_group(w + start, rounding, &smallest, &largest);
        struct group_parameters best = {0, 0};
        for (size_t clip = 0; clip < CLIPS; clip++) {
            float share = 1 - 0.025f * (float)clip;
            struct group_parameters p = parameters_of_range(smallest * share, largest * share, rounding, numbers);
            float error = group_error(w + start, weight + start, group, p, numbers);
            // The whole range wins ties.
            if (clip == 0 || error < least) {
                least = error;
                best = p;
            }
        }
        scales[start / group] = best.scale;
        zero_points[start / group] = best.zero_point;
    }
}
VARIANTS(void, sluice_clipped_ranges,
         (const float *w, const float *weight, size_t cols, struct sluice_rounding rounding, float *scales,
          float *zero_points),
         (w, weight, cols, rounding, scales, zero_points))

BODY void sluice_pack_row_body(const int8_t *restrict codes, size_t cols, int32_t bits, int32_t *restrict words) {
    int32_t offset = 1 << (bits - 1), mask = (1 << bits) - 1;
    size_t per_word = (size_t)(32 / bits);
    for (size_t word = 0; word < (cols + per_word - 1) / per_word; word++) {
        uint32_t packed = 0;
        for (size_t j = 0; j < per_word && word * per_word + j < cols; j++)
            packed |= (uint32_t)((codes[word * per_word + j] + offset) & mask) << (bits * (int32_t)j);
        words[word] = (int32_t)packed;
    }
}
VARIANTS(void, sluice_pack_row, (const int8_t *codes, size_t cols, int32_t bits, int32_t *words),
         (codes, cols, bits, words))

BODY void sluice_dequantize_row_body(const int32_t *restrict words, const float *restrict scales,
                                     const int8_t *restrict zero_points, size_t cols, int32_t bits, size_t group,
                                     float *restrict result) {
    uint32_t mask = (1u << bits) - 1;
    size_t per_word = (size_t)(32 / bits);
    for (size_t start = 0; start < cols; start += group) {
        float scale = scales[start / group];
        int32_t zero = (1 << (bits - 1)) + (zero_points ? zero_points[start / group] : 0);
        for (size_t c = start; c < start + group; c++) {
            uint32_t code = ((uint32_t)words[c / per_word] >> (bits * (int32_t)(c % per_word))) & mask;
            result[c] = (float)((int32_t)code - zero) * scale;
        }
    }
}
VARIANTS(void, sluice_dequantize_row,
         (const int32_t *words, const float *scales, const int8_t *zero_points, size_t cols, int32_t bits, size_t group,
          float *result),
         (words, scales, zero_points, cols, bits, group, result))
