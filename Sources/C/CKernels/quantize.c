// Rounding to codes that share scales in groups, packing and unpacking.
//
// Source: compressed-tensors 0.20 `_quantize` and `pack_to_int32`. One deviation: quotients are
// float32, as in the peer's GPU path, and not rounded to the weight's type first, as in its CPU path.
#include "rounding.h"

BODY void quantize_row(const float *restrict w, size_t cols, struct sluice_rounding rounding, int8_t *restrict codes,
                       float *restrict scales, int8_t *restrict zero_points, int is_float) {
    struct numbers numbers = numbers_of(rounding, is_float);
    size_t group = (size_t)rounding.group;
    for (size_t start = 0; start < cols; start += group) {
        size_t end = group_end(start, rounding, cols);
        struct group_parameters p = parameters_of_group(w + start, end - start, rounding, numbers);
        for (size_t c = start; c < end; c++)
            codes[c] = code_of_number(nearest_number(over_scale(w[c], p.scale, p.zero_point, numbers), numbers), numbers);
        scales[start / group] = p.scale;
        zero_points[start / group] = (int8_t)p.zero_point;
    }
}

BODY size_t sluice_quantize_row_body(const float *restrict w, size_t cols, struct sluice_rounding rounding,
                                     int8_t *restrict codes, float *restrict scales, int8_t *restrict zero_points) {
    size_t bad = sluice_first_nonfinite(w, cols);
    if (bad < cols) return bad;
    BY_NUMBERS(quantize_row, w, cols, rounding, codes, scales, zero_points);
    return cols;
}
VARIANTS(size_t, sluice_quantize_row,
         (const float *w, size_t cols, struct sluice_rounding rounding, int8_t *codes, float *scales, int8_t *zero_points),
         (w, cols, rounding, codes, scales, zero_points))

BODY void rounding_error(const float *restrict w, const float *restrict scale, const float *restrict inverse, size_t cols,
                         struct sluice_rounding rounding, float *restrict error, int is_float) {
    struct numbers numbers = numbers_of(rounding, is_float);
    for (size_t start = 0, end; start < cols; start = end) {
        end = group_end(start, rounding, cols);
        for (size_t c = start; c < end; c++) error[c] = w[c] * scale[c];
        struct group_parameters p = parameters_of_group(error + start, end - start, rounding, numbers);
        for (size_t c = start; c < end; c++) {
            float number = nearest_number(over_scale(error[c], p.scale, p.zero_point, numbers), numbers);
            error[c] = value_of_number(number, p.zero_point, p.scale) * inverse[c] - w[c];
        }
    }
}

BODY void sluice_rounding_error_body(const float *restrict w, const float *restrict scale,
                                     const float *restrict inverse, size_t cols, struct sluice_rounding rounding,
                                     float *restrict error) {
    BY_NUMBERS(rounding_error, w, scale, inverse, cols, rounding, error);
}
VARIANTS(void, sluice_rounding_error,
         (const float *w, const float *scale, const float *inverse, size_t cols, struct sluice_rounding rounding,
          float *error),
         (w, scale, inverse, cols, rounding, error))

BODY void group_ranges(const float *restrict w, size_t cols, struct sluice_rounding rounding, float *restrict scales,
                       float *restrict zero_points, int is_float) {
    struct numbers numbers = numbers_of(rounding, is_float);
    size_t group = (size_t)rounding.group;
    for (size_t start = 0; start < cols; start += group) {
        size_t count = group_end(start, rounding, cols) - start;
        struct group_parameters p = parameters_of_group(w + start, count, rounding, numbers);
        scales[start / group] = p.scale;
        zero_points[start / group] = p.zero_point;
    }
}

BODY void sluice_group_ranges_body(const float *restrict w, size_t cols, struct sluice_rounding rounding,
                                   float *restrict scales, float *restrict zero_points) {
    BY_NUMBERS(group_ranges, w, cols, rounding, scales, zero_points);
}
VARIANTS(void, sluice_group_ranges,
         (const float *w, size_t cols, struct sluice_rounding rounding, float *scales, float *zero_points),
         (w, cols, rounding, scales, zero_points))

