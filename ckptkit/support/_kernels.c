/* The inner loops of ckptkit over the elements of tensors: casts, tables, figures, checks and the common packed blocks.
 *
 * Optional: without a compiler, or with CKPTKIT_NO_NATIVE in the environment, numpy does the same work to the same bits (the figures of
 * statistics: to 1e-12). Each loop is compiled twice on x86-64, once for processors with AVX2 and F16C; which one runs is decided when the
 * module is loaded. No sum depends on that: its lanes are written out, and products are never fused with additions (-ffp-contract=off).
 * Arguments are C-contiguous buffers in the machine's own byte order, which is little-endian; lengths are checked here. The global lock is
 * given back while a loop runs.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define WIDE __attribute__((target("avx2,f16c,bmi2")))
#define HAVE_WIDE 1
#endif
#define INLINE static inline __attribute__((always_inline))

static int wide = 0; /* whether the processor has what WIDE asks for */

#ifdef HAVE_WIDE
static int has_wide(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
}

/* the two versions of a loop whose body is `name_body` */
#define VERSIONS(type, name, parameters, arguments)                       \
    static type name##_plain parameters { return name##_body arguments; } \
    WIDE static type name##_wide parameters { return name##_body arguments; } \
    static type name parameters { return wide ? name##_wide arguments : name##_plain arguments; }
#else
#define VERSIONS(type, name, parameters, arguments) \
    static type name parameters { return name##_body arguments; }
#endif

/* elements wherever they lie: a tensor of a file need not begin at a multiple of its elements' size */
typedef uint16_t u16 __attribute__((aligned(1), may_alias));
typedef uint32_t u32 __attribute__((aligned(1), may_alias));
typedef int64_t i64 __attribute__((aligned(1), may_alias));
typedef float f32 __attribute__((aligned(1), may_alias));

INLINE uint32_t bits_of(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
INLINE float float_of(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }

/* ---- casts -------------------------------------------------------------------------------------------------------------------- */

#define TOP_HALF 0x477FF000u /* what rounds to infinity, as a magnitude of float32 */

INLINE uint16_t half_of(uint32_t u)
{
    uint32_t sign = (u >> 16) & 0x8000u, a = u & 0x7FFFFFFFu;
    if (a >= 0x7F800000u) {
        uint32_t rest = 0x7C00u | ((a >> 13) & 0x3FFu);
        if (a > 0x7F800000u && rest == 0x7C00u) rest = 0x7C01u;
        return (uint16_t)(sign | rest);
    }
    if (a >= TOP_HALF) return (uint16_t)(sign | 0x7C00u);
    if (a >= 0x38800000u) return (uint16_t)(sign | ((a + 0xFFFu + ((a >> 13) & 1u) - (112u << 23)) >> 13));
    if (a <= 0x33000000u) return (uint16_t)sign;
    uint32_t shift = 126u - (a >> 23), m = (a & 0x7FFFFFu) | 0x800000u, q = m >> shift, rest = m & ((1u << shift) - 1u), tie = 1u << (shift - 1u);
    q += rest > tie || (rest == tie && (q & 1u));
    return (uint16_t)(sign | q);
}

INLINE uint32_t float_of_half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3FFu;
    if (e == 31u) return sign | 0x7F800000u | (m << 13);
    if (e) return sign | ((e + 112u) << 23) | (m << 13);
    return sign | bits_of((float)m * 0x1p-24f);
}

/* float32 -> float16; whether some result is no finite number */
static int half_plain(const u32 *x, u16 *y, Py_ssize_t n)
{
    uint32_t top = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        uint32_t a = x[i] & 0x7FFFFFFFu;
        top = a > top ? a : top;
        y[i] = half_of(x[i]);
    }
    return top >= TOP_HALF;
}

static int widen_half_plain(const u16 *x, u32 *y, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) y[i] = float_of_half(x[i]);
    return 0;
}

#ifdef HAVE_WIDE
WIDE static int half_wide(const u32 *x, u16 *y, Py_ssize_t n)
{
    const __m256i mask = _mm256_set1_epi32(0x7FFFFFFF), limit = _mm256_set1_epi32((int)TOP_HALF - 1);
    int odd = 0;
    Py_ssize_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i u = _mm256_loadu_si256((const __m256i *)(x + i)), v = _mm256_loadu_si256((const __m256i *)(x + i + 8));
        __m256i over = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_and_si256(u, mask), limit), _mm256_cmpgt_epi32(_mm256_and_si256(v, mask), limit));
        if (__builtin_expect(!_mm256_testz_si256(over, over), 0)) { /* NaN keeps its payload */
            odd |= half_plain(x + i, y + i, 16);
            continue;
        }
        _mm_storeu_si128((__m128i *)(y + i), _mm256_cvtps_ph(_mm256_castsi256_ps(u), _MM_FROUND_TO_NEAREST_INT));
        _mm_storeu_si128((__m128i *)(y + i + 8), _mm256_cvtps_ph(_mm256_castsi256_ps(v), _MM_FROUND_TO_NEAREST_INT));
    }
    return odd | half_plain(x + i, y + i, n - i);
}

WIDE static int widen_half_wide(const u16 *x, u32 *y, Py_ssize_t n)
{
    const __m128i mask = _mm_set1_epi16(0x7FFF), limit = _mm_set1_epi16(0x7BFF);
    Py_ssize_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm_loadu_si128((const __m128i *)(x + i)), over = _mm_cmpgt_epi16(_mm_and_si128(h, mask), limit);
        if (__builtin_expect(!_mm_testz_si128(over, over), 0))
            widen_half_plain(x + i, y + i, 8);
        else
            _mm256_storeu_si256((__m256i *)(y + i), _mm256_castps_si256(_mm256_cvtph_ps(h)));
    }
    return widen_half_plain(x + i, y + i, n - i);
}
#else
#define half_wide half_plain
#define widen_half_wide widen_half_plain
#endif

static int to_half(const u32 *x, u16 *y, Py_ssize_t n) { return wide ? half_wide(x, y, n) : half_plain(x, y, n); }
static int widen_half(const u16 *x, u32 *y, Py_ssize_t n) { return wide ? widen_half_wide(x, y, n) : widen_half_plain(x, y, n); }

/* float32 -> bfloat16; the largest magnitude's bits. What NaN becomes is for the caller to say. */
INLINE uint32_t to_bfloat_body(const u32 *x, u16 *y, Py_ssize_t n)
{
    uint32_t top = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        uint32_t u = x[i], a = u & 0x7FFFFFFFu;
        top = a > top ? a : top;
        y[i] = (uint16_t)((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
    }
    return top;
}
VERSIONS(uint32_t, to_bfloat, (const u32 *x, u16 *y, Py_ssize_t n), (x, y, n))

INLINE int widen_bfloat_body(const u16 *x, u32 *y, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) y[i] = (uint32_t)x[i] << 16;
    return 0;
}
VERSIONS(int, widen_bfloat, (const u16 *x, u32 *y, Py_ssize_t n), (x, y, n))

