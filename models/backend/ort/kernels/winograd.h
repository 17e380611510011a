// Convolution of 3×3 with stride 1 and padding 1 by Winograd's minimal filtering F(2×2, 3×3) (Lavin and Gray, 2015,
// https://arxiv.org/abs/1509.09308, section 4.1): 16 multiplications give the 2×2 outputs of a tile that take 36 otherwise. Tiles are counted
// along the rows, then down, then through the batch. Every output is the same sum whatever else is in the batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace winograd {

constexpr int64_t kPanel = 8;    // output channels that are computed together
constexpr int64_t kLanes = 32;   // tiles that are computed together
constexpr int64_t kPoints = 16;  // of a transformed tile

struct Shape {
  int64_t batch, in, out, height, width;  // out is a multiple of kPanel
  int64_t rows() const { return (height + 1) / 2; }
  int64_t columns() const { return (width + 1) / 2; }
  int64_t tiles() const { return batch * rows() * columns(); }
};

// Run is a part of a row of tiles.
struct Run {
  int64_t image, row, column, length;
};

// The run of at most limit tiles from a tile on.
static inline Run run_at(const Shape& s, int64_t tile, int64_t limit) {
  const int64_t column = tile % s.columns(), row = tile / s.columns();
  return {row / s.rows(), row % s.rows(), column, std::min(limit, s.columns() - column)};
}

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

constexpr int64_t kInputs = 8;  // whose weights are transformed together, so that stores to the planes of a panel are of whole cache lines

// kernel [8 outputs, inputs, 9], the outputs stride apart, becomes taps [inputs·9, 8 outputs].
INLINE void load_taps(const float* kernel, int64_t stride, int64_t inputs, float8* taps) {
  int64_t at = 0;
  for (; at + 8 <= 9 * inputs; at += 8) {
    float8 m[8];
#pragma GCC unroll 8
    for (int64_t o = 0; o < kPanel; o++) std::memcpy(&m[o], kernel + o * stride + at, sizeof(float8));
    transpose(m);
    std::memcpy(taps + at, m, sizeof(m));
  }
  for (; at < 9 * inputs; at++)
    for (int64_t o = 0; o < kPanel; o++) taps[at][o] = kernel[o * stride + at];
}

// weight [8, in, 3, 3] becomes panel [16, in, 8].
INLINE void transform_weight(const float* weight, int64_t in, float* panel) {
  float8 taps[9 * kInputs], points[kPoints][kInputs];
  for (int64_t first = 0; first < in; first += kInputs) {
    const int64_t inputs = std::min(kInputs, in - first);
    load_taps(weight + first * 9, in * 9, inputs, taps);
    for (int64_t i = 0; i < inputs; i++) {
      const float8* g = taps + 9 * i;
      float8 h[4][3];
#pragma GCC unroll 8
      for (int c = 0; c < 3; c++) {
        const float8 sum = 0.5f * (g[c] + g[6 + c]), middle = 0.5f * g[3 + c];
        h[0][c] = g[c], h[1][c] = sum + middle, h[2][c] = sum - middle, h[3][c] = g[6 + c];
      }
#pragma GCC unroll 8
      for (int r = 0; r < 4; r++) {
        const float8 sum = 0.5f * (h[r][0] + h[r][2]), middle = 0.5f * h[r][1];
        points[4 * r][i] = h[r][0], points[4 * r + 1][i] = sum + middle, points[4 * r + 2][i] = sum - middle, points[4 * r + 3][i] = h[r][2];
      }
    }
    for (int64_t e = 0; e < kPoints; e++) std::memcpy(panel + (e * in + first) * kPanel, points[e], inputs * sizeof(float8));
  }
}

// The four rows of a plane that a run of tiles sees, with zeros around the image: line [4][2·length + 2].
INLINE void load_lines(const Shape& s, const float* plane, const Run& run, float line[4][2 * kLanes + 2]) {
  const int64_t wide = 2 * run.length + 2, left = 2 * run.column - 1;
  const int64_t from = std::max<int64_t>(left, 0), to = std::min(left + wide, s.width);
  for (int64_t r = 0; r < 4; r++) {
    const int64_t y = 2 * run.row - 1 + r;
    if (y < 0 || y >= s.height) {
      std::memset(line[r], 0, wide * sizeof(float));
      continue;
    }
    line[r][0] = 0;
    std::memcpy(line[r] + (from - left), plane + y * s.width + from, (to - from) * sizeof(float));
    for (int64_t c = to - left; c < wide; c++) line[r][c] = 0;
  }
}

// Channels [from, to) of tiles [first, first+32) of x [batch, in, height, width] become those of points [16, in, 32]; lanes past the last tile
// are left as they are.
INLINE void transform_input(const Shape& s, const float* x, int64_t first, int64_t from, int64_t to, float* points) {
  const int64_t count = std::min(kLanes, s.tiles() - first), step = s.in * kLanes;
  float line[4][2 * kLanes + 2], half[4][2 * kLanes + 2];
  for (int64_t at = 0; at < count;) {
    const Run run = run_at(s, first + at, count - at);
    for (int64_t i = from; i < to; i++) {
      load_lines(s, x + (run.image * s.in + i) * s.height * s.width, run, line);
      for (int64_t c = 0; c < 2 * run.length + 2; c++) {
        const float a = line[0][c], b = line[1][c], d = line[2][c], e = line[3][c];
        half[0][c] = a - d, half[1][c] = b + d, half[2][c] = d - b, half[3][c] = b - e;
      }
      for (int64_t r = 0; r < 4; r++) {
        float *p0 = points + 4 * r * step + i * kLanes + at, *p1 = p0 + step, *p2 = p1 + step, *p3 = p2 + step;
        for (int64_t t = 0; t < run.length; t++) {
          const float a = half[r][2 * t], b = half[r][2 * t + 1], d = half[r][2 * t + 2], e = half[r][2 * t + 3];
          p0[t] = a - d, p1[t] = b + d, p2[t] = d - b, p3[t] = b - e;
        }
      }
    }
    at += run.length;
  }
}

