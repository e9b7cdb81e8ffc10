// Mixers that remember: a short convolution along tokens, and a state that is changed with every token.
#include "exponential.h"
#include "include/CKernels.h"
#include "variants.h"

// From the last token to the first: none is overwritten before those behind it have read it.
BODY void sluice_causal_convolution_body(float *x, const float *weight, size_t taps, size_t rows, size_t cols,
                                         size_t stride) {
    for (size_t t = rows; t-- > 0;) {
        float *row = x + t * stride;
        const float *last = weight + (taps - 1) * stride;
        for (size_t c = 0; c < cols; c++) row[c] *= last[c];
        for (size_t back = 1; back < taps && back <= t; back++) {
            const float *from = row - back * stride, *factor = last - back * stride;
            for (size_t c = 0; c < cols; c++) row[c] += factor[c] * from[c];
        }
    }
}
VARIANTS(void, sluice_causal_convolution,
         (float *x, const float *weight, size_t taps, size_t rows, size_t cols, size_t stride),
         (x, weight, taps, rows, cols, stride))

BODY void sluice_delta_step_body(float *state, const float *query, const float *key, float *value, const float *decay,
                                 size_t decay_step, float strength, size_t keys, size_t values, float *change) {
    for (size_t v = 0; v < values; v++) change[v] = 0;
    for (size_t k = 0; k < keys; k++) {
        float *row = state + k * values, factor = key[k], kept = decay[k * decay_step];
        for (size_t v = 0; v < values; v++) {
            row[v] *= kept;
            change[v] += factor * row[v];
        }
    }
    for (size_t v = 0; v < values; v++) change[v] = strength * (value[v] - change[v]);
    for (size_t v = 0; v < values; v++) value[v] = 0;
    for (size_t k = 0; k < keys; k++) {
        float *row = state + k * values, factor = key[k], share = query[k];
        for (size_t v = 0; v < values; v++) {
            row[v] += factor * change[v];
            value[v] += share * row[v];
        }
    }
}
VARIANTS(void, sluice_delta_step,
         (float *state, const float *query, const float *key, float *value, const float *decay, size_t decay_step,
          float strength, size_t keys, size_t values, float *change),
         (state, query, key, value, decay, decay_step, strength, keys, values, change))

BODY void sluice_state_step_body(float *state, const float *query, const float *key, float *value, float decay,
                                 float strength, float skip, size_t keys, size_t values, float *change) {
    for (size_t v = 0; v < values; v++) change[v] = strength * value[v];
    for (size_t v = 0; v < values; v++) value[v] *= skip;
    for (size_t k = 0; k < keys; k++) {
        float *row = state + k * values, factor = key[k], share = query[k];
        for (size_t v = 0; v < values; v++) {
            row[v] = decay * row[v] + factor * change[v];
            value[v] += share * row[v];
        }
    }
}
VARIANTS(void, sluice_state_step,
         (float *state, const float *query, const float *key, float *value, float decay, float strength, float skip,
          size_t keys, size_t values, float *change),
         (state, query, key, value, decay, strength, skip, keys, values, change))

BODY void sluice_selective_step_body(float *state, const float *rates, size_t stride, const float *query,
                                     const float *key, const float *step, const float *skip, float *value, size_t keys,
                                     size_t cols, float *change) {
    for (size_t c = 0; c < cols; c++) change[c] = step[c] * value[c];
    for (size_t c = 0; c < cols; c++) value[c] *= skip[c];
    for (size_t k = 0; k < keys; k++) {
        float *row = state + k * cols, factor = key[k], share = query[k];
        const float *rate = rates + k * stride;
        for (size_t c = 0; c < cols; c++) {
            row[c] = exponential(-rate[c] * step[c]) * row[c] + factor * change[c];
            value[c] += share * row[c];
        }
    }
}
VARIANTS(void, sluice_selective_step,
         (float *state, const float *rates, size_t stride, const float *query, const float *key, const float *step,
          const float *skip, float *value, size_t keys, size_t cols, float *change),
         (state, rates, stride, query, key, step, skip, value, keys, cols, change))