/* ---- figures ------------------------------------------------------------------------------------------------------------------ */

#define LANES 8
#define FIRST 18 /* bits of a float32 that its class leaves out */

/* sums of a run of finite float32, in lanes */
INLINE int sums_body(const f32 *x, Py_ssize_t n, float *low, float *high, double *total, double *squares)
{
    float a[LANES], b[LANES];
    double s[LANES], q[LANES];
    for (int k = 0; k < LANES; k++) { a[k] = b[k] = x[0]; s[k] = q[k] = 0.0; }
    Py_ssize_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            float v = x[i + k];
            double d = v;
            a[k] = v < a[k] ? v : a[k];
            b[k] = v > b[k] ? v : b[k];
            s[k] += d;
            q[k] += d * d;
        }
    for (int k = 0; i < n; i++, k++) {
        double d = x[i];
        a[k] = x[i] < a[k] ? x[i] : a[k];
        b[k] = x[i] > b[k] ? x[i] : b[k];
        s[k] += d;
        q[k] += d * d;
    }
    for (int k = 1; k < LANES; k++) {
        a[0] = a[k] < a[0] ? a[k] : a[0];
        b[0] = b[k] > b[0] ? b[k] : b[0];
        s[0] += s[k];
        q[0] += q[k];
    }
    *low = a[0]; *high = b[0]; *total = s[0]; *squares = q[0];
    return 0;
}
VERSIONS(int, sums, (const f32 *x, Py_ssize_t n, float *low, float *high, double *total, double *squares), (x, n, low, high, total, squares))

INLINE double spread_body(const f32 *x, Py_ssize_t n, double mean)
{
    double q[LANES] = {0};
    Py_ssize_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) { double d = (double)x[i + k] - mean; q[k] += d * d; }
    for (int k = 0; i < n; i++, k++) { double d = (double)x[i] - mean; q[k] += d * d; }
    for (int k = 1; k < LANES; k++) q[0] += q[k];
    return q[0];
}
VERSIONS(double, spread, (const f32 *x, Py_ssize_t n, double mean), (x, n, mean))

/* the largest magnitude of a run, as bits */
INLINE uint32_t magnitude_body(const u32 *x, Py_ssize_t n)
{
    uint32_t top = 0;
    for (Py_ssize_t i = 0; i < n; i++) { uint32_t a = x[i] & 0x7FFFFFFFu; top = a > top ? a : top; }
    return top;
}
VERSIONS(uint32_t, magnitude, (const u32 *x, Py_ssize_t n), (x, n))

/* four tables, so that equal neighbours do not wait for each other */
static void classes32(const u32 *x, Py_ssize_t n, uint32_t *seen)
{
    Py_ssize_t i = 0;
    const Py_ssize_t all = 1 << (32 - FIRST);
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++) seen[k * all + (x[i + k] >> FIRST)]++;
    for (; i < n; i++) seen[x[i] >> FIRST]++;
}

/* float32 -> a float8 of `m` bits of mantissa whose exponents are biased by `bias`, to nearest even; the largest magnitude that was met.
 * What is below the least normal is added to the power of two whose last place is the least subnormal: so the addition rounds it. */
INLINE uint32_t eighth_body(const u32 *x, uint8_t *y, Py_ssize_t n, const int m, const uint32_t bias)
{
    const uint32_t least = (128u - bias) << 23, magic = (151u - bias - (uint32_t)m) << 23;
    const int shift = 23 - m;
    uint32_t top = 0, codes[256], held[256];
    for (Py_ssize_t at = 0; at < n; at += 256) {
        const int k = n - at < 256 ? (int)(n - at) : 256;
        memcpy(held, x + at, 4 * (size_t)k);
        for (int i = 0; i < k; i++) {
            const uint32_t a = held[i] & 0x7FFFFFFFu, below = 0u - (uint32_t)((int32_t)a < (int32_t)least);
            const uint32_t normal = (a + ((1u << (shift - 1)) - 1u) + (a >> shift & 1u) - ((127u - bias) << 23)) >> shift;
            const uint32_t small = bits_of(float_of(a) + float_of(magic)) - magic;
            top = (int32_t)a > (int32_t)top ? a : top;
            codes[i] = (small & below) | (normal & ~below) | (held[i] >> 31) << 7;
        }
        for (int i = 0; i < k; i++) y[at + i] = (uint8_t)codes[i];
    }
    return top;
}
VERSIONS(uint32_t, eighth, (const u32 *x, uint8_t *y, Py_ssize_t n, const int m, const uint32_t bias), (x, y, n, m, bias))

/* ---- checks ------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint64_t high, low, bits; /* of the positive, of all as unsigned, every bit that is set somewhere */
    double squares;
    int constant;
} Tally;

#define NEAR 2048 /* elements that stay in the first cache between two loops over them */

INLINE int tally32_body(const u32 *x, Py_ssize_t n, Tally *t)
{
    int32_t high = INT32_MIN;
    uint32_t low = 0, bits = 0, differ = 0;
    const uint32_t head = x[0];
    double q[LANES] = {0};
    for (Py_ssize_t at = 0; at < n; at += NEAR) {
        const Py_ssize_t m = n - at < NEAR ? n - at : NEAR;
        const u32 *u = x + at;
        const f32 *v = (const f32 *)u;
        Py_ssize_t i = 0;
        for (Py_ssize_t j = 0; j < m; j++) {
            const uint32_t w = u[j];
            high = (int32_t)w > high ? (int32_t)w : high;
            low = w > low ? w : low;
            bits |= w;
            differ |= w ^ head;
        }
        for (; i + LANES <= m; i += LANES)
            for (int k = 0; k < LANES; k++) q[k] += (double)v[i + k] * (double)v[i + k];
        for (int k = 0; i < m; i++, k++) q[k] += (double)v[i] * (double)v[i];
    }
    for (int k = 1; k < LANES; k++) q[0] += q[k];
    t->high = high > 0 ? (uint64_t)high : 0;
    t->low = low; t->bits = bits; t->squares = q[0]; t->constant = differ == 0;
    return 0;
}
VERSIONS(int, tally32, (const u32 *x, Py_ssize_t n, Tally *t), (x, n, t))

INLINE int tally16_body(const u16 *x, Py_ssize_t n, Tally *t)
{
    int16_t high = INT16_MIN;
    uint16_t low = 0, bits = 0, differ = 0, head = x[0];
    for (Py_ssize_t i = 0; i < n; i++) {
        uint16_t u = x[i];
        high = (int16_t)u > high ? (int16_t)u : high;
        low = u > low ? u : low;
        bits |= u;
        differ |= u ^ head;
    }
    t->high = high > 0 ? (uint64_t)high : 0;
    t->low = low; t->bits = bits; t->squares = 0; t->constant = differ == 0;
    return 0;
}
VERSIONS(int, tally16, (const u16 *x, Py_ssize_t n, Tally *t), (x, n, t))

typedef struct { double total; int64_t finite, negative; } Mean;

