// One kernel body, three instruction sets.
#ifndef SLUICE_VARIANTS_H
#define SLUICE_VARIANTS_H

enum sluice_level { SLUICE_PORTABLE, SLUICE_AVX2, SLUICE_AVX512, SLUICE_AVX512_BF16 };
enum sluice_level sluice_level(void);

#define BODY static inline __attribute__((always_inline))

#if defined(__x86_64__)
// Not target_clones: its ifunc resolver runs before ThreadSanitizer is ready and crashes there.
#define VARIANTS(type, name, parameters, arguments)                                                                    \
    __attribute__((target("avx2,fma,f16c"))) static type name##_avx2 parameters { return name##_body arguments; }      \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"))) static type name##_avx512 parameters { \
        return name##_body arguments;                                                                                  \
    }                                                                                                                  \
    type name parameters {                                                                                             \
        switch (sluice_level()) {                                                                                      \
            case SLUICE_AVX512_BF16:                                                                                   \
            case SLUICE_AVX512: return name##_avx512 arguments;                                                        \
            case SLUICE_AVX2: return name##_avx2 arguments;                                                            \
            default: return name##_body arguments;                                                                     \
        }                                                                                                              \
    }
#else
#define VARIANTS(type, name, parameters, arguments) \
    type name parameters { return name##_body arguments; }
#endif

#endif