// product [C, lanes of N V] of the planes [., 32] is panelᵀ [in, C of 8] · points [in, lanes of 32].
template <typename V, int C, int N>
INLINE void multiply(int64_t in, const float* panel, const float* points, float* product) {
  constexpr int64_t lanes = sizeof(V) / sizeof(float);
  V sum[N][C] = {};
  for (int64_t i = 0; i < in; i++) {
    V point[N];
#pragma GCC unroll 2
    for (int n = 0; n < N; n++) std::memcpy(&point[n], points + i * kLanes + n * lanes, sizeof(V));
#pragma GCC unroll 8
    for (int c = 0; c < C; c++) {
      const float weight = panel[i * kPanel + c];
#pragma GCC unroll 2
      for (int n = 0; n < N; n++) sum[n][c] += weight * point[n];
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < C; c++)
#pragma GCC unroll 2
    for (int n = 0; n < N; n++) std::memcpy(product + c * kLanes + n * lanes, &sum[n][c], sizeof(V));
}

// products [16, 8, 32] of tiles [first, first+32) become eight channels of y from the one at channel on.
INLINE void transform_output(const Shape& s, const float* products, const float* bias, int64_t channel, int64_t first, float* y) {
  const int64_t count = std::min(kLanes, s.tiles() - first), step = kPanel * kLanes;
  for (int64_t o = 0; o < kPanel; o++) {
    float out[2][2 * kLanes];
    const float *m = products + o * kLanes, shift = bias[channel + o];
    for (int64_t t = 0; t < kLanes; t++) {
      float h[2][4];
      for (int64_t c = 0; c < 4; c++) {
        const float a = m[c * step + t], b = m[(4 + c) * step + t], d = m[(8 + c) * step + t], e = m[(12 + c) * step + t];
        h[0][c] = a + b + d, h[1][c] = b - d - e;
      }
      for (int64_t r = 0; r < 2; r++) {
        out[r][2 * t] = h[r][0] + h[r][1] + h[r][2] + shift;
        out[r][2 * t + 1] = h[r][1] - h[r][2] - h[r][3] + shift;
      }
    }
    for (int64_t at = 0; at < count;) {
      const Run run = run_at(s, first + at, count - at);
      float* plane = y + (run.image * s.out + channel + o) * s.height * s.width;
      for (int64_t r = 0; r < 2 && 2 * run.row + r < s.height; r++)
        std::memcpy(plane + (2 * run.row + r) * s.width + 2 * run.column, out[r] + 2 * at,
                    std::min(2 * run.length, s.width - 2 * run.column) * sizeof(float));
      at += run.length;
    }
  }
}

// The eight channels from the one at channel on, of the tiles [first, first+32): panel [16, in, 8], points [16, in, 32].
template <typename V, int C>
INLINE void compute_panel(const Shape& s, const float* panel, const float* points, const float* bias, int64_t channel, int64_t first, float* y) {
  constexpr int64_t lanes = sizeof(V) / sizeof(float);
  const int64_t count = std::min(kLanes, s.tiles() - first);
  alignas(64) float products[kPoints * kPanel * kLanes];
  for (int64_t e = 0; e < kPoints; e++)
    for (int64_t c = 0; c < kPanel; c += C)
      for (int64_t t = 0; t < count; t += 2 * lanes) {
        const float *from = panel + e * s.in * kPanel + c, *by = points + e * s.in * kLanes + t;
        float* to = products + (e * kPanel + c) * kLanes + t;
        if (count - t > lanes)
          multiply<V, C, 2>(s.in, from, by, to);
        else
          multiply<V, C, 1>(s.in, from, by, to);
      }
  transform_output(s, products, bias, channel, first, y);
}

// Kernels are the functions above for the widest vectors that the processor has.
struct Kernels {
  void (*transform_weight)(const float* weight, int64_t in, float* panel);
  void (*transform_input)(const Shape& s, const float* x, int64_t first, int64_t from, int64_t to, float* points);
  void (*compute_panel)(const Shape& s, const float* panel, const float* points, const float* bias, int64_t channel, int64_t first, float* y);
};

#define KERNELS(name, vector, channels, ...)                                                                                            \
  __VA_ARGS__ static void name##_weight(const float* weight, int64_t in, float* panel) { transform_weight(weight, in, panel); }          \
  __VA_ARGS__ static void name##_input(const Shape& s, const float* x, int64_t first, int64_t from, int64_t to, float* points) {         \
    transform_input(s, x, first, from, to, points);                                                                                      \
  }                                                                                                                                      \
  __VA_ARGS__ static void name##_panel(const Shape& s, const float* panel, const float* points, const float* bias, int64_t channel,      \
                                       int64_t first, float* y) {                                                                        \
    compute_panel<vector, channels>(s, panel, points, bias, channel, first, y);                                                          \
  }                                                                                                                                      \
  static const Kernels name = {name##_weight, name##_input, name##_panel};

KERNELS(plain, float4, 4)
#ifdef __x86_64__
KERNELS(avx2, float8, 4, __attribute__((target("avx2,fma"))))
KERNELS(avx512, float16, 8, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))))
#endif

static inline const Kernels& kernels() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2;
#endif
  return plain;
}

}  // namespace winograd