BODY void sluice_group_magnitudes_body(const float *restrict w, size_t cols, size_t group, float *restrict largest) {
    for (size_t start = 0; start < cols; start += group) {
        size_t end = start + group < cols ? start + group : cols;
        uint32_t most = bits_of(largest[start / group]);
        for (size_t c = start; c < end; c++) {
            uint32_t magnitude = bits_of(w[c]) & 0x7fffffffu;
            most = magnitude > most ? magnitude : most;
        }
        largest[start / group] = float_of(most);
    }
}
VARIANTS(void, sluice_group_magnitudes, (const float *w, size_t cols, size_t group, float *largest),
         (w, cols, group, largest))

BODY void round_within(const float *restrict w, size_t cols, struct sluice_rounding rounding, const float *restrict scales,
                       const float *restrict zero_points, int8_t *restrict codes, float *restrict error, int is_float) {
    struct numbers numbers = numbers_of(rounding, is_float);
    size_t group = (size_t)rounding.group;
    for (size_t start = 0; start < cols; start += group) {
        float scale = scales[start / group], zero = zero_points[start / group];
        size_t end = group_end(start, rounding, cols);
        for (size_t c = start; c < end; c++) {
            float number = nearest_number(over_scale(w[c], scale, zero, numbers), numbers);
            codes[c] = code_of_number(number, numbers);
            error[c] = w[c] - value_of_number(number, zero, scale);
        }
    }
}

BODY void sluice_round_within_body(const float *restrict w, size_t cols, struct sluice_rounding rounding,
                                   const float *restrict scales, const float *restrict zero_points,
                                   int8_t *restrict codes, float *restrict error) {
    BY_NUMBERS(round_within, w, cols, rounding, scales, zero_points, codes, error);
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
            float number = nearest_number(w[c + lane] * inverse + p.zero_point, numbers);
            float error = value_of_number(number, p.zero_point, p.scale) - w[c + lane];
            lanes[lane] += error * error * weight[c + lane];
        }
    for (; c < group; c++) {
        float number = nearest_number(w[c] * inverse + p.zero_point, numbers);
        float error = value_of_number(number, p.zero_point, p.scale) - w[c];
        lanes[c % LANES] += error * error * weight[c];
    }
    float total = 0;
    for (size_t lane = 0; lane < LANES; lane++) total += lanes[lane];
    return total;
}

// Shares of a group's range that are searched, the whole one first: powers of two have its neighbours alone; scales in
// E4M3 also let the largest weight of E2M1 become 4 instead of 6, where numbers lie closer.
BODY size_t count_of_shares(struct sluice_rounding rounding, int is_float) {
    if (rounding.scale_type == SLUICE_SCALE_E8M0) return 3;
    return is_float && rounding.scale_type == SLUICE_SCALE_E4M3 ? CLIPS + 1 : CLIPS;
}

BODY float share_of_range(size_t clip, struct sluice_rounding rounding, int is_float) {
    if (rounding.scale_type == SLUICE_SCALE_E8M0) return clip == 0 ? 1 : clip == 1 ? 0.5f : 2;
    return is_float && clip == CLIPS ? 1.5f : 1 - 0.025f * (float)clip;
}