/* of the finite ones of n numbers, their bits those of float32: their sum, how many they are, how many of them are below zero */
INLINE void mean_of(const uint32_t *w, int n, double *q, Mean *t)
{
    int finite = 0, negative = 0;
    for (int i = 0; i < n; i++) {
        const uint32_t a = w[i] & 0x7FFFFFFFu;
        const int fine = a < 0x7F800000u;
        finite += fine;
        negative += fine & (w[i] > 0x80000000u);
        q[i % LANES] += fine ? (double)float_of(w[i]) : 0.0;
    }
    t->finite += finite; t->negative += negative;
}

enum { FLOATS, BRAINS, HALVES };

INLINE int means_body(const uint8_t *raw, Py_ssize_t n, int kind, Mean *t)
{
    uint32_t w[256];
    double q[LANES] = {0};
    *t = (Mean){0, 0, 0};
    for (Py_ssize_t at = 0; at < n; at += 256) {
        const int m = n - at < 256 ? (int)(n - at) : 256;
        if (kind == FLOATS) memcpy(w, raw + 4 * at, 4 * (size_t)m);
        else for (int i = 0; i < m; i++) {
            const uint16_t h = ((const u16 *)raw)[at + i];
            w[i] = kind == BRAINS ? (uint32_t)h << 16 : float_of_half(h);
        }
        mean_of(w, m, q, t);
    }
    for (int k = 0; k < LANES; k++) t->total += q[k];
    return 0;
}
VERSIONS(int, means, (const uint8_t *raw, Py_ssize_t n, int kind, Mean *t), (raw, n, kind, t))

typedef struct { double dd, aa, bb, ab, total; float largest; int64_t changed; } Differences;

/* x against y, float32 that are all finite: the differences are those of float32, what is added up is added in float64 */
INLINE int differences_body(const u32 *x, const u32 *y, Py_ssize_t n, Differences *out)
{
    double dd[LANES] = {0}, aa[LANES] = {0}, bb[LANES] = {0}, ab[LANES] = {0}, total[LANES] = {0};
    uint32_t top = 0;
    int64_t changed = 0;
    for (Py_ssize_t at = 0; at < n; at += NEAR) {
        const Py_ssize_t m = n - at < NEAR ? n - at : NEAR;
        const f32 *u = (const f32 *)(x + at), *v = (const f32 *)(y + at);
        int32_t unlike = 0;
        Py_ssize_t i;
        for (Py_ssize_t j = 0; j < m; j++) {
            const uint32_t d = bits_of(u[j] - v[j]) & 0x7FFFFFFFu; /* magnitudes are in the order of their bits */
            unlike += x[at + j] != y[at + j];
            top = d > top ? d : top;
        }
#define ADD(sum, term)                                                            \
    for (i = 0; i + LANES <= m; i += LANES)                                       \
        for (int k = 0; k < LANES; k++) { const Py_ssize_t j = i + k; sum[k] += term; } \
    for (int k = 0; i < m; i++, k++) { const Py_ssize_t j = i; sum[k] += term; }
        ADD(dd, (double)(u[j] - v[j]) * (double)(u[j] - v[j]))
        ADD(total, (double)float_of(bits_of(u[j] - v[j]) & 0x7FFFFFFFu))
        ADD(aa, (double)u[j] * (double)u[j])
        ADD(bb, (double)v[j] * (double)v[j])
        ADD(ab, (double)u[j] * (double)v[j])
#undef ADD
        changed += unlike;
    }
    for (int k = 1; k < LANES; k++) { dd[0] += dd[k]; aa[0] += aa[k]; bb[0] += bb[k]; ab[0] += ab[k]; total[0] += total[k]; }
    *out = (Differences){dd[0], aa[0], bb[0], ab[0], total[0], float_of(top), changed};
    return 0;
}
VERSIONS(int, differences, (const u32 *x, const u32 *y, Py_ssize_t n, Differences *out), (x, y, n, out))

/* ---- blocks of ggml ----------------------------------------------------------------------------------------------------------- */
/* Source: ggml-common.h and ggml-quants.c of llama.cpp (dequantize_row_*); products in the order in which ggml makes them. */

INLINE float half_at(const uint8_t *p) { uint16_t h; memcpy(&h, p, 2); return float_of(float_of_half(h)); }

INLINE int q4_0_body(const uint8_t *raw, Py_ssize_t blocks, f32 *out)
{
    for (Py_ssize_t b = 0; b < blocks; b++, raw += 18, out += 32) {
        float d = half_at(raw);
        for (int i = 0; i < 16; i++) {
            out[i] = (float)((raw[2 + i] & 15) - 8) * d;
            out[16 + i] = (float)((raw[2 + i] >> 4) - 8) * d;
        }
    }
    return 0;
}
VERSIONS(int, q4_0, (const uint8_t *raw, Py_ssize_t blocks, f32 *out), (raw, blocks, out))

INLINE int q8_0_body(const uint8_t *raw, Py_ssize_t blocks, f32 *out)
{
    for (Py_ssize_t b = 0; b < blocks; b++, raw += 34, out += 32) {
        float d = half_at(raw);
        for (int i = 0; i < 32; i++) out[i] = (float)(int8_t)raw[2 + i] * d;
    }
    return 0;
}
VERSIONS(int, q8_0, (const uint8_t *raw, Py_ssize_t blocks, f32 *out), (raw, blocks, out))

INLINE int q45_k_body(const uint8_t *raw, Py_ssize_t blocks, float *out, int fifth)
{
    const Py_ssize_t size = fifth ? 176 : 144;
    for (Py_ssize_t b = 0; b < blocks; b++, raw += size, out += 256) {
        const float d = half_at(raw), least = half_at(raw + 2);
        const uint8_t *s = raw + 4, *high = raw + 16, *codes = raw + (fifth ? 48 : 16);
        for (int k = 0; k < 8; k++) {
            const uint8_t scale = k < 4 ? s[k] & 63 : (s[k + 4] & 15) | ((s[k - 4] >> 6) << 4);
            const uint8_t under = k < 4 ? s[k + 4] & 63 : (s[k + 4] >> 4) | ((s[k] >> 6) << 4);
            const float by = (float)scale * d, less = (float)under * least;
            const uint8_t *c = codes + 32 * (k / 2);
            const int shift = 4 * (k & 1);
            f32 *o = out + 32 * k;
            if (fifth)
                for (int i = 0; i < 32; i++) o[i] = (float)(((c[i] >> shift) & 15) | (((high[i] >> k) & 1) << 4)) * by - less;
            else
                for (int i = 0; i < 32; i++) o[i] = (float)((c[i] >> shift) & 15) * by - less;
        }
    }
    return 0;
}
INLINE int q4_k_body(const uint8_t *raw, Py_ssize_t blocks, f32 *out) { return q45_k_body(raw, blocks, out, 0); }
INLINE int q5_k_body(const uint8_t *raw, Py_ssize_t blocks, f32 *out) { return q45_k_body(raw, blocks, out, 1); }
VERSIONS(int, q4_k, (const uint8_t *raw, Py_ssize_t blocks, f32 *out), (raw, blocks, out))
VERSIONS(int, q5_k, (const uint8_t *raw, Py_ssize_t blocks, f32 *out), (raw, blocks, out))

