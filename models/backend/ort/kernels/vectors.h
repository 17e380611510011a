// Vectors of floats, as the compiler has them for every processor, and the product that convolutions and linear layers are made of.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

constexpr int64_t kPanel = 8;     // outputs whose weights lie together
constexpr int64_t kOutputs = 32;  // that are computed together, at most: four panels

#define INLINE static inline __attribute__((always_inline))

typedef float float4 __attribute__((vector_size(16)));
typedef float float8 __attribute__((vector_size(32)));
typedef float float16 __attribute__((vector_size(64)));

// Eight rows of eight become columns.
INLINE void transpose(float8 m[8]) {
  float8 a[8], b[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 2) {
    a[i] = __builtin_shufflevector(m[i], m[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    a[i + 1] = __builtin_shufflevector(m[i], m[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; j++) {
      b[i + 2 * j] = __builtin_shufflevector(a[i + j], a[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
      b[i + 2 * j + 1] = __builtin_shufflevector(a[i + j], a[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
    }
#pragma GCC unroll 8
  for (int i = 0; i < 4; i++) {
    m[i] = __builtin_shufflevector(b[i], b[4 + i], 0, 1, 2, 3, 8, 9, 10, 11);
    m[4 + i] = __builtin_shufflevector(b[i], b[4 + i], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

// A set of kernels is what its functions are compiled to for the vectors V. A block of their product is C outputs of N vectors of places, which
// the registers hold.
template <typename Vector, int Outputs, int Vectors>
struct Set {
  using V = Vector;
  static constexpr int C = Outputs, N = Vectors;
  static constexpr int64_t width = sizeof(V) / sizeof(float);
  static constexpr int64_t lanes = N * width;     // places that are computed together, a multiple of 8
  static constexpr int64_t depth = 6144 / lanes;  // inputs of so many places fill three quarters of the processor's nearest cache
};

// product [C, lanes of N V] is, or gains, weights [C, in], row and step apart, times points [in, lanes].
template <class S, int C, int N>
INLINE void multiply_block(int64_t in, const float* weights, int64_t row, int64_t step, const float* points, bool first, float* product) {
  using V = typename S::V;
  V sum[N][C] = {};
  if (!first)
#pragma GCC unroll 8
    for (int c = 0; c < C; c++)
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) std::memcpy(&sum[n][c], product + c * S::lanes + n * S::width, sizeof(V));
  for (int64_t i = 0; i < in; i++) {
    V point[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) std::memcpy(&point[n], points + i * S::lanes + n * S::width, sizeof(V));
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) {
      const float weight = weights[c * row + i * step];
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) sum[n][c] += weight * point[n];
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < C; c++)
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) std::memcpy(product + c * S::lanes + n * S::width, &sum[n][c], sizeof(V));
}

// product [outputs, lanes] is, or gains, weights times points [in, lanes], of which count lanes matter; outputs is a multiple of Together. The weights
// of an output are step apart, of a panel's outputs row apart, and panels are panel apart. Every value is the same sum whatever else is computed.
template <class S, int Together = kPanel, int N = S::N>
INLINE void multiply(int64_t in, int64_t outputs, const float* weights, int64_t panel, int64_t row, int64_t step, const float* points, int64_t count,
                     bool first, float* product) {
  if constexpr (N > 1)
    if (count <= (N - 1) * S::width) return multiply<S, Together, N - 1>(in, outputs, weights, panel, row, step, points, count, first, product);
  constexpr int C = N == 1 ? Together : std::min(S::C, Together);  // few sums at once would wait for each other
  for (int64_t i = 0; i < in; i += S::depth) {
    const int64_t inputs = std::min(S::depth, in - i);
    for (int64_t o = 0; o < outputs; o += C) {
      const float* from = weights + o / kPanel * panel + o % kPanel * row + i * step;
      if (step == 1)  // the next rows, of which each is read too shortly for the processor to see it coming
        for (int64_t c = C; c < 2 * C; c++)
          for (int64_t k = 0; k < inputs; k += 16) __builtin_prefetch(from + c * row + k);
      multiply_block<S, C, N>(inputs, from, row, step, points + i * S::lanes, first && i == 0, product + o * S::lanes);
    }
  }
}

using Plain = Set<float4, 4, 4>;
using AVX2 = Set<float8, 4, 3>;
using AVX512 = Set<float16, 8, 2>;

// The lanes that groups of n places take, so that they are about the same and the last one wastes few.
static inline int64_t balanced(int64_t n, int64_t lanes) {
  const int64_t groups = std::max<int64_t>((n + lanes - 1) / lanes, 1), each = std::max<int64_t>((n + groups - 1) / groups, 1);
  return std::min(lanes, (each + 7) / 8 * 8);
}

// FOR_EACH_SET takes a macro of a set's name and type and of the functions' attributes.
#ifdef __x86_64__
#define FOR_EACH_SET(make)                               \
  make(plain, Plain)                                     \
  make(avx2, AVX2, __attribute__((target("avx2,fma"))))  \
  make(avx512, AVX512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))))
static inline bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static inline bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
// The set for the widest vectors that the processor has.
#define WIDEST(in) (has_avx512() ? in::avx512 : has_avx2() ? in::avx2 : in::plain)
#else
#define FOR_EACH_SET(make) make(plain, Plain)
#define WIDEST(in) in::plain
#endif