BODY void clipped_ranges(const float *restrict w, const float *restrict weight, size_t cols, struct sluice_rounding rounding,
                         float *restrict scales, float *restrict zero_points, int is_float) {
    struct numbers numbers = numbers_of(rounding, is_float);
    size_t group = (size_t)rounding.group, clips = count_of_shares(rounding, is_float);
    size_t candidates = rounding.symmetric == 2 ? 2 * clips : clips;
    for (size_t start = 0; start < cols; start += group) {
        float smallest, largest, least = 0;
        size_t count = group_end(start, rounding, cols) - start;
        range_of_group(w + start, count, rounding, &smallest, &largest);
        struct group_parameters best = {0, 0};
        for (size_t candidate = 0; candidate < candidates; candidate++) {
            float share = share_of_range(candidate % clips, rounding, is_float);
            struct group_parameters p = parameters_of_range(smallest * share, largest * share, rounding, numbers);
            // There is one code more below zero: with a negative scale it serves the positive side.
            if (candidate >= clips) p.scale = -p.scale;
            float error = group_error(w + start, weight + start, count, p, numbers);
            // The whole range wins ties.
            if (candidate == 0 || error < least) {
                least = error;
                best = p;
            }
        }
        scales[start / group] = best.scale;
        zero_points[start / group] = best.zero_point;
    }
}

BODY void sluice_clipped_ranges_body(const float *restrict w, const float *restrict weight, size_t cols,
                                     struct sluice_rounding rounding, float *restrict scales,
                                     float *restrict zero_points) {
    BY_NUMBERS(clipped_ranges, w, weight, cols, rounding, scales, zero_points);
}
VARIANTS(void, sluice_clipped_ranges,
         (const float *w, const float *weight, size_t cols, struct sluice_rounding rounding, float *scales,
          float *zero_points),
         (w, weight, cols, rounding, scales, zero_points))

// ---- stored codes

// Codes from one word to the next that `bits` does not divide.
BODY void pack_stream(const int8_t *restrict codes, size_t cols, int32_t bits, int32_t *restrict words) {
    uint32_t offset = 1u << (bits - 1), mask = (1u << bits) - 1;
    uint64_t waiting = 0;
    int32_t count = 0;
    for (size_t c = 0; c < cols; c++) {
        waiting |= (uint64_t)(((uint32_t)codes[c] + offset) & mask) << count;
        count += bits;
        if (count >= 32) {
            *words++ = (int32_t)(uint32_t)waiting;
            waiting >>= 32;
            count -= 32;
        }
    }
    if (count > 0) *words = (int32_t)(uint32_t)waiting;
}

