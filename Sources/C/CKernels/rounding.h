// From a group of weights to its scale, zero point and codes.
//
// Source: compressed-tensors 0.20 `calculate_qparams`, `generate_mx_scales`, `_quantize`.
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
// asks here for the nearest number, for its code and for what a code is worth.
//
// Floats have a sign, an exponent and a few bits of fraction; below the least exponent they lie evenly.
struct numbers {
    float low, high;
    int is_float;
    uint32_t least;     // the least exponent, as the bits of that power of two
    uint32_t fraction;  // bits of the fraction
    uint32_t sign;      // the sign's bit in a code
    int drops_zero_sign;
};

BODY struct numbers floats_of(float high, int exponent, uint32_t fraction, uint32_t sign) {
    struct numbers result = {-high, high, 1, (uint32_t)(exponent + 127) << 23, fraction, sign, sign == 0x8};
    return result;
}

BODY struct numbers e4m3_numbers(void) { return floats_of(448, -6, 3, 0x80); }

// `is_float` is known where a kernel is compiled, so that integers never pay for floats.
BODY struct numbers numbers_of(struct sluice_rounding rounding, int is_float) {
    if (is_float) {
        switch (rounding.numbers) {
            case SLUICE_E2M1: return floats_of(6, 0, 1, 0x8);
            case SLUICE_E2M3: return floats_of(7.5f, 0, 3, 0x20);
            default: return e4m3_numbers();
        }
    }
    float low = -(float)(1 << (rounding.bits - 1));
    struct numbers result = {low, -low - 1, 0, 0, 0, 0, 0};
    return result;
}

// A weight over its scale, plus the zero point where numbers have one.
BODY float over_scale(float value, float scale, float zero_point, struct numbers numbers) {
    return numbers.is_float ? value / scale : value / scale + zero_point;
}

// The number that is nearest to a weight over its scale; ties go to the even code.
BODY float nearest_number(float value, struct numbers numbers) {
    value = clamped(value, numbers.low, numbers.high);
    if (!numbers.is_float) return nearest(value);
    uint32_t bits = bits_of(value), sign = bits & 0x80000000u, exponent = bits & 0x7f800000u;
    // As in compressed-tensors: -0 stays so in 6 and 8 bits, and loses its sign in 4.
    if (numbers.drops_zero_sign && bits == 0x80000000u) sign = 0, bits = 0;
    exponent = exponent > numbers.least ? exponent : numbers.least;
    // 1.5 * 2^23 steps of the value's octave: adding them leaves whole steps.
    float shift = float_of(exponent + ((23 - numbers.fraction) << 23) + 0x400000u);
    float rounded = (float_of(bits ^ sign) + shift) - shift;
    return float_of(bits_of(rounded) | sign);
}

// The code of one of the numbers. That of a float is its bits; a number that became 0 keeps its sign.
BODY int8_t code_of_number(float number, struct numbers numbers) {
    if (!numbers.is_float) return (int8_t)number;
    uint32_t bits = bits_of(number), magnitude = bits & 0x7fffffffu, drop = 23 - numbers.fraction;
    // One exponent is kept for numbers without a leading one.
    float steps = float_of(magnitude) * float_of(((254u + numbers.fraction) << 23) - numbers.least);
    uint32_t even = (uint32_t)(int32_t)steps, leading = (magnitude - numbers.least + 0x800000u) >> drop;
    uint32_t code = magnitude < numbers.least ? even : leading;
    return (int8_t)(uint8_t)(code | (bits >> 31 ? numbers.sign : 0));
}

BODY float number_of_code(int8_t code, struct numbers numbers) {
    if (!numbers.is_float) return (float)code;
    uint32_t bits = (uint32_t)(uint8_t)code, magnitude = bits & (numbers.sign - 1), drop = 23 - numbers.fraction;
    float even = (float)(int32_t)magnitude * float_of(numbers.least - (numbers.fraction << 23));
    float leading = float_of((magnitude << drop) + numbers.least - 0x800000u);
    float value = magnitude >> numbers.fraction ? leading : even;
    return float_of(bits_of(value) | (bits & numbers.sign ? 0x80000000u : 0));
}

// What a code's number stands for.
BODY float value_of_number(float number, float zero_point, float scale) { return (number - zero_point) * scale; }

// ---- scales

BODY float power_of_two(int32_t code) { return float_of(code > 0 ? (uint32_t)code << 23 : 0x400000u); }

