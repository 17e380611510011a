// Holds every set of kernels that the processor can run against the definitions of convolutions and of a linear layer, and prints each set's worst
// differences relative to the largest sum of absolute products; ends with 1 where one is over 1e-6.
#include <cmath>
#include <cstdio>
#include <vector>

#include "../attention.h"
#include "../linear.h"
#include "../weights.h"
#include "../winograd.h"

using winograd::Shape;

static std::vector<float> filled(int64_t n) {
  static uint32_t state = 1;
  std::vector<float> v(n);
  for (float& x : v) state = state * 1664525 + 1013904223, x = float(state >> 8) / (1 << 24) - 0.5f;
  return v;
}

static std::vector<float> convolved(const winograd::Kernels& k, const Shape& s, const float* x, const float* w, const float* bias) {
  const float unset = NAN;
  std::vector<float> y(s.batch * s.out * s.height * s.width, unset), panels(kOutputs * s.points() * s.in, unset);
  std::vector<float> points(s.points() * s.in * k.lanes, unset), products(s.points() * kOutputs * k.lanes, unset);
  for (int64_t channel = 0; channel < s.out; channel += kOutputs) {
    const int64_t channels = std::min(kOutputs, s.out - channel);
    for (int64_t first = 0, count; first < s.tiles(); first += count) {
      count = std::min(k.lanes - 3, s.tiles() - first);
      k.transform_input(s, x, first, count, 0, s.in / 2, points.data());
      k.transform_input(s, x, first, count, s.in / 2, s.in, points.data());
      for (int64_t from = 0; from < s.in; from += 12) {
        const int64_t to = std::min<int64_t>(from + 12, s.in);
        for (int64_t o = 0; o < channels; o += kPanel)
          k.transform_weight(w + (channel + o) * s.in * 9, s.in, from, to, panels.data() + o * s.points() * (to - from));
        k.multiply(s.in, from, to, channels, panels.data(), points.data(), count, products.data());
      }
      k.transform_output(s, products.data(), bias, channel, channels, first, count, y.data());
    }
  }
  return y;
}

// Difference is the worst of what was added, relative to the largest size.
struct Difference {
  double worst = 0, scale = 0;
  void add(double got, double want, double size) {
    const double apart = std::fabs(got - want);
    if (!(apart <= worst)) worst = apart;  // NaN too
    scale = std::max(scale, size);
  }
  double relative() const { return worst / scale; }
};

// sum_up adds what a convolution gives, and the size of it.
static void sum_up(const linear::Image& image, const float* x, const float* w, int64_t in, int64_t place, double* sum, double* size) {
  for (int64_t i = 0; i < in; i++)
    for (int64_t tap = 0; tap < image.taps(); tap++) {
      const int64_t at = image.at(place, tap);
      if (at < 0) continue;
      const double product = double(x[i * image.height * image.width + at]) * w[i * image.taps() + tap];
      *sum += product, *size += std::fabs(product);
    }
}

static void compare(Difference& d, const linear::Image& image, int64_t batch, int64_t in, int64_t out, const float* x, const float* w,
                    const float* bias, const float* y) {
  for (int64_t n = 0; n < batch; n++)
    for (int64_t o = 0; o < out; o++)
      for (int64_t place = 0; place < image.places(); place++) {
        double sum = bias[o], size = std::fabs(bias[o]);
        sum_up(image, x + n * in * image.height * image.width, w + o * in * image.taps(), in, place, &sum, &size);
        d.add(*y++, sum, size);
      }
}

static double convolution(const winograd::Kernels& kernels, int64_t tile) {
  Difference d;
  for (Shape s : {Shape{1, 16, 8, 8, 8}, {2, 20, 16, 5, 7}, {3, 17, 8, 1, 1}, {1, 9, 24, 2, 130}, {2, 32, 8, 33, 3}, {1, 400, 72, 24, 24}}) {
    s.tile = tile;
    const auto x = filled(s.batch * s.in * s.height * s.width), w = filled(s.out * s.in * 9), bias = filled(s.out);
    const auto y = convolved(kernels, s, x.data(), w.data(), bias.data());
    compare(d, {s.height, s.width, 3, 3, 1, 1, 1, s.height, s.width}, s.batch, s.in, s.out, x.data(), w.data(), bias.data(), y.data());
  }
  return d.relative();
}