INLINE int q6_k_body(const uint8_t *raw, Py_ssize_t blocks, f32 *out)
{
    for (Py_ssize_t b = 0; b < blocks; b++, raw += 210, out += 256) {
        const float d = half_at(raw + 208);
        const int8_t *s = (const int8_t *)raw + 192;
        for (int half = 0; half < 2; half++)
            for (int k = 0; k < 4; k++) {
                const uint8_t *low = raw + 64 * half + 32 * (k & 1), *high = raw + 128 + 32 * half;
                const int down = 4 * (k >> 1);
                for (int run = 0; run < 2; run++) {
                    const float by = (float)s[8 * half + 2 * k + run] * d;
                    f32 *o = out + 128 * half + 32 * k + 16 * run;
                    for (int i = 0; i < 16; i++) {
                        const int at = 16 * run + i;
                        o[i] = (float)((((low[at] >> down) & 15) | (((high[at] >> (2 * k)) & 3) << 4)) - 32) * by;
                    }
                }
            }
    }
    return 0;
}
VERSIONS(int, q6_k, (const uint8_t *raw, Py_ssize_t blocks, f32 *out), (raw, blocks, out))

/* ---- transposition -------------------------------------------------------------------------------------------------------------- */

#define PLOT 128 /* rows and columns whose pages are kept in mind meanwhile */
#define TILE 16 /* rows and columns that are turned at once: every line of either side is touched in one go, whatever the strides */

#ifdef __SSE2__
#include <emmintrin.h>
INLINE void turn_tile4(const u32 *x, Py_ssize_t s, uint32_t *t)
{
    for (int i = 0; i < TILE; i += 4)
        for (int j = 0; j < TILE; j += 4) {
            __m128 a = _mm_loadu_ps((const float *)(x + i * s + j)), b = _mm_loadu_ps((const float *)(x + (i + 1) * s + j));
            __m128 c = _mm_loadu_ps((const float *)(x + (i + 2) * s + j)), d = _mm_loadu_ps((const float *)(x + (i + 3) * s + j));
            _MM_TRANSPOSE4_PS(a, b, c, d);
            _mm_store_ps((float *)(t + j * TILE + i), a);
            _mm_store_ps((float *)(t + (j + 1) * TILE + i), b);
            _mm_store_ps((float *)(t + (j + 2) * TILE + i), c);
            _mm_store_ps((float *)(t + (j + 3) * TILE + i), d);
        }
}
#else
INLINE void turn_tile4(const u32 *x, Py_ssize_t s, uint32_t *t)
{
    for (int i = 0; i < TILE; i++)
        for (int j = 0; j < TILE; j++) t[j * TILE + i] = x[i * s + j];
}
#endif
INLINE void turn_tile2(const u16 *x, Py_ssize_t s, uint16_t *t)
{
    for (int i = 0; i < TILE; i++)
        for (int j = 0; j < TILE; j++) t[j * TILE + i] = x[i * s + j];
}
INLINE void turn_tile1(const uint8_t *x, Py_ssize_t s, uint8_t *t)
{
    for (int i = 0; i < TILE; i++)
        for (int j = 0; j < TILE; j++) t[j * TILE + i] = x[i * s + j];
}
typedef uint64_t u64 __attribute__((aligned(1), may_alias));
INLINE void turn_tile8(const u64 *x, Py_ssize_t s, uint64_t *t)
{
    for (int i = 0; i < TILE; i++)
        for (int j = 0; j < TILE; j++) t[j * TILE + i] = x[i * s + j];
}

/* y[j * d + i] = x[i * s + j] for i < rows, j < columns */
#define TURN(name, type, plain, tile)                                                                                      \
    static void name(const type *x, Py_ssize_t s, type *y, Py_ssize_t d, Py_ssize_t rows, Py_ssize_t columns)               \
    {                                                                                                                       \
        plain t[TILE * TILE] __attribute__((aligned(64)));                                                                  \
        for (Py_ssize_t top = 0; top < rows; top += PLOT)                                                                   \
            for (Py_ssize_t left = 0; left < columns; left += PLOT) {                                                       \
                const Py_ssize_t low = rows - top < PLOT ? rows : top + PLOT;                                               \
                const Py_ssize_t right = columns - left < PLOT ? columns : left + PLOT;                                     \
                for (Py_ssize_t i = top; i < low; i += TILE)                                                                \
                    for (Py_ssize_t j = left; j < right; j += TILE)                                                         \
                        if (low - i >= TILE && right - j >= TILE) {                                                         \
                            tile(x + i * s + j, s, t);                                                                      \
                            for (int k = 0; k < TILE; k++) memcpy(y + (j + k) * d + i, t + k * TILE, TILE * sizeof(plain)); \
                        } else {                                                                                            \
                            const Py_ssize_t m = low - i < TILE ? low : i + TILE, n = right - j < TILE ? right : j + TILE;  \
                            for (Py_ssize_t b = j; b < n; b++)                                                              \
                                for (Py_ssize_t a = i; a < m; a++) y[b * d + a] = x[a * s + b];                             \
                        }                                                                                                   \
            }                                                                                                               \
    }
TURN(turn1, uint8_t, uint8_t, turn_tile1)
TURN(turn2, u16, uint16_t, turn_tile2)
TURN(turn4, u32, uint32_t, turn_tile4)
TURN(turn8, u64, uint64_t, turn_tile8)

/* ---- what Python calls -------------------------------------------------------------------------------------------------------- */

#define TWO(args) Py_buffer x = {0}, y = {0}; if (!PyArg_ParseTuple(args, "y*w*", &x, &y)) return NULL
#define FREE_TWO PyBuffer_Release(&x), PyBuffer_Release(&y)
#define EXPECT(condition) if (!(condition)) { PyErr_SetString(PyExc_ValueError, "buffers of these lengths do not belong together"); goto out; }

#define SHORT (1 << 16) /* bytes whose loop is over before another thread would have the lock */
#define ALONE_IF(condition, ...) do { PyThreadState *given = (condition) ? PyEval_SaveThread() : NULL; __VA_ARGS__ \
    if (given != NULL) PyEval_RestoreThread(given); } while (0)

static PyObject *py_to_half(PyObject *self, PyObject *args)
{
    TWO(args); PyObject *r = NULL; int odd;
    EXPECT(x.len == 2 * y.len && x.len % 4 == 0)
    Py_BEGIN_ALLOW_THREADS odd = to_half(x.buf, y.buf, x.len / 4); Py_END_ALLOW_THREADS
    r = PyBool_FromLong(odd);
out: FREE_TWO; return r;
}

static PyObject *py_to_bfloat(PyObject *self, PyObject *args)
{
    TWO(args); PyObject *r = NULL; uint32_t top;
    EXPECT(x.len == 2 * y.len && x.len % 4 == 0)
    Py_BEGIN_ALLOW_THREADS top = to_bfloat(x.buf, y.buf, x.len / 4); Py_END_ALLOW_THREADS
    r = PyLong_FromUnsignedLong(top);
out: FREE_TWO; return r;
}

