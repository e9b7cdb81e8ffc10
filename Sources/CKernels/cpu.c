// Which instruction sets this CPU has, asked once.
#include "include/CKernels.h"
#include "variants.h"

#include <stdatomic.h>

static enum sluice_level ask(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return SLUICE_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) return SLUICE_AVX2;
#endif
    return SLUICE_PORTABLE;
}

enum sluice_level sluice_level(void) {
    static atomic_int known = -1;
    int level = atomic_load_explicit(&known, memory_order_relaxed);
    if (level < 0) {
        level = (int)ask();
        atomic_store_explicit(&known, level, memory_order_relaxed);
    }
    return (enum sluice_level)level;
}

const char *sluice_instruction_set(void) {
    switch (sluice_level()) {
        case SLUICE_AVX512: return "avx512";
        case SLUICE_AVX2: return "avx2";
        default: return "portable";
    }
}