// Any other convolution.
static double patches(const linear::Kernels& kernels) {
  Difference d;
  for (const linear::Image& image : {linear::Image{7, 9, 1, 1, 1, 0, 0, 7, 9}, {8, 8, 1, 1, 1, 0, 0, 8, 8}, {9, 6, 3, 3, 2, 1, 1, 5, 3},
                                     {8, 8, 3, 3, 2, 0, 0, 4, 4}, {4, 4, 3, 3, 1, 1, 1, 4, 4}, {12, 10, 4, 2, 3, 1, 0, 4, 3}}) {
    const int64_t in = 37, out = 40, depth = in * image.taps();
    const auto x = filled(in * image.height * image.width), w = filled(out * depth), bias = filled(out);
    std::vector<float> y(out * image.places(), NAN), points(depth * kernels.lanes, NAN);
    for (int64_t first = 0; first < image.places(); first += kernels.lanes) {
      const int64_t count = std::min(kernels.lanes, image.places() - first);
      kernels.pack_image(x.data(), image, first, count, 0, in / 2, points.data());
      kernels.pack_image(x.data(), image, first, count, in / 2, in, points.data());
      for (int64_t o = 0; o < out; o += kOutputs)
        kernels.compute_image(&w[o * depth], bias.data(), depth, image.places(), points.data(), o, std::min(kOutputs, out - o), count, y.data() + first);
    }
    compare(d, image, 1, in, out, x.data(), w.data(), bias.data(), y.data());
  }
  return d.relative();
}

// A layer whose weight is w, and changed by down and up of a rank.
static double layer(const linear::Kernels& kernels) {
  Difference d;
  struct { int64_t rows, in, out, rank; } sizes[] = {{1, 8, 8, 0}, {7, 20, 16, 4}, {16, 16, 8, 3}, {17, 3, 24, 1}, {32, 33, 8, 0}, {30, 64, 16, 6},
                                                     {70, 600, 72, 13}};
  for (const auto& s : sizes) {
    const auto x = filled(s.rows * s.in), bias = filled(s.out), down = filled(s.in * s.rank), up = filled(s.rank * s.out);
    auto w = filled(s.out * s.in);
    std::vector<float> y(s.rows * s.out, NAN), points((s.in + s.rank) * kernels.lanes, NAN);
    for (int64_t row = 0; row < s.rows; row += kernels.lanes) {
      const int64_t count = std::min(kernels.lanes, s.rows - row);
      kernels.pack_rows(x.data() + row * s.in, s.in, count, 0, s.in / 2, points.data());
      kernels.pack_rows(x.data() + row * s.in, s.in, count, s.in / 2, s.in, points.data());
      kernels.compute_lower(down.data(), s.in, s.rank, points.data(), count, &points[s.in * kernels.lanes]);
      for (int64_t o = 0; o < s.out; o += kOutputs)
        kernels.compute_rows(&w[o * s.in], bias.data(), s.in, s.out, s.rank, up.data(), points.data(), o, std::min(kOutputs, s.out - o), count,
                             y.data() + row * s.out);
    }
    for (int64_t o = 0; o < s.out; o++)
      for (int64_t i = 0; i < s.in; i++)
        for (int64_t k = 0; k < s.rank; k++) w[o * s.in + i] += down[i * s.rank + k] * up[k * s.out + o];
    const linear::Image point{1, 1, 1, 1, 1, 0, 0, 1, 1};  // a row is a batch's image of one place
    compare(d, point, s.rows, s.in, s.out, x.data(), w.data(), bias.data(), y.data());
  }
  return d.relative();
}