static PyObject *py_widen(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}, y = {0}; int brain; PyObject *r = NULL;
    if (!PyArg_ParseTuple(args, "y*w*p", &x, &y, &brain)) return NULL;
    EXPECT(2 * x.len == y.len && x.len % 2 == 0)
    Py_BEGIN_ALLOW_THREADS
    if (brain) widen_bfloat(x.buf, y.buf, x.len / 2); else widen_half(x.buf, y.buf, x.len / 2);
    Py_END_ALLOW_THREADS
    r = Py_NewRef(Py_None);
out: FREE_TWO; return r;
}

#define LOOK(from, to) { const from *s = x.buf; to *d = y.buf; const to *t = table.buf; for (Py_ssize_t i = 0; i < n; i++) d[i] = t[s[i]]; }

/* look_up(codes, out, table, bytes of a code): the table has an entry for each code there can be */
static PyObject *py_look_up(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}, y = {0}, table = {0}; int size; PyObject *r = NULL;
    if (!PyArg_ParseTuple(args, "y*w*y*i", &x, &y, &table, &size)) return NULL;
    EXPECT((size == 1 || size == 2) && x.len % size == 0)
    const Py_ssize_t n = x.len / size, entries = size == 1 ? 256 : 65536, each = table.len / entries;
    EXPECT(table.len == each * entries && y.len == n * each && (each == 1 || each == 2 || each == 4))
    Py_BEGIN_ALLOW_THREADS
    if (size == 1) { if (each == 1) LOOK(uint8_t, uint8_t) else if (each == 2) LOOK(uint8_t, u16) else LOOK(uint8_t, u32) }
    else { if (each == 1) LOOK(u16, uint8_t) else if (each == 2) LOOK(u16, u16) else LOOK(u16, u32) }
    Py_END_ALLOW_THREADS
    r = Py_NewRef(Py_None);
out: FREE_TWO; PyBuffer_Release(&table); return r;
}

/* to_eighth(float32, out, bits of the mantissa): float8_e4m3fn (3) or float8_e5m2 (2); whether some magnitude has no finite place there */
static PyObject *py_to_eighth(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}, y = {0}; PyObject *r = NULL; int m; uint32_t top;
    if (!PyArg_ParseTuple(args, "y*w*i", &x, &y, &m)) return NULL;
    EXPECT(x.len == 4 * y.len && (m == 3 || m == 2))
    Py_BEGIN_ALLOW_THREADS
    top = m == 3 ? eighth(x.buf, y.buf, y.len, 3, 7) : eighth(x.buf, y.buf, y.len, 2, 15);
    Py_END_ALLOW_THREADS
    r = PyBool_FromLong(m == 3 ? top > 0x43E80000u : top >= 0x47700000u); /* 464 rounds to 448, 61440 to infinity */
out: FREE_TWO; return r;
}

/* look_up_float(float32, out, table of bytes): by the upper half, its last bit set where the lower is not zero */
static PyObject *py_look_up_float(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}, y = {0}, table = {0}; PyObject *r = NULL;
    if (!PyArg_ParseTuple(args, "y*w*y*", &x, &y, &table)) return NULL;
    EXPECT(x.len == 4 * y.len && table.len == 65536)
    const u32 *s = x.buf; uint8_t *d = y.buf; const uint8_t *t = table.buf;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < y.len; i++) d[i] = t[(s[i] >> 16) | ((s[i] & 0xFFFFu) != 0)];
    Py_END_ALLOW_THREADS
    r = Py_NewRef(Py_None);
out: FREE_TWO; PyBuffer_Release(&table); return r;
}

/* look_up_blocks(codes, out, tables, columns, width): rows of `columns` bytes, of which each run of `width` has a table of 256 numbers of
 * 16 bits; all rows have the same tables */
static PyObject *py_look_up_blocks(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}, y = {0}, table = {0}; Py_ssize_t columns, width; PyObject *r = NULL;
    if (!PyArg_ParseTuple(args, "y*w*y*nn", &x, &y, &table, &columns, &width)) return NULL;
    EXPECT(columns > 0 && width > 0 && x.len % columns == 0 && y.len == 2 * x.len && table.len == 512 * ((columns + width - 1) / width))
    const uint8_t *s = x.buf; u16 *d = y.buf; const u16 *all = table.buf; const Py_ssize_t rows = x.len / columns;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t first = 0, k = 0; first < columns; first += width, k++) {
        const Py_ssize_t end = first + width < columns ? first + width : columns;
        const u16 *t = all + 256 * k;
        for (Py_ssize_t row = 0; row < rows; row++) {
            const uint8_t *a = s + row * columns; u16 *b = d + row * columns;
            for (Py_ssize_t i = first; i < end; i++) b[i] = t[a[i]];
        }
    }
    Py_END_ALLOW_THREADS
    r = Py_NewRef(Py_None);
out: FREE_TWO; PyBuffer_Release(&table); return r;
}

/* figures(float32, counts): of finite elements (low, high, total, squares); None where there is another or none. The classes are counted
 * into `counts`: four times 16,384 numbers of 32 bits. */
static PyObject *py_figures(PyObject *self, PyObject *args)
{
    TWO(args); PyObject *r = NULL; float low, high; double total, squares; uint32_t top;
    EXPECT(x.len % 4 == 0 && x.len < (Py_ssize_t)1 << 33 && y.len == 16 << (32 - FIRST))
    const Py_ssize_t n = x.len / 4;
    Py_BEGIN_ALLOW_THREADS
    top = magnitude(x.buf, n);
    if (n && top < 0x7F800000u) { sums(x.buf, n, &low, &high, &total, &squares); classes32(x.buf, n, y.buf); }
    Py_END_ALLOW_THREADS
    r = n && top < 0x7F800000u ? Py_BuildValue("dddd", (double)low, (double)high, total, squares) : Py_NewRef(Py_None);
out: FREE_TWO; return r;
}

static PyObject *py_spread(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}; double mean, m2;
    if (!PyArg_ParseTuple(args, "y*d", &x, &mean)) return NULL;
    Py_BEGIN_ALLOW_THREADS m2 = spread(x.buf, x.len / 4, mean); Py_END_ALLOW_THREADS
    PyBuffer_Release(&x);
    return PyFloat_FromDouble(m2);
}

