// Norm, softmax, activations and rotation over float32 rows.
#include "exponential.h"
#include "include/CKernels.h"

#include <math.h>

// Sixteen partial sums, added in a fixed order: the same bits at every vector width.
enum { LANES = 16 };

BODY float sum_lanes(const float *lanes) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += lanes[i];
    return sum;
}

BODY void sluice_rms_norm_body(const float *x, const float *weight, float epsilon, size_t rows, size_t cols,
                               float *result) {
    for (size_t row = 0; row < rows; row++) {
        const float *from = x + row * cols;
        float *to = result + row * cols;
        float lanes[LANES] = {0};
        size_t c = 0;
        for (; c + LANES <= cols; c += LANES)
            for (int i = 0; i < LANES; i++) lanes[i] += from[c + i] * from[c + i];
        for (; c < cols; c++) lanes[c % LANES] += from[c] * from[c];
        float factor = 1.0f / sqrtf(sum_lanes(lanes) / (float)cols + epsilon);
        for (c = 0; c < cols; c++) to[c] = weight[c] * (from[c] * factor);
    }
}
VARIANTS(void, sluice_rms_norm,
         (const float *x, const float *weight, float epsilon, size_t rows, size_t cols, float *result),
         (x, weight, epsilon, rows, cols, result))

BODY void sluice_layer_norm_body(const float *x, const float *weight, const float *bias, float epsilon, size_t rows,
                                 size_t cols, float *result) {
    for (size_t row = 0; row < rows; row++) {
        const float *from = x + row * cols;
        float *to = result + row * cols;
        float lanes[LANES] = {0};
        size_t c = 0;
        for (; c + LANES <= cols; c += LANES)
            for (int i = 0; i < LANES; i++) lanes[i] += from[c + i];
        for (; c < cols; c++) lanes[c % LANES] += from[c];
        float mean = sum_lanes(lanes) / (float)cols, squares[LANES] = {0};
        for (c = 0; c + LANES <= cols; c += LANES)
            for (int i = 0; i < LANES; i++) squares[i] += (from[c + i] - mean) * (from[c + i] - mean);
        for (; c < cols; c++) squares[c % LANES] += (from[c] - mean) * (from[c] - mean);
        float factor = 1.0f / sqrtf(sum_lanes(squares) / (float)cols + epsilon);
        for (c = 0; c < cols; c++) to[c] = weight[c] * ((from[c] - mean) * factor);
        if (bias)
            for (c = 0; c < cols; c++) to[c] += bias[c];
    }
}
VARIANTS(void, sluice_layer_norm,
         (const float *x, const float *weight, const float *bias, float epsilon, size_t rows, size_t cols,
          float *result),
         (x, weight, bias, epsilon, rows, cols, result))

BODY void sluice_swiglu_body(const float *restrict gate, float *restrict up, size_t count) {
    for (size_t i = 0; i < count; i++) up[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
}
VARIANTS(void, sluice_swiglu, (const float *gate, float *up, size_t count), (gate, up, count))

BODY void sluice_silu_body(float *x, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] = x[i] / (1.0f + exponential(-x[i]));
}
VARIANTS(void, sluice_silu, (float *x, size_t count), (x, count))

// erfc(z) for z >= 0 with a relative error below 1.2e-7 beside that of exp: Numerical Recipes, 6.2, a Chebyshev fit.
BODY float erfc_of(float z) {
    float t = 1.0f / (1.0f + 0.5f * z);
    float p = 0.17087277f;
    p = p * t - 0.82215223f;
    p = p * t + 1.48851587f;
    p = p * t - 1.13520398f;
    p = p * t + 0.27886807f;
    p = p * t - 0.18628806f;
    p = p * t + 0.09678418f;
    p = p * t + 0.37409196f;
    p = p * t + 1.00002368f;
    p = p * t - 1.26551223f;
    return t * exponential(p - z * z);
}

// x * erfc(-x / sqrt(2)) / 2.
BODY void sluice_gelu_body(float *x, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float tail = 0.5f * erfc_of(fabsf(x[i]) * 0.707106781f);
        x[i] *= x[i] < 0 ? tail : 1.0f - tail;
    }
}
VARIANTS(void, sluice_gelu, (float *x, size_t count), (x, count))

// (1 + tanh(u)) / 2 is sigmoid(2u).
BODY void sluice_gelu_tanh_body(float *x, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float u = 0.797884561f * (x[i] + 0.044715f * (x[i] * x[i] * x[i]));
        x[i] = x[i] / (1.0f + exponential(-2.0f * u));
    }
}
VARIANTS(void, sluice_gelu_tanh, (float *x, size_t count), (x, count))