// The nearest value that a scale can have. Scales in E4M3 stand above a global one, which divides them; while that is not
// known it is 0, and only the number of bits is kept.
BODY float round_scale(float value, struct sluice_rounding rounding, int is_float) {
    if (rounding.scale_type == SLUICE_SCALE_E8M0)
        return power_of_two((int32_t)((bits_of(value) + 0x400000u) >> 23 & 0xffu));
    if (is_float && rounding.scale_type == SLUICE_SCALE_E4M3) {
        if (rounding.global_scale > 0)
            return nearest_number(value * rounding.global_scale, e4m3_numbers()) / rounding.global_scale;
        return nearest_number(value, floats_of(3.0e38f, -100, 3, 0x80));
    }
    return round_to_type(value, rounding.scale_type);
}

// What an all-zero group of floats gets as scale.
BODY float least_scale(struct sluice_rounding rounding) {
    if (rounding.scale_type == SLUICE_SCALE_E4M3) return 0.125f / (rounding.global_scale > 0 ? rounding.global_scale : 1);
    return epsilon_of_type(rounding.scale_type);
}

// A power of two by the exponent of the largest magnitude, which goes up where that is about to be cut off: by 1.75 of it
// on, in E2M3 by 1.9375, in integers by the half above the largest. `offset`: the exponent of the largest number.
BODY float microscale(float largest, struct sluice_rounding rounding, int is_float) {
    uint32_t up = rounding.numbers == SLUICE_E2M3 ? 0x80000u : 0x200000u;
    int32_t offset = rounding.numbers == SLUICE_E4M3 ? 8 : 2;
    if (!is_float) up = 0x800000u >> (rounding.bits - 1), offset = rounding.bits - 2;
    return power_of_two((int32_t)((bits_of(largest) + up) >> 23) - offset);
}

struct group_parameters {
    float scale, zero_point;
};

// What rounding to nearest divides by, for weights between smallest <= 0 and largest >= 0; symmetric schemes look at
// largest alone, which is then the largest magnitude.
BODY struct group_parameters parameters_of_range(float smallest, float largest, struct sluice_rounding rounding,
                                                 struct numbers numbers) {
    struct group_parameters result = {0, 0};
    if (rounding.scale_type == SLUICE_SCALE_E8M0) {
        result.scale = microscale(largest, rounding, numbers.is_float);
        return result;
    }
    if (numbers.is_float) {
        result.scale = round_scale(round_to_type(largest / numbers.high, rounding.weight_type), rounding, 1);
        if (result.scale == 0) result.scale = least_scale(rounding);
        return result;
    }
    if (rounding.symmetric) {
        result.scale = round_to_type(largest / ((numbers.high - numbers.low) / 2), rounding.scale_type);
    } else {
        // The peer computes these in the weight's type, one rounding an operation.
        float range = round_to_type(largest - smallest, rounding.scale_type);
        result.scale = round_to_type(range / (numbers.high - numbers.low), rounding.scale_type);
        if (result.scale != 0) {
            float quotient = round_to_type(round_to_type(smallest, rounding.scale_type) / result.scale, rounding.scale_type);
            result.zero_point = nearest_number(round_to_type(numbers.low - quotient, rounding.scale_type), numbers);
        }
    }
    if (result.scale == 0) result.scale = epsilon_of_type(rounding.scale_type);
    return result;
}

BODY void range_of_group(const float *w, size_t count, struct sluice_rounding rounding, float *smallest, float *largest) {
    if (rounding.symmetric) {
        uint32_t magnitude = 0;
        for (size_t c = 0; c < count; c++) {
            uint32_t here = bits_of(w[c]) & 0x7fffffffu;
            magnitude = here > magnitude ? here : magnitude;
        }
        *smallest = 0;
        *largest = float_of(magnitude);
    } else {
        float least = 0, most = 0;
        for (size_t c = 0; c < count; c++) {
            least = w[c] < least ? w[c] : least;
            most = w[c] > most ? w[c] : most;
        }
        *smallest = least;
        *largest = most;
    }
}

BODY struct group_parameters parameters_of_group(const float *w, size_t count, struct sluice_rounding rounding,
                                                 struct numbers numbers) {
    float smallest, largest;
    range_of_group(w, count, rounding, &smallest, &largest);
    return parameters_of_range(smallest, largest, rounding, numbers);
}

// The end of the group that begins at `start`: the last one may be shorter.
BODY size_t group_end(size_t start, struct sluice_rounding rounding, size_t cols) {
    size_t end = start + (size_t)rounding.group;
    return end < cols ? end : cols;
}

// Compiles a kernel once for integers and once for floats.
#define BY_NUMBERS(kernel, ...)                        \
    do {                                               \
        if (rounding.numbers == SLUICE_INTEGERS)       \
            kernel(__VA_ARGS__, 0);                    \
        else                                           \
            kernel(__VA_ARGS__, 1);                    \
    } while (0)

#endif