/* count(codes, counts, bytes of a code): how often each occurs, added to numbers of 64 bits */
static PyObject *py_count(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}, y = {0}; int size; PyObject *r = NULL;
    if (!PyArg_ParseTuple(args, "y*w*i", &x, &y, &size)) return NULL;
    EXPECT((size == 1 || size == 2) && x.len % size == 0 && y.len == 8 << (8 * size))
    i64 *seen = y.buf;
    Py_BEGIN_ALLOW_THREADS
    if (size == 2) { const u16 *s = x.buf; for (Py_ssize_t i = 0; i < x.len / 2; i++) seen[s[i]]++; }
    else {
        int64_t other[4][256]; const uint8_t *s = x.buf; Py_ssize_t i = 0;
        memset(other, 0, sizeof other);
        for (; i + 4 <= x.len; i += 4) { other[0][s[i]]++; other[1][s[i + 1]]++; other[2][s[i + 2]]++; other[3][s[i + 3]]++; }
        for (; i < x.len; i++) other[0][s[i]]++;
        for (int k = 0; k < 256; k++) seen[k] += other[0][k] + other[1][k] + other[2][k] + other[3][k];
    }
    Py_END_ALLOW_THREADS
    r = Py_NewRef(Py_None);
out: FREE_TWO; return r;
}

/* tally(codes, bytes of a code): (largest positive, largest unsigned, bits set anywhere, all equal to the first, sum of squares) */
static PyObject *py_tally(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}; int size; PyObject *r = NULL; Tally t = {0};
    if (!PyArg_ParseTuple(args, "y*i", &x, &size)) return NULL;
    EXPECT((size == 2 || size == 4) && x.len && x.len % size == 0)
    ALONE_IF(x.len > SHORT, if (size == 4) tally32(x.buf, x.len / 4, &t); else tally16(x.buf, x.len / 2, &t););
    r = Py_BuildValue("KKKNd", (unsigned long long)t.high, (unsigned long long)t.low, (unsigned long long)t.bits, PyBool_FromLong(t.constant), t.squares);
out: PyBuffer_Release(&x); return r;
}

/* mean(codes, kind): how many are finite, their sum, how many of them are below zero; of float32 (0), bfloat16 (1), float16 (2) */
static PyObject *py_mean(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}; int kind; PyObject *r = NULL; Mean t;
    if (!PyArg_ParseTuple(args, "y*i", &x, &kind)) return NULL;
    EXPECT(kind >= FLOATS && kind <= HALVES && x.len % (kind == FLOATS ? 4 : 2) == 0)
    ALONE_IF(x.len > SHORT, means(x.buf, x.len / (kind == FLOATS ? 4 : 2), kind, &t););
    r = Py_BuildValue("LdL", (long long)t.finite, t.total, (long long)t.negative);
out: PyBuffer_Release(&x); return r;
}

/* equal(a, b): whether two runs of bytes are the same */
static PyObject *py_equal(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}, y = {0}; int differ;
    if (!PyArg_ParseTuple(args, "y*y*", &x, &y)) return NULL;
    ALONE_IF(x.len > SHORT, differ = x.len != y.len || memcmp(x.buf, y.buf, x.len););
    FREE_TWO;
    return PyBool_FromLong(!differ);
}

/* differences(x, y), float32: (elements whose bits differ, sums of d*d, x*x, y*y, x*y and |d|, the largest |d|), d = x - y; None where
 * some element is not finite or d overflows */
static PyObject *py_differences(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}, y = {0}; PyObject *r = NULL; Differences d = {0}; int fine;
    if (!PyArg_ParseTuple(args, "y*y*", &x, &y)) return NULL;
    EXPECT(x.len == y.len && x.len % 4 == 0)
    Py_BEGIN_ALLOW_THREADS
    fine = magnitude(x.buf, x.len / 4) < 0x7F800000u && magnitude(y.buf, x.len / 4) < 0x7F800000u;
    if (fine) { differences(x.buf, y.buf, x.len / 4, &d); fine = d.largest <= 3.4028234663852886e38f; }
    Py_END_ALLOW_THREADS
    r = fine ? Py_BuildValue("Ldddddd", (long long)d.changed, d.dd, d.aa, d.bb, d.ab, d.total, (double)d.largest) : Py_NewRef(Py_None);
out: FREE_TWO; return r;
}

/* turn(source, target, bytes of an element, rows, columns, source's offset and step, target's offset and step, all in elements):
 * target[to + j * down + i] = source[at + i * step + j] for i < rows, j < columns */
static PyObject *py_turn(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}, y = {0}; PyObject *r = NULL; int size; Py_ssize_t rows, columns, at, step, to, down;
    if (!PyArg_ParseTuple(args, "y*w*inn(nn)(nn)", &x, &y, &size, &rows, &columns, &at, &step, &to, &down)) return NULL;
    const Py_ssize_t most = (Py_ssize_t)1 << 40;
    EXPECT((size == 1 || size == 2 || size == 4 || size == 8) && rows > 0 && columns > 0 && at >= 0 && step >= 0 && to >= 0 && down >= 0)
    EXPECT(rows < most && columns < most && at < most && to < most && (rows < 2 || step < most / rows) && (columns < 2 || down < most / columns))
    EXPECT(at + (rows - 1) * step + columns <= x.len / size && to + (columns - 1) * down + rows <= y.len / size)
    Py_BEGIN_ALLOW_THREADS
    if (size == 1) turn1((const uint8_t *)x.buf + at, step, (uint8_t *)y.buf + to, down, rows, columns);
    else if (size == 2) turn2((const u16 *)x.buf + at, step, (u16 *)y.buf + to, down, rows, columns);
    else if (size == 4) turn4((const u32 *)x.buf + at, step, (u32 *)y.buf + to, down, rows, columns);
    else turn8((const u64 *)x.buf + at, step, (u64 *)y.buf + to, down, rows, columns);
    Py_END_ALLOW_THREADS
    r = Py_NewRef(Py_None);
out: FREE_TWO; return r;
}

/* runs(source, target, bytes of a run, runs, source's offset and step, target's offset and step, all in bytes): each run by itself */
static PyObject *py_runs(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}, y = {0}; PyObject *r = NULL; Py_ssize_t run, n, at, step, to, by;
    if (!PyArg_ParseTuple(args, "y*w*nn(nn)(nn)", &x, &y, &run, &n, &at, &step, &to, &by)) return NULL;
    const Py_ssize_t most = (Py_ssize_t)1 << 40;
    EXPECT(run > 0 && n > 0 && at >= 0 && step >= 0 && to >= 0 && by >= 0 && run < most && n < most && at < most && to < most)
    EXPECT(n < 2 || (step < most / n && by < most / n))
    EXPECT(at + (n - 1) * step + run <= x.len && to + (n - 1) * by + run <= y.len)
    const uint8_t *from = (const uint8_t *)x.buf + at;
    uint8_t *into = (uint8_t *)y.buf + to;
    ALONE_IF(run * n > SHORT, for (Py_ssize_t i = 0; i < n; i++) memcpy(into + i * by, from + i * step, (size_t)run););
    r = Py_NewRef(Py_None);
out: FREE_TWO; return r;
}

/* ---- products of two matrices ------------------------------------------------------------------------------------------------- */

#define STRIP 512 /* columns that stay in the first-level cache while the rank is gone through */

/* each element: the products in order, each added with one rounding, as a fused multiply-add does it (float64 holds a product of two
 * float32 exactly) */
