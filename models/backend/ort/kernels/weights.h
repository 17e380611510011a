// Weights of linear layers and convolutions as they lie in their file: float32, float16 or bfloat16, which are made float32 as they are used.
#pragma once

#include <cstdint>
#include <cstring>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "pool.h"

enum class Stored { float32, float16, bfloat16 };

// half is a float16 as float32.
static inline float from_half(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, rest = (half & 0x7fffu) << 13;
  float value;
  std::memcpy(&value, &rest, sizeof(value));
  value *= 0x1p112f;  // the exponent's bias is 127, not 15
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits |= sign | (rest >= 0x0f800000u ? 0x7f800000u : 0);  // infinite, or no number
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

static inline void halves_one_by_one(const uint16_t* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i++) y[i] = from_half(x[i]);
}

#ifdef __x86_64__
__attribute__((target("avx,f16c"))) static inline void halves_by_eight(const uint16_t* x, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
  halves_one_by_one(x + i, n - i, y + i);
}
static inline void from_halves(const uint16_t* x, int64_t n, float* y) {
  static const bool has = __builtin_cpu_supports("avx") && __builtin_cpu_supports("f16c");
  has ? halves_by_eight(x, n, y) : halves_one_by_one(x, n, y);
}
#else
static inline void from_halves(const uint16_t* x, int64_t n, float* y) { halves_one_by_one(x, n, y); }
#endif

static inline void from_bfloats(const uint16_t* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i++) {
    const uint32_t bits = static_cast<uint32_t>(x[i]) << 16;
    std::memcpy(y + i, &bits, sizeof(bits));
  }
}

struct Weights {
  const void* data;
  Stored type = Stored::float32;

  const float* floats() const { return static_cast<const float*>(data); }  // of float32
  // n from the one at first on become y, for those that are not float32.
  void widen(int64_t first, int64_t n, float* y) const {
    const auto* x = static_cast<const uint16_t*>(data) + first;
    type == Stored::float16 ? from_halves(x, n, y) : from_bfloats(x, n, y);
  }
};

inline Pool widened_pool;

// Widened is a part of weights as float32, in memory of its own where they are not so; data is null where that is short.
class Widened {
 public:
  Widened(const Weights& weights, int64_t first, int64_t n) : space_(widened_pool, weights.type == Stored::float32 ? 0 : n) {
    if (weights.type == Stored::float32) {
      data = weights.floats() + first;
      return;
    }
    if (space_.data()) weights.widen(first, n, space_.data());
    data = space_.data();
  }
  const float* data;

 private:
  Buffer space_;
};
