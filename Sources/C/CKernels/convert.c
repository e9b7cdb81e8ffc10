// bf16 and f16 to float32 and back; scaled e4m3 to float32 and bf16; byte planes; elements that lie apart.
#include "float_types.h"
#include "include/CKernels.h"

BODY void sluice_bf16_to_f32_body(const uint16_t *restrict source, float *restrict result, size_t count) {
    for (size_t i = 0; i < count; i++) result[i] = bf16_to_float(source[i]);
}
VARIANTS(void, sluice_bf16_to_f32, (const uint16_t *source, float *result, size_t count), (source, result, count))

BODY void sluice_f16_to_f32_body(const uint16_t *restrict source, float *restrict result, size_t count) {
    for (size_t i = 0; i < count; i++) result[i] = f16_to_float(source[i]);
}
VARIANTS(void, sluice_f16_to_f32, (const uint16_t *source, float *result, size_t count), (source, result, count))

BODY void sluice_f32_to_bf16_body(const float *restrict source, uint16_t *restrict result, size_t count) {
    for (size_t i = 0; i < count; i++) result[i] = float_to_bf16(source[i]);
}
VARIANTS(void, sluice_f32_to_bf16, (const float *source, uint16_t *result, size_t count), (source, result, count))

BODY void sluice_f32_to_f16_body(const float *restrict source, uint16_t *restrict result, size_t count) {
    for (size_t i = 0; i < count; i++) result[i] = float_to_f16(source[i]);
}
VARIANTS(void, sluice_f32_to_f16, (const float *source, uint16_t *result, size_t count), (source, result, count))

// The end of the elements from `i` on that share a scale.
BODY size_t scaled_end(size_t i, size_t first, size_t block, size_t count) {
    size_t left = block - (first + i) % block;
    return left < count - i ? i + left : count;
}

BODY void sluice_e4m3_to_f32_body(const uint8_t *restrict source, const float *restrict scales, size_t first,
                                  size_t block, size_t count, float *restrict result) {
    for (size_t i = 0, end; i < count; i = end) {
        float scale = scales[(first + i) / block];
        end = scaled_end(i, first, block, count);
        for (size_t k = i; k < end; k++) result[k] = e4m3_to_float(source[k]) * scale;
    }
}
VARIANTS(void, sluice_e4m3_to_f32,
         (const uint8_t *source, const float *scales, size_t first, size_t block, size_t count, float *result),
         (source, scales, first, block, count, result))

BODY void sluice_e4m3_to_bf16_body(const uint8_t *restrict source, const float *restrict scales, size_t first,
                                   size_t block, size_t count, uint16_t *restrict result) {
    for (size_t i = 0, end; i < count; i = end) {
        float scale = scales[(first + i) / block];
        end = scaled_end(i, first, block, count);
        for (size_t k = i; k < end; k++) result[k] = float_to_bf16(e4m3_to_float(source[k]) * scale);
    }
}
VARIANTS(void, sluice_e4m3_to_bf16,
         (const uint8_t *source, const float *scales, size_t first, size_t block, size_t count, uint16_t *result),
         (source, scales, first, block, count, result))

BODY void sluice_split_planes_body(const uint8_t *restrict source, uint8_t *restrict result, size_t count, size_t width) {
    if (width == 2) {
        for (size_t i = 0; i < count; i++) {
            result[i] = source[2 * i];
            result[count + i] = source[2 * i + 1];
        }
        return;
    }
    for (size_t plane = 0; plane < width; plane++)
        for (size_t i = 0; i < count; i++) result[plane * count + i] = source[i * width + plane];
}
VARIANTS(void, sluice_split_planes, (const uint8_t *source, uint8_t *result, size_t count, size_t width),
         (source, result, count, width))

BODY void sluice_join_planes_body(const uint8_t *restrict source, uint8_t *restrict result, size_t count, size_t width) {
    if (width == 2) {
        for (size_t i = 0; i < count; i++) {
            result[2 * i] = source[i];
            result[2 * i + 1] = source[count + i];
        }
        return;
    }
    for (size_t plane = 0; plane < width; plane++)
        for (size_t i = 0; i < count; i++) result[i * width + plane] = source[plane * count + i];
}
VARIANTS(void, sluice_join_planes, (const uint8_t *source, uint8_t *result, size_t count, size_t width),
         (source, result, count, width))

enum { GATHERED = 32 };

// Squares that fit the first cache: each column is read as it lies, where columns are stored as rows a line of one page.
BODY void gather(const char *restrict source, size_t width, size_t rows, size_t cols, size_t row_stride,
                 size_t column_stride, char *restrict result) {
    char square[GATHERED * GATHERED * sizeof(uint32_t)];
    for (size_t r0 = 0; r0 < rows; r0 += GATHERED)
        for (size_t c0 = 0; c0 < cols; c0 += GATHERED) {
            size_t height = rows - r0 < GATHERED ? rows - r0 : GATHERED;
            size_t breadth = cols - c0 < GATHERED ? cols - c0 : GATHERED;
            for (size_t c = 0; c < breadth; c++) {
                const char *column = source + (r0 * row_stride + (c0 + c) * column_stride) * width;
                char *copy = square + c * GATHERED * width;
                if (row_stride == 1)
                    memcpy(copy, column, height * width);
                else
                    for (size_t r = 0; r < height; r++) memcpy(copy + r * width, column + r * row_stride * width, width);
            }
            for (size_t r = 0; r < height; r++)
                for (size_t c = 0; c < breadth; c++)
                    memcpy(result + ((r0 + r) * cols + c0 + c) * width, square + (c * GATHERED + r) * width, width);
        }
}

BODY void sluice_gather_body(const void *source, size_t width, size_t rows, size_t cols, size_t row_stride,
                             size_t column_stride, void *result) {
    // Widths that the compiler knows become single moves.
    if (width == 2)
        gather(source, 2, rows, cols, row_stride, column_stride, result);
    else
        gather(source, 4, rows, cols, row_stride, column_stride, result);
}
VARIANTS(void, sluice_gather,
         (const void *source, size_t width, size_t rows, size_t cols, size_t row_stride, size_t column_stride,
          void *result),
         (source, width, rows, cols, row_stride, column_stride, result))