// tanh(u) is 2 sigmoid(2u) - 1.
BODY void sluice_situ_body(float *x, float beta, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float bounded = beta * (2.0f / (1.0f + exponential(-2.0f * (x[i] / beta))) - 1.0f);
        x[i] = bounded / (1.0f + exponential(-x[i]));
    }
}
VARIANTS(void, sluice_situ, (float *x, float beta, size_t count), (x, beta, count))

BODY void sluice_relu_squared_body(float *x, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] = x[i] > 0 ? x[i] * x[i] : 0.0f;
}
VARIANTS(void, sluice_relu_squared, (float *x, size_t count), (x, count))

BODY void sluice_clamped_pairs_body(const float *restrict x, float alpha, float limit, float *restrict result,
                                    size_t count) {
    for (size_t i = 0; i < count; i++) {
        float gate = x[2 * i], up = x[2 * i + 1];
        gate = gate > limit ? limit : gate;
        up = up > limit ? limit : up < -limit ? -limit : up;
        result[i] = (up + 1.0f) * (gate / (1.0f + exponential(-alpha * gate)));
    }
}
VARIANTS(void, sluice_clamped_pairs, (const float *x, float alpha, float limit, float *result, size_t count),
         (x, alpha, limit, result, count))

BODY void sluice_clamped_gates_body(const float *restrict gate, float alpha, float limit, float *restrict up,
                                    size_t count) {
    for (size_t i = 0; i < count; i++) {
        float g = gate[i] > limit ? limit : gate[i];
        float u = up[i] > limit ? limit : up[i] < -limit ? -limit : up[i];
        up[i] = (u + 1.0f) * (g / (1.0f + exponential(-alpha * g)));
    }
}
VARIANTS(void, sluice_clamped_gates, (const float *gate, float alpha, float limit, float *up, size_t count),
         (gate, alpha, limit, up, count))

BODY void sluice_sigmoid_body(float *x, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] = 1.0f / (1.0f + exponential(-x[i]));
}
VARIANTS(void, sluice_sigmoid, (float *x, size_t count), (x, count))

BODY void sluice_clamp_body(float *x, float low, float high, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float least = x[i] < low ? low : x[i];
        x[i] = least > high ? high : least;
    }
}
VARIANTS(void, sluice_clamp, (float *x, float low, float high, size_t count), (x, low, high, count))

// Beyond 20 the one is below half a step of float32.
BODY void sluice_softplus_body(float *x, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] = x[i] > 20.0f ? x[i] : log1pf(exponential(x[i]));
}
VARIANTS(void, sluice_softplus, (float *x, size_t count), (x, count))

// tanh(u) is 2 sigmoid(2u) - 1.
BODY void sluice_soft_cap_body(float *x, float cap, size_t count) {
    for (size_t i = 0; i < count; i++) x[i] = cap * (2.0f / (1.0f + exponential(-2.0f * (x[i] / cap))) - 1.0f);
}
VARIANTS(void, sluice_soft_cap, (float *x, float cap, size_t count), (x, cap, count))

BODY void sluice_softmax_body(float *x, float scale, size_t count) {
    float largest = -INFINITY;
    for (size_t i = 0; i < count; i++) largest = x[i] > largest ? x[i] : largest;
    float lanes[LANES] = {0};
    size_t c = 0;
    for (; c + LANES <= count; c += LANES)
        for (int i = 0; i < LANES; i++) {
            x[c + i] = exponential((x[c + i] - largest) * scale);
            lanes[i] += x[c + i];
        }
    for (; c < count; c++) {
        x[c] = exponential((x[c] - largest) * scale);
        lanes[c % LANES] += x[c];
    }
    float factor = 1.0f / sum_lanes(lanes);
    for (c = 0; c < count; c++) x[c] *= factor;
}
VARIANTS(void, sluice_softmax, (float *x, float scale, size_t count), (x, scale, count))

BODY void sluice_softmax_sink_body(float *x, float scale, float sink, size_t count) {
    float largest = -INFINITY;
    for (size_t i = 0; i < count; i++) largest = x[i] > largest ? x[i] : largest;
    float top = largest * scale, below = top > sink ? 0.0f : top - sink;
    float lanes[LANES] = {0};
    size_t c = 0;
    for (; c + LANES <= count; c += LANES)
        for (int i = 0; i < LANES; i++) {
            x[c + i] = exponential((x[c + i] - largest) * scale + below);
            lanes[i] += x[c + i];
        }
    for (; c < count; c++) {
        x[c] = exponential((x[c] - largest) * scale + below);
        lanes[c % LANES] += x[c];
    }
    float factor = 1.0f / (sum_lanes(lanes) + exponential(sink - (top > sink ? top : sink)));
    for (c = 0; c < count; c++) x[c] *= factor;
}
VARIANTS(void, sluice_softmax_sink, (float *x, float scale, float sink, size_t count), (x, scale, sink, count))

