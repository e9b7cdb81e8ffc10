// Rounding to groups of 4-bit or 8-bit codes, packing and unpacking.
//
// Source: compressed-tensors 0.19 `calculate_qparams`, `_quantize` and `pack_to_int32`. One deviation: quotients are
// float32, as in the peer's GPU path, and not rounded to the weight's type first, as in its CPU path.
#include "float_types.h"
#include "include/CKernels.h"

#include <math.h>

// Codes must not depend on whether the CPU fuses multiply and add.
#pragma STDC FP_CONTRACT OFF

BODY float round_to_type(float value, int32_t type) {
    switch (type) {
        case SLUICE_SCALE_BF16: return bf16_to_float(float_to_bf16(value));
        case SLUICE_SCALE_F16: return f16_to_float(float_to_f16(value));
        default: return value;
    }
}

// What an all-zero group gets as scale: the machine epsilon of the scale's type.
BODY float epsilon_of_type(int32_t type) {
    switch (type) {
        case SLUICE_SCALE_BF16: return 0.0078125f;
        case SLUICE_SCALE_F16: return 0.0009765625f;
        default: return 1.1920929e-07f;
    }
}

// Nearest integer, ties to even, for |value| < 2^22.
BODY float nearest(float value) { return (value + 12582912.0f) - 12582912.0f; }

BODY float clamped(float value, float low, float high) {
    value = value < low ? low : value;
    return value > high ? high : value;
}

struct group_parameters {
    float scale, zero_point;
};

BODY struct group_parameters parameters_of_group(const float *w, struct sluice_rounding rounding, float low, float high) {
    struct group_parameters result = {0, 0};
    size_t group = (size_t)rounding.group;
    if (rounding.symmetric) {
        uint32_t largest = 0;
        for (size_t c = 0; c < group; c++) {
            uint32_t magnitude = bits_of(w[c]) & 0x7fffffffu;
            largest = magnitude > largest ? magnitude : largest;
        }
        result.scale = round_to_type(float_of(largest) / ((high - low) / 2), rounding.scale_type);
    } else {
        float smallest = 0, largest = 0;
        for (size_t c = 0; c < group; c++) {
            smallest = w[c] < smallest ? w[c] : smallest;
            largest = w[c] > largest ? w[c] : largest;
        }
        // The peer computes these in the weight's type, one rounding an operation.
        float range = round_to_type(largest - smallest, rounding.scale_type);
        result.scale = round_to_type(range / (high - low), rounding.scale_type);
        if (result.scale != 0) {
            float quotient = round_to_type(round_to_type(smallest, rounding.scale_type) / result.scale, rounding.scale_type);
            result.zero_point = nearest(clamped(round_to_type(low - quotient, rounding.scale_type), low, high));
        }
    }
    if (result.scale == 0) result.scale = epsilon_of_type(rounding.scale_type);
    return result;
}

BODY size_t sluice_quantize_row_body(const float *restrict w, size_t cols, struct sluice_rounding rounding,
                                     int8_t *restrict codes, float *restrict scales, int8_t *restrict zero_points) {
    size_t bad = sluice_first_nonfinite(w, cols);
    if (bad < cols) return bad;
    float low = -(float)(1 << (rounding.bits - 1)), high = -low - 1;
    size_t group = (size_t)rounding.group;
    for (size_t start = 0; start < cols; start += group) {
        struct group_parameters p = parameters_of_group(w + start, rounding, low, high);
        for (size_t c = start; c < start + group; c++)
            codes[c] = (int8_t)nearest(clamped(w[c] / p.scale + p.zero_point, low, high));
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
    float low = -(float)(1 << (rounding.bits - 1)), high = -low - 1;
    size_t group = (size_t)rounding.group;
    for (size_t start = 0; start < cols; start += group) {
        for (size_t c = start; c < start + group; c++) error[c] = w[c] * scale[c];
        struct group_parameters p = parameters_of_group(error + start, rounding, low, high);
        for (size_t c = start; c < start + group; c++) {
            float code = nearest(clamped(error[c] / p.scale + p.zero_point, low, high));
            error[c] = (code - p.zero_point) * p.scale * inverse[c] - w[c];
        }
    }
}
VARIANTS(void, sluice_rounding_error,
         (const float *w, const float *scale, const float *inverse, size_t cols, struct sluice_rounding rounding,
          float *error),
         (w, scale, inverse, cols, rounding, error))

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
