// Scaled dot-product attention of a head, by blocks of keys with a softmax that is kept up as they come (Dao et al., 2022,
// https://arxiv.org/abs/2205.14135, algorithm 1). The lanes are queries.
#pragma once

#include "activation.h"
#include "linear.h"

namespace attention {

constexpr int64_t kKeys = 96;  // that are computed together

// Head is one of a batch: query and y [queries, size], key and value [keys, size], their rows width apart, size a multiple of 8.
struct Head {
  const float *query, *key, *value;
  float* y;
  int64_t queries, keys, size, width;
};

static constexpr int64_t state_floats(int64_t size, int64_t lanes) { return 2 * (size + 1) * lanes; }

// State is what is known of a group of queries; points and result [size, lanes], largest score and sum of exponentials of each.
template <class S>
struct State {
  float *points, *result, *largest, *sum;
  State(float* at, int64_t size)
      : points(at), result(at + size * S::lanes), largest(result + size * S::lanes), sum(largest + S::lanes) {}
};

// From the queries at first on, scaled.
template <class S>
INLINE void begin(const Head& h, int64_t first, int64_t count, const State<S>& s) {
  linear::pack_rows<S>(h.query + first * h.width, h.width, count, 0, h.size, s.points);
  const float scale = 1 / std::sqrt(static_cast<float>(h.size));
  for (int64_t i = 0; i < h.size * S::lanes; i++) s.points[i] *= scale, s.result[i] = 0;
  for (int64_t t = 0; t < S::lanes; t++) s.largest[t] = -INFINITY, s.sum[t] = 0;
}

// scores [keys, lanes] become exponentials of what they are below the largest, and what is known by then is scaled to it.
template <class S>
INLINE void soften(int64_t keys, int64_t size, float* scores, const State<S>& s) {
  constexpr int64_t lanes = S::lanes;
  float largest[lanes], factor[lanes], sum[lanes];
  typename S::V most[S::N], score;
  std::memcpy(most, s.largest, sizeof(most));
  for (int64_t k = 0; k < keys; k++)
#pragma GCC unroll 4
    for (int64_t n = 0; n < S::N; n++) {
      std::memcpy(&score, scores + k * lanes + n * S::width, sizeof(score));
      most[n] = score > most[n] ? score : most[n];
    }
  std::memcpy(largest, most, sizeof(largest));
  for (int64_t t = 0; t < lanes; t++) factor[t] = exponential(s.largest[t] - largest[t]), sum[t] = s.sum[t] * factor[t];
  for (int64_t k = 0; k < keys; k++)
    for (int64_t t = 0; t < lanes; t++) {
      const float e = exponential(scores[k * lanes + t] - largest[t]);
      scores[k * lanes + t] = e, sum[t] += e;
    }
  for (int64_t d = 0; d < size; d++)
    for (int64_t t = 0; t < lanes; t++) s.result[d * lanes + t] *= factor[t];
  std::memcpy(s.largest, largest, sizeof(largest));
  std::memcpy(s.sum, sum, sizeof(sum));
}

template <class S>
INLINE void end(const Head& h, int64_t first, int64_t count, const State<S>& s) {
  for (int64_t d = 0; d < h.size; d++)
    for (int64_t t = 0; t < S::lanes; t++) s.result[d * S::lanes + t] /= s.sum[t];
  for (int64_t d = 0; d < h.size; d += kPanel) linear::store_rows<S>(s.result + d * S::lanes, count, h.width, h.y + first * h.width + d);
}

// rows of x, width apart, become to [., size], filled up with zeros to a multiple of 8.
static inline void copy_rows(const float* x, int64_t rows, int64_t size, int64_t width, float* to) {
  for (int64_t r = 0; r < rows; r++) std::memcpy(to + r * size, x + r * width, size * sizeof(float));
  std::memset(to + rows * size, 0, (-rows & 7) * size * sizeof(float));
}

// The queries [first, last) in groups of so many lanes; space is for floats. (No lambdas: they would be compiled for any processor.)
template <class S>
INLINE void attend(const Head& h, int64_t first, int64_t last, int64_t lanes, float* space) {
  float *keys = space, *values = keys + kKeys * h.size, *scores = values + kKeys * h.size, *states = scores + kKeys * S::lanes;
  const int64_t groups = (last - first + lanes - 1) / lanes, floats = state_floats(h.size, S::lanes);
  for (int64_t g = 0; g < groups; g++) begin<S>(h, first + g * lanes, std::min(lanes, last - first - g * lanes), {states + g * floats, h.size});
  for (int64_t k = 0; k < h.keys; k += kKeys) {
    const int64_t some = std::min(kKeys, h.keys - k);
    copy_rows(h.key + k * h.width, some, h.size, h.width, keys);
    copy_rows(h.value + k * h.width, some, h.size, h.width, values);
    for (int64_t g = 0; g < groups; g++) {
      const State<S> s(states + g * floats, h.size);
      const int64_t count = std::min(lanes, last - first - g * lanes);
      multiply<S>(h.size, (some + 7) / 8 * 8, keys, kPanel * h.size, h.size, 1, s.points, count, true, scores);
      soften<S>(some, h.size, scores, s);
      multiply<S>(some, h.size, values, kPanel, 1, h.size, scores, count, false, s.result);
    }
  }
  for (int64_t g = 0; g < groups; g++) end<S>(h, first + g * lanes, std::min(lanes, last - first - g * lanes), {states + g * floats, h.size});
}

struct Kernels {
  int64_t lanes;
  void (*attend)(const Head& h, int64_t first, int64_t last, int64_t lanes, float* space);
  int64_t floats(int64_t size, int64_t groups) const { return 2 * kKeys * size + kKeys * lanes + groups * state_floats(size, lanes); }
};

#define ATTENTION(name, set, ...)                                                                                    \
  __VA_ARGS__ static void name##_attend(const Head& h, int64_t first, int64_t last, int64_t lanes, float* space) { \
    attend<set>(h, first, last, lanes, space);                                                                       \
  }                                                                                                                  \
  static const Kernels name = {set::lanes, name##_attend};
FOR_EACH_SET(ATTENTION)

}  // namespace attention