BODY void sluice_softmax_gradient_body(const float *restrict y, float scale, float *restrict gradient, size_t count) {
    float lanes[LANES] = {0};
    size_t c = 0;
    for (; c + LANES <= count; c += LANES)
        for (int i = 0; i < LANES; i++) lanes[i] += y[c + i] * gradient[c + i];
    for (; c < count; c++) lanes[c % LANES] += y[c] * gradient[c];
    float mean = sum_lanes(lanes);
    for (c = 0; c < count; c++) gradient[c] = scale * y[c] * (gradient[c] - mean);
}
VARIANTS(void, sluice_softmax_gradient, (const float *y, float scale, float *gradient, size_t count),
         (y, scale, gradient, count))

BODY void sluice_mix_states_body(const float *x, const float *weight, float epsilon, size_t states, size_t cols,
                                 float *restrict scores, float *restrict result) {
    float largest = -INFINITY, sum = 0;
    for (size_t s = 0; s < states; s++) {
        const float *state = x + s * cols;
        float squares[LANES] = {0}, products[LANES] = {0};
        size_t c = 0;
        for (; c + LANES <= cols; c += LANES)
            for (int i = 0; i < LANES; i++) {
                squares[i] += state[c + i] * state[c + i];
                products[i] += state[c + i] * weight[c + i];
            }
        for (; c < cols; c++) {
            squares[c % LANES] += state[c] * state[c];
            products[c % LANES] += state[c] * weight[c];
        }
        scores[s] = sum_lanes(products) / sqrtf(sum_lanes(squares) / (float)cols + epsilon);
        largest = scores[s] > largest ? scores[s] : largest;
    }
    for (size_t s = 0; s < states; s++) sum += scores[s] = exponential(scores[s] - largest);
    for (size_t c = 0; c < cols; c++) result[c] = scores[0] / sum * x[c];
    for (size_t s = 1; s < states; s++) {
        float share = scores[s] / sum;
        const float *state = x + s * cols;
        for (size_t c = 0; c < cols; c++) result[c] += share * state[c];
    }
}
VARIANTS(void, sluice_mix_states,
         (const float *x, const float *weight, float epsilon, size_t states, size_t cols, float *scores, float *result),
         (x, weight, epsilon, states, cols, scores, result))

BODY void sluice_rotate_half_body(float *restrict x, const float *restrict cosine, const float *restrict sine,
                                  size_t half) {
    for (size_t i = 0; i < half; i++) {
        float first = x[i], second = x[i + half];
        x[i] = first * cosine[i] - second * sine[i];
        x[i + half] = second * cosine[i] + first * sine[i];
    }
}
VARIANTS(void, sluice_rotate_half, (float *x, const float *cosine, const float *sine, size_t half),
         (x, cosine, sine, half))

BODY void sluice_rotate_pairs_body(float *restrict x, const float *restrict cosine, const float *restrict sine,
                                   size_t half) {
    for (size_t i = 0; i < half; i++) {
        float first = x[2 * i], second = x[2 * i + 1];
        x[2 * i] = first * cosine[i] - second * sine[i];
        x[2 * i + 1] = second * cosine[i] + first * sine[i];
    }
}
VARIANTS(void, sluice_rotate_pairs, (float *x, const float *cosine, const float *sine, size_t half),
         (x, cosine, sine, half))

BODY void sluice_add_scaled_body(const float *restrict x, float factor, float *restrict result, size_t count) {
    for (size_t i = 0; i < count; i++) result[i] += factor * x[i];
}
VARIANTS(void, sluice_add_scaled, (const float *x, float factor, float *result, size_t count),
         (x, factor, result, count))

BODY void sluice_multiply_body(const float *x, const float *factor, float *result, size_t count) {
    for (size_t i = 0; i < count; i++) result[i] = x[i] * factor[i];
}
VARIANTS(void, sluice_multiply, (const float *x, const float *factor, float *result, size_t count),
         (x, factor, result, count))

BODY void sluice_scale_body(const float *x, float factor, float *result, size_t count) {
    for (size_t i = 0; i < count; i++) result[i] = x[i] * factor;
}
VARIANTS(void, sluice_scale, (const float *x, float factor, float *result, size_t count), (x, factor, result, count))