BODY void sluice_pack_row_body(const int8_t *restrict codes, size_t cols, int32_t bits, int32_t *restrict words) {
    if (32 % bits != 0) {
        pack_stream(codes, cols, bits, words);
        return;
    }
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

BODY void unpack_stream(const int32_t *restrict words, size_t cols, int32_t bits, int8_t *restrict codes) {
    int32_t offset = 1 << (bits - 1);
    uint32_t mask = (1u << bits) - 1;
    uint64_t waiting = 0;
    int32_t count = 0;
    for (size_t c = 0; c < cols; c++) {
        if (count < bits) {
            waiting |= (uint64_t)(uint32_t)*words++ << count;
            count += 32;
        }
        codes[c] = (int8_t)((int32_t)((uint32_t)waiting & mask) - offset);
        waiting >>= bits;
        count -= bits;
    }
}

BODY void sluice_unpack_row_body(const int32_t *restrict words, size_t cols, int32_t bits, int8_t *restrict codes) {
    if (32 % bits != 0) {
        unpack_stream(words, cols, bits, codes);
        return;
    }
    int32_t offset = 1 << (bits - 1);
    uint32_t mask = (1u << bits) - 1;
    size_t per_word = (size_t)(32 / bits);
    for (size_t c = 0; c < cols; c++) {
        uint32_t code = ((uint32_t)words[c / per_word] >> (bits * (int32_t)(c % per_word))) & mask;
        codes[c] = (int8_t)((int32_t)code - offset);
    }
}
VARIANTS(void, sluice_unpack_row, (const int32_t *words, size_t cols, int32_t bits, int8_t *codes),
         (words, cols, bits, codes))

// Byte `bits * c / 8` holds the first bits of code c, from its lowest on.
BODY void sluice_pack_bytes_body(const int8_t *restrict codes, size_t cols, int32_t bits, uint8_t *restrict bytes) {
    uint32_t mask = (1u << bits) - 1, waiting = 0;
    int32_t count = 0;
    for (size_t c = 0; c < cols; c++) {
        waiting |= ((uint32_t)(uint8_t)codes[c] & mask) << count;
        count += bits;
        while (count >= 8) {
            *bytes++ = (uint8_t)waiting;
            waiting >>= 8;
            count -= 8;
        }
    }
    if (count > 0) *bytes = (uint8_t)waiting;
}
VARIANTS(void, sluice_pack_bytes, (const int8_t *codes, size_t cols, int32_t bits, uint8_t *bytes),
         (codes, cols, bits, bytes))

BODY void sluice_unpack_bytes_body(const uint8_t *restrict bytes, size_t cols, int32_t bits, int8_t *restrict codes) {
    uint32_t mask = (1u << bits) - 1, waiting = 0;
    int32_t count = 0;
    for (size_t c = 0; c < cols; c++) {
        if (count < bits) {
            waiting |= (uint32_t)*bytes++ << count;
            count += 8;
        }
        codes[c] = (int8_t)(uint8_t)(waiting & mask);
        waiting >>= bits;
        count -= bits;
    }
}
VARIANTS(void, sluice_unpack_bytes, (const uint8_t *bytes, size_t cols, int32_t bits, int8_t *codes),
         (bytes, cols, bits, codes))

BODY void values_of_codes(const int8_t *restrict codes, const float *restrict scales, const int8_t *restrict zero_points,
                          size_t cols, struct sluice_rounding rounding, float *restrict result, int is_float) {
    struct numbers numbers = numbers_of(rounding, is_float);
    size_t group = (size_t)rounding.group;
    for (size_t start = 0; start < cols; start += group) {
        float scale = scales[start / group], zero = zero_points ? (float)zero_points[start / group] : 0;
        size_t end = group_end(start, rounding, cols);
        for (size_t c = start; c < end; c++) result[c] = value_of_number(number_of_code(codes[c], numbers), zero, scale);
    }
}

BODY void sluice_values_of_codes_body(const int8_t *restrict codes, const float *restrict scales,
                                      const int8_t *restrict zero_points, size_t cols, struct sluice_rounding rounding,
                                      float *restrict result) {
    BY_NUMBERS(values_of_codes, codes, scales, zero_points, cols, rounding, result);
}
VARIANTS(void, sluice_values_of_codes,
         (const int8_t *codes, const float *scales, const int8_t *zero_points, size_t cols,
          struct sluice_rounding rounding, float *result),
         (codes, scales, zero_points, cols, rounding, result))

// ---- stored scales

BODY void sluice_scale_codes_body(const float *restrict scales, size_t count, int32_t type, float global_scale,
                                  uint8_t *restrict codes) {
    for (size_t i = 0; i < count; i++) {
        if (type == SLUICE_SCALE_E8M0)
            codes[i] = (uint8_t)(bits_of(scales[i]) >> 23);
        else
            codes[i] = (uint8_t)code_of_number(nearest_number(scales[i] * global_scale, e4m3_numbers()), e4m3_numbers());
    }
}
VARIANTS(void, sluice_scale_codes,
         (const float *scales, size_t count, int32_t type, float global_scale, uint8_t *codes),
         (scales, count, type, global_scale, codes))

BODY void sluice_scales_of_codes_body(const uint8_t *restrict codes, size_t count, int32_t type, float global_scale,
                                      float *restrict scales) {
    for (size_t i = 0; i < count; i++)
        scales[i] = type == SLUICE_SCALE_E8M0 ? power_of_two((int32_t)codes[i]) : e4m3_to_float(codes[i]) / global_scale;
}
VARIANTS(void, sluice_scales_of_codes,
         (const uint8_t *codes, size_t count, int32_t type, float global_scale, float *scales),
         (codes, count, type, global_scale, scales))
