// Which instruction sets this CPU has, asked once.
#include "include/CKernels.h"
#include "variants.h"

#include <stdatomic.h>
#include <string.h>

static const char *const names[] = {"portable", "avx2", "avx512", "avx512_bf16"};

// What sluice_use_instruction_set chose for this thread, or -1.
static _Thread_local int chosen = -1;

static enum sluice_level ask(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        return __builtin_cpu_supports("avx512bf16") ? SLUICE_AVX512_BF16 : SLUICE_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) return SLUICE_AVX2;
#endif
    return SLUICE_PORTABLE;
}

static enum sluice_level best(void) {
    static atomic_int known = -1;
    int level = atomic_load_explicit(&known, memory_order_relaxed);
    if (level < 0) {
        level = (int)ask();
        atomic_store_explicit(&known, level, memory_order_relaxed);
    }
    return (enum sluice_level)level;
}

enum sluice_level sluice_level(void) { return chosen >= 0 ? (enum sluice_level)chosen : best(); }

const char *sluice_instruction_set(void) { return names[sluice_level()]; }

int sluice_use_instruction_set(const char *name) {
    chosen = -1;
    if (!name) return 1;
    for (int level = 0; level <= (int)best(); level++)
        if (strcmp(name, names[level]) == 0) chosen = level;
    return chosen >= 0;
}