// Attention of two heads.
static double attended(const attention::Kernels& kernels) {
  Difference d;
  struct { int64_t queries, keys, size; } sizes[] = {{1, 1, 8}, {7, 3, 16}, {50, 77, 40}, {130, 200, 24}, {24, 64, 160}};
  for (const auto& s : sizes) {
    const int64_t width = 2 * s.size;
    auto query = filled(s.queries * width), key = filled(s.keys * width), value = filled(s.keys * width);
    for (float& q : query) q *= 40;
    std::vector<float> y(s.queries * width, NAN), space(kernels.floats(s.size, 2), NAN);
    for (int64_t column = 0; column < width; column += s.size)
      for (int64_t first = 0; first < s.queries; first += 2 * kernels.lanes)
        kernels.attend({&query[column], &key[column], &value[column], &y[column], s.queries, s.keys, s.size, width}, first,
                       std::min(first + 2 * kernels.lanes, s.queries), kernels.lanes, space.data());
    for (int64_t q = 0; q < s.queries; q++)
      for (int64_t column = 0; column < width; column += s.size) {
        std::vector<double> weights(s.keys);
        double largest = -INFINITY, sum = 0;
        for (int64_t k = 0; k < s.keys; k++) {
          for (int64_t i = column; i < column + s.size; i++) weights[k] += double(query[q * width + i]) * key[k * width + i] / std::sqrt(s.size);
          largest = std::max(largest, weights[k]);
        }
        for (double& w : weights) sum += w = std::exp(w - largest);
        for (int64_t i = column; i < column + s.size; i++) {
          double want = 0;
          for (int64_t k = 0; k < s.keys; k++) want += weights[k] / sum * value[k * width + i];
          d.add(y[q * width + i], want, std::fabs(want));
        }
      }
  }
  return d.relative();
}

// Every float16 is the float32 of its value, by either way.
static bool halves() {
  std::vector<uint16_t> x(1 << 16);
  for (size_t i = 0; i < x.size(); i++) x[i] = i;
  std::vector<float> one(x.size()), eight(x.size());
  halves_one_by_one(x.data(), x.size(), one.data());
  from_halves(x.data(), x.size(), eight.data());
  for (size_t i = 0; i < x.size(); i++) {
    const int exponent = i >> 10 & 31, fraction = i & 1023;
    double want = std::ldexp(fraction + (exponent ? 1024 : 0), std::max(exponent, 1) - 25);
    if (exponent == 31) want = fraction ? NAN : INFINITY;
    if (i >> 15) want = -want;
    for (float got : {one[i], eight[i]})
      if (std::isnan(want) ? !std::isnan(got) : got != want) return std::printf("float16 %zx is %g, want %g\n", i, got, want), false;
  }
  return true;
}

static bool fine(const char* name, const winograd::Kernels& tiles2, const winograd::Kernels& tiles4, const linear::Kernels& places,
                 const attention::Kernels& heads) {
  const double w2 = convolution(tiles2, 2), w4 = convolution(tiles4, 4), c = patches(places), l = layer(places), a = attended(heads);
  std::printf("%s: Winograd's convolution %.2g with tiles of 2, %.2g of 4, others %.2g, linear layer %.2g, attention %.2g\n", name, w2, w4, c, l, a);
  return w2 <= 1e-6 && w4 <= 2e-6 && c <= 1e-6 && l <= 1e-6 && a <= 5e-6;
}

int main() {
  using namespace winograd;
  bool all = halves();
  all = fine("plain", tiles_of_2::plain, tiles_of_4::plain, linear::plain, attention::plain) && all;
#ifdef __x86_64__
  if (has_avx2()) all = fine("avx2", tiles_of_2::avx2, tiles_of_4::avx2, linear::avx2, attention::avx2) && all;
  if (has_avx512()) all = fine("avx512", tiles_of_2::avx512, tiles_of_4::avx512, linear::avx512, attention::avx512) && all;
#endif
  return !all;
}