INLINE int products_body(const f32 *left, const f32 *right, f32 *out, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t rank)
{
    for (Py_ssize_t at = 0; at < columns; at += STRIP) {
        const Py_ssize_t n = columns - at < STRIP ? columns - at : STRIP;
        for (Py_ssize_t i = 0; i < rows; i++) {
            float sum[STRIP] = {0};
            for (Py_ssize_t k = 0; k < rank; k++) {
                const double by = left[i * rank + k];
                const f32 *x = right + k * columns + at;
                for (Py_ssize_t j = 0; j < n; j++) sum[j] = (float)((double)sum[j] + by * (double)x[j]);
            }
            memcpy(out + i * columns + at, sum, (size_t)n * 4);
        }
    }
    return 0;
}
VERSIONS(int, products, (const f32 *left, const f32 *right, f32 *out, Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t rank),
         (left, right, out, rows, columns, rank))

/* products(left, right, out, rank): the product of two row-major matrices of float32, (rows, rank) and (rank, columns) */
static PyObject *py_products(PyObject *self, PyObject *args)
{
    Py_buffer x = {0}, y = {0}, z = {0}; PyObject *r = NULL; Py_ssize_t rank;
    if (!PyArg_ParseTuple(args, "y*y*w*n", &x, &y, &z, &rank)) return NULL;
    const Py_ssize_t most = (Py_ssize_t)1 << 40;
    const Py_ssize_t rows = rank > 0 ? x.len / 4 / rank : 0, columns = rank > 0 ? y.len / 4 / rank : 0;
    EXPECT(rank > 0 && rank < most && rows < most && columns < most && rows * rank * 4 == x.len && columns * rank * 4 == y.len)
    EXPECT(rows * columns * 4 == z.len)
    Py_BEGIN_ALLOW_THREADS products(x.buf, y.buf, z.buf, rows, columns, rank); Py_END_ALLOW_THREADS
    r = Py_NewRef(Py_None);
out:
    PyBuffer_Release(&x); PyBuffer_Release(&y); PyBuffer_Release(&z);
    return r;
}

/* ---- errors in steps ---------------------------------------------------------------------------------------------------------- */

#define INFINITE float_of(0x7F800000u)
#define FARTHEST 1e9f /* stands for an error under a scale of zero, or of what is no number */
#define GRID 1024 /* values of a grid at most */

typedef struct {
    const f32 *values; /* in order */
    int n, even; /* whether they are one apart */
    uint16_t from[4096]; /* by the sign, the exponent and three bits of a number: the first value that can be the next one */
} Grid;

INLINE int first_from(const f32 *values, int n, float x)
{
    int low = 0, high = n;
    while (low < high) {
        const int half = (low + high) / 2;
        if (values[half] < x) low = half + 1; else high = half;
    }
    return low;
}

static void make_grid(Grid *g, const f32 *values, int n)
{
    g->values = values; g->n = n; g->even = 1;
    for (int i = 1; i < n; i++) g->even &= values[i] - values[i - 1] == 1.0f;
    for (uint32_t k = 0; k < 4096; k++) {
        const float least = float_of(k << 20 | (k & 0x800u ? 0xFFFFFu : 0));
        g->from[k] = (uint16_t)(least == least ? first_from(values, n, least) : 0);
    }
}

/* the first value that is no less than `x`; `n` where none is, or x is no number */
INLINE int next_on(const Grid *g, float x)
{
    int i;
    if (!(x == x)) return g->n;
    if (g->even) { /* the difference is right to less than one */
        const float guess = x - g->values[0], most = (float)(g->n - 1);
        i = (int)(guess < 0 ? 0 : guess > most ? most : guess);
        i -= i > 0 && g->values[i - 1 + !i] >= x;
        i += g->values[i] < x;
        return i + (i < g->n && g->values[i - (i == g->n)] < x);
    }
    i = g->from[bits_of(x) >> 20];
    while (i < g->n && g->values[i] < x) i++;
    return i;
}

INLINE float size_of(float x) { return float_of(bits_of(x) & 0x7FFFFFFFu); }
INLINE int is_finite(float x) { return (bits_of(x) & 0x7F800000u) != 0x7F800000u; }

#define AT_ONCE 256 /* elements whose units and losses lie side by side, so that the loop over them is one of vectors */

/* the same as `steps_body` where a step is one unit, of a grid of whole numbers or none: what no table is asked for */
INLINE void even_steps(const f32 *original, const f32 *packed, const float *unit, const float *lost, const Grid *g, float usual, float farther,
                       float allowed, float span, f32 *far, f32 *limit, Py_ssize_t n)
{
    const float first = g ? g->values[0] : 0, second = g ? g->values[1] : 0;
    const float last = g ? g->values[g->n - 1] : 0, before = g ? g->values[g->n - 2] : 0;
    const int grid = g != NULL;
    for (Py_ssize_t k = 0; k < n; k++) {
        const float o = original[k], p = packed[k], u = unit[k];
        const float at = p / u, off = (o - p) / u, a = size_of(at), b = size_of(o / u);
        const int top = (!(at <= before)) & !(size_of(before - at) < size_of(last - at)) & (off > 0);
        const int low = (at <= second) & (size_of(first - at) < size_of(second - at)) & (off < 0);
        const float larger = a != a ? a : b != b ? b : a > b ? a : b;
        const float may = (grid & (top | low) ? farther : usual) + (larger + span) * lost[k];
        const float size = o == p ? 0 : size_of(off);
        far[k] = size < FARTHEST ? size : FARTHEST; /* no number is not less */
        limit[k] = size_of(may) < INFINITE ? may : allowed;
    }
}

