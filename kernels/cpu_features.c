/* What this processor has and what the operating system saves on a context switch. An instruction
 * set counts only when both agree: CPUID alone lies under some hypervisors and old kernels. */
#include "anemo_config.h"
#include "kernels/device.h"
#include "kernels/internal.h"

#include <stdatomic.h>
#include <stdio.h>

#if ANEMO_X86
#include "kernels/prefetch.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux gives the 8 KiB of tile registers to processes that ask (5.16 and later); threads that
 * begin afterwards have them, too. Documentation/arch/x86/xstate.rst. */
static bool may_use_tiles(uint64_t state) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    const uint64_t tiles = 3u << 17;
    return (state & tiles) == tiles &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static uint64_t saved_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool has(uint32_t reg, uint32_t mask) {
    return (reg & mask) == mask;
}

static uint32_t detect(void) {
    uint32_t a, b, c, d, c1;
    if (!__get_cpuid(1, &a, &b, &c1, &d) || !has(c1, bit_OSXSAVE | bit_AVX)) {
        return 0;
    }
    const uint64_t state = saved_state();
    if ((state & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return 0;
    }
    uint32_t features = 0;
    if (has(b, bit_AVX2) && has(c1, bit_FMA | bit_F16C)) {
        features |= ANEMO_CPU_AVX2;
    }
    const uint32_t avx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    if (features && (state & 0xe6) == 0xe6 && has(b, avx512)) {
        features |= ANEMO_CPU_AVX512;
        features |= has(c, bit_AVX512VNNI) ? ANEMO_CPU_AVX512_VNNI : 0;
        features |= has(c, bit_AVX512VBMI) ? ANEMO_CPU_AVX512_VBMI : 0;
        const bool fp16 = has(d, 1u << 23);                          /* AVX512-FP16 */
        const bool tiles = has(d, 1u << 24) && may_use_tiles(state); /* AMX-TILE */
        if (tiles) {
            features |= has(d, 1u << 25) ? ANEMO_CPU_AMX_INT8 : 0;
            features |= fp16 && has(d, 1u << 22) ? ANEMO_CPU_AMX_BF16 : 0;
        }
        if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) {
            features |= has(a, 1u << 5) ? ANEMO_CPU_AVX512_BF16 : 0;
            features |= tiles && fp16 && has(a, 1u << 21) ? ANEMO_CPU_AMX_FP16 : 0;
        }
    }
    return features;
}

/* Measured on Zen 4 (family 25, with Zen 3) and on Granite Rapids; other cores of Intel with matrix
 * tiles have as many buffers for misses. The processors that are known to like it otherwise, and
 * those nobody has measured, ask in the first level. */
static anemo_cpu_reading detect_reading(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(0, &a, &b, &c, &d)) {
        return ANEMO_READS_IN_FIRST_LEVEL;
    }
    if (b == signature_INTEL_ebx && d == signature_INTEL_edx && c == signature_INTEL_ecx &&
        __get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return has(d, 1u << 24) ? ANEMO_READS_IN_STREAMS : ANEMO_READS_IN_FIRST_LEVEL;
    }
    if (b == signature_AMD_ebx && d == signature_AMD_edx && c == signature_AMD_ecx &&
        __get_cpuid(1, &a, &b, &c, &d)) {
        const uint32_t family = (a >> 8 & 0xf) + (a >> 20 & 0xff); /* base 15 and extended */
        return family == 25 ? ANEMO_READS_UNASKED : ANEMO_READS_IN_FIRST_LEVEL;
    }
    return ANEMO_READS_IN_FIRST_LEVEL;
}

void anemo_cpu_brand(char *name, size_t name_bytes) {
    uint32_t words[12];
    char text[sizeof words + 1];
    for (uint32_t leaf = 0; leaf < 3; leaf++) {
        uint32_t *w = words + 4 * leaf;
        if (!__get_cpuid(0x80000002u + leaf, &w[0], &w[1], &w[2], &w[3])) {
            snprintf(name, name_bytes, "x86-64 CPU");
            return;
        }
    }
    memcpy(text, words, sizeof words);
    text[sizeof words] = 0;
    const char *begin = text + strspn(text, " ");
    size_t length = strlen(begin);
    while (length > 0 && begin[length - 1] == ' ') {
        length--;
    }
    snprintf(name, name_bytes, "%.*s", (int)length, begin);
}

#else

#if ANEMO_AARCH64 && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

static uint32_t detect(void) {
    uint32_t features = 0;
    features |= getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? ANEMO_CPU_NEON_DOT : 0;
    features |= getauxval(AT_HWCAP2) & HWCAP2_I8MM ? ANEMO_CPU_NEON_I8MM : 0;
    return features;
}
#else
static uint32_t detect(void) {
    return 0;
}
#endif

static anemo_cpu_reading detect_reading(void) {
    return ANEMO_READS_IN_FIRST_LEVEL;
}

void anemo_cpu_brand(char *name, size_t name_bytes) {
    snprintf(name, name_bytes, ANEMO_AARCH64 ? "aarch64 CPU" : "CPU");
}
#endif

static _Atomic uint32_t hidden; /* bits that anemo_cpu_features leaves out */

uint32_t anemo_cpu_features_hardware(void) {
    static _Atomic uint32_t known; /* bit 31: detected; CPUID is slow in a virtual machine */
    uint32_t features = atomic_load_explicit(&known, memory_order_relaxed);
    if (!features) {
        features = detect() | 1u << 31;
        atomic_store_explicit(&known, features, memory_order_relaxed);
    }
    return features & ~(1u << 31);
}

static _Atomic int reading; /* an anemo_cpu_reading and 1; 0: not known yet */

anemo_cpu_reading anemo_cpu_reads(void) {
    int known = atomic_load_explicit(&reading, memory_order_relaxed);
    if (!known) {
        known = (int)detect_reading() + 1;
        atomic_store_explicit(&reading, known, memory_order_relaxed);
    }
    return (anemo_cpu_reading)(known - 1);
}

#if ANEMO_X86
void anemo_cpu_pretend_reading(int answer) {
    atomic_store_explicit(&reading, answer + 1, memory_order_relaxed);
}
#endif

uint32_t anemo_cpu_features(void) {
    return anemo_cpu_features_hardware() & ~atomic_load_explicit(&hidden, memory_order_relaxed);
}

void anemo_cpu_features_limit(uint32_t features) {
    atomic_store_explicit(&hidden, ~features, memory_order_relaxed);
}

const char *anemo_cpu_feature_name(uint32_t one_bit) {
    switch (one_bit) {
    case ANEMO_CPU_AVX2:
        return "avx2";
    case ANEMO_CPU_AVX512:
        return "avx512";
    case ANEMO_CPU_AVX512_VNNI:
        return "avx512vnni";
    case ANEMO_CPU_AVX512_BF16:
        return "avx512bf16";
    case ANEMO_CPU_AVX512_VBMI:
        return "avx512vbmi";
    case ANEMO_CPU_AMX_INT8:
        return "amxint8";
    case ANEMO_CPU_AMX_BF16:
        return "amxbf16";
    case ANEMO_CPU_AMX_FP16:
        return "amxfp16";
    case ANEMO_CPU_NEON_DOT:
        return "neon-dot";
    case ANEMO_CPU_NEON_I8MM:
        return "neon-i8mm";
    default:
        return "unknown";
    }
}
