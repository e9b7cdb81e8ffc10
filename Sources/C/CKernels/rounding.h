// From a group of weights to its scale, zero point and codes.
//
// Source: compressed-tensors 0.19 `calculate_qparams`, `_quantize`.
#ifndef SLUICE_ROUNDING_H
#define SLUICE_ROUNDING_H

#include "float_types.h"
#include "include/CKernels.h"

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

// The numbers that codes stand for before a scale multiplies them, from the smallest to the largest. Everything that rounds
// asks here for the nearest code and for what a code is worth; other numbers are other answers to these two.
struct numbers {
    float low, high;
};

BODY struct numbers numbers_of(struct sluice_rounding rounding) {
    float low = -(float)(1 << (rounding.bits - 1));
    struct numbers result = {low, -low - 1};
    return result;
}

// The code of a weight over its scale, plus the zero point.
BODY float nearest_code(float value, struct numbers numbers) { return nearest(clamped(value, numbers.low, numbers.high)); }

BODY float code_value(float code, float zero_point, float scale) { return (code - zero_point) * scale; }

struct group_parameters {
    float scale, zero_point;
};

// What rounding to nearest divides by, for weights between smallest <= 0 and largest >= 0; symmetric schemes look at
// largest alone, which is then the largest magnitude.
BODY struct group_parameters parameters_of_range(float smallest, float largest, struct sluice_rounding rounding,
                                                 struct numbers numbers) {
    struct group_parameters result = {0, 0};
    if (rounding.symmetric) {
        result.scale = round_to_type(largest / ((numbers.high - numbers.low) / 2), rounding.scale_type);
    } else {
        // The peer computes these in the weight's type, one rounding an operation.
        float range = round_to_type(largest - smallest, rounding.scale_type);
        result.scale = round_to_type(range / (numbers.high - numbers.low), rounding.scale_type);
        if (result.scale != 0) {
            float quotient = round_to_type(round_to_type(smallest, rounding.scale_type) / result.scale, rounding.scale_type);
            result.zero_point = nearest_code(round_to_type(numbers.low - quotient, rounding.scale_type), numbers);
        }
    }
    if (result.scale == 0) result.scale = epsilon_of_type(rounding.scale_type);
    return result;
}

BODY void range_of_group(const float *w, struct sluice_rounding rounding, float *smallest, float *largest) {
    size_t group = (size_t)rounding.group;
    if (rounding.symmetric) {
        uint32_t magnitude = 0;
        for (size_t c = 0; c < group; c++) {
            uint32_t here = bits_of(w[c]) & 0x7fffffffu;
            magnitude = here > magnitude ? here : magnitude;
        }
        *smallest = 0;
        *largest = float_of(magnitude);
    } else {
        float least = 0, most = 0;
        for (size_t c = 0; c < group; c++) {
            least = w[c] < least ? w[c] : least;
            most = w[c] > most ? w[c] : most;
        }
        *smallest = least;
        *largest = most;
    }
}

BODY struct group_parameters parameters_of_group(const float *w, struct sluice_rounding rounding, struct numbers numbers) {
    float smallest, largest;
    range_of_group(w, rounding, &smallest, &largest);
    return parameters_of_range(smallest, largest, rounding, numbers);
}

#endif