/* of each element: the steps between what was meant and what is there, and what rounding may be off; see packing/_steps.py */
INLINE int steps_body(const f32 *original, const f32 *packed, const f32 *unit, const f32 *lost, Py_ssize_t each, Py_ssize_t every, const Grid *g, float allowed,
                      float span, f32 *far, f32 *limit, Py_ssize_t n)
{
    const float usual = (float)((double)allowed * 1.002), farther = allowed > 1 ? allowed : 1;
    if (!g || (g->even && g->n > 2)) {
        float units[AT_ONCE], losses[AT_ONCE];
        for (Py_ssize_t k = 0, x = 0, y = 0, in_unit = 0, in_loss = 0; k < n; k += AT_ONCE) {
            const Py_ssize_t m = n - k < AT_ONCE ? n - k : AT_ONCE;
            for (Py_ssize_t j = 0; j < m; j++) {
                units[j] = unit[x]; losses[j] = lost[y];
                if (++in_unit == each) { in_unit = 0; x++; }
                if (++in_loss == every) { in_loss = 0; y++; }
            }
            even_steps(original + k, packed + k, units, losses, g, usual, farther, allowed, span, far + k, limit + k, m);
        }
        return 0;
    }
    Py_ssize_t a_unit = 0, a_loss = 0, of_unit = 0, of_loss = 0; /* counted, since a division takes longer than all the rest */
    for (Py_ssize_t k = 0; k < n; k++, of_unit++, of_loss++) {
        if (of_unit == each) { of_unit = 0; a_unit++; }
        if (of_loss == every) { of_loss = 0; a_loss++; }
        const float o = original[k], p = packed[k], u = unit[a_unit];
        const float at = p / u, meant = o / u;
        float off = (o - p) / u, gap = 1, may = usual;
        if (g) {
            int i = next_on(g, at);
            i = i < 1 ? 1 : i > g->n - 1 ? g->n - 1 : i;
            i -= size_of(g->values[i - 1] - at) < size_of(g->values[i] - at); /* no branch: either is as likely */
            const int up = off > 0, down = off < 0;
            if (!g->even) {
                int j = i - !up;
                j = j < 0 ? 0 : j > g->n - 2 ? g->n - 2 : j;
                gap = g->values[j + 1] - g->values[j];
                off /= gap;
            }
            if (((i == g->n - 1) & up) | ((i == 0) & down)) may = farther;
        }
        const float a = size_of(at), b = size_of(meant);
        const float larger = a != a ? a : b != b ? b : a > b ? a : b;
        may += ((g && !g->even ? larger / gap : larger) + span) * lost[a_loss];
        const float size = o == p ? 0 : size_of(off);
        far[k] = is_finite(size) && size < FARTHEST ? size : FARTHEST;
        limit[k] = is_finite(may) ? may : allowed;
    }
    return 0;
}
VERSIONS(int, steps, (const f32 *original, const f32 *packed, const f32 *unit, const f32 *lost, Py_ssize_t each, Py_ssize_t every, const Grid *g, float allowed,
                      float span, f32 *far, f32 *limit, Py_ssize_t n),
         (original, packed, unit, lost, each, every, g, allowed, span, far, limit, n))

/* steps(original, packed, unit, lost, grid, allowed, span, far, limit), all float32: `unit` and `lost` have a number for each so many
 * elements; without a grid (no bytes) a step is one unit */
static PyObject *py_steps(PyObject *self, PyObject *args)
{
    Py_buffer o = {0}, p = {0}, u = {0}, lost = {0}, grid = {0}, far = {0}, limit = {0}; PyObject *r = NULL; float allowed, span; Grid g;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*ffw*w*", &o, &p, &u, &lost, &grid, &allowed, &span, &far, &limit)) return NULL;
    EXPECT(o.len % 4 == 0 && p.len == o.len && far.len == o.len && limit.len == o.len && u.len % 4 == 0 && lost.len % 4 == 0)
    EXPECT(u.len && o.len % u.len == 0 && lost.len && o.len % lost.len == 0 && grid.len % 4 == 0 && grid.len != 4 && grid.len <= 4 * GRID)
    Py_BEGIN_ALLOW_THREADS
    if (grid.len) make_grid(&g, grid.buf, (int)(grid.len / 4));
    steps(o.buf, p.buf, u.buf, lost.buf, o.len / u.len, o.len / lost.len, grid.len ? &g : NULL, allowed, span, far.buf, limit.buf, o.len / 4);
    Py_END_ALLOW_THREADS
    r = Py_NewRef(Py_None);
out:
    PyBuffer_Release(&o); PyBuffer_Release(&p); PyBuffer_Release(&u); PyBuffer_Release(&lost); PyBuffer_Release(&grid);
    PyBuffer_Release(&far); PyBuffer_Release(&limit);
    return r;
}

typedef int (*Blocks)(const uint8_t *, Py_ssize_t, f32 *);
static const struct { const char *name; Py_ssize_t bytes, elements; Blocks run; } KINDS[] = {
    {"Q4_0", 18, 32, q4_0}, {"Q8_0", 34, 32, q8_0}, {"Q4_K", 144, 256, q4_k}, {"Q5_K", 176, 256, q5_k}, {"Q6_K", 210, 256, q6_k},
};

/* blocks(name, raw, out): whole blocks of ggml as float32; whether the type is one of those known here */
static PyObject *py_blocks(PyObject *self, PyObject *args)
{
    const char *name; Py_buffer x = {0}, y = {0}; PyObject *r = NULL;
    if (!PyArg_ParseTuple(args, "sy*w*", &name, &x, &y)) return NULL;
    for (size_t k = 0; k < sizeof KINDS / sizeof *KINDS; k++)
        if (!strcmp(name, KINDS[k].name)) {
            const Py_ssize_t n = x.len / KINDS[k].bytes;
            EXPECT(x.len == n * KINDS[k].bytes && y.len == 4 * n * KINDS[k].elements)
            Py_BEGIN_ALLOW_THREADS KINDS[k].run(x.buf, n, y.buf); Py_END_ALLOW_THREADS
            r = Py_NewRef(Py_True);
            goto out;
        }
    r = Py_NewRef(Py_False);
out: FREE_TWO; return r;
}

/* choose(wide): which version of the loops runs, where the processor has a choice; which one did */
static PyObject *py_choose(PyObject *self, PyObject *args)
{
    int want, before = wide;
    if (!PyArg_ParseTuple(args, "p", &want)) return NULL;
#ifdef HAVE_WIDE
    wide = want && has_wide();
#endif
    return PyBool_FromLong(before);
}

static PyMethodDef METHODS[] = {
    {"to_half", py_to_half, METH_VARARGS, NULL}, {"to_bfloat", py_to_bfloat, METH_VARARGS, NULL}, {"widen", py_widen, METH_VARARGS, NULL},
    {"to_eighth", py_to_eighth, METH_VARARGS, NULL}, {"look_up", py_look_up, METH_VARARGS, NULL}, {"look_up_float", py_look_up_float, METH_VARARGS, NULL},
    {"look_up_blocks", py_look_up_blocks, METH_VARARGS, NULL}, {"figures", py_figures, METH_VARARGS, NULL},
    {"spread", py_spread, METH_VARARGS, NULL}, {"count", py_count, METH_VARARGS, NULL}, {"tally", py_tally, METH_VARARGS, NULL},
    {"mean", py_mean, METH_VARARGS, NULL},
    {"blocks", py_blocks, METH_VARARGS, NULL}, {"equal", py_equal, METH_VARARGS, NULL},
    {"differences", py_differences, METH_VARARGS, NULL}, {"turn", py_turn, METH_VARARGS, NULL},
    {"runs", py_runs, METH_VARARGS, NULL}, {"products", py_products, METH_VARARGS, NULL},
    {"steps", py_steps, METH_VARARGS, NULL}, {"choose", py_choose, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL},
};

#define FORM 3 /* counted up where a function is new, takes other arguments or gives other things, here and in kernels.py */

static PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_kernels", "Inner loops over the elements of tensors.", -1, METHODS};

PyMODINIT_FUNC PyInit__kernels(void)
{
#ifdef HAVE_WIDE
    wide = has_wide();
#endif
    const uint16_t one = 1;
    if (*(const uint8_t *)&one != 1) { PyErr_SetString(PyExc_ImportError, "the loops are for little-endian machines"); return NULL; }
    PyObject *made = PyModule_Create(&MODULE);
    if (made != NULL && PyModule_AddIntConstant(made, "FORM", FORM) < 0) Py_CLEAR(made);
    return made;
}
