// likeness.GroupNorm, of x [B, C, ...] with attributes groups, epsilon and silu, which tells whether SiLU follows, and likeness.LayerNorm, of rows
// [..., C] with epsilon: normalised, then times weight [C] plus bias [C], reading and writing each value once.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "activation.h"
#include "kernels.h"

namespace {

constexpr int64_t kChunk = 4096;  // floats, which the processor's nearest cache holds
constexpr int64_t kSums = 32;  // at a time

// The sum of x, or of its squared distances from a mean.
VECTORS double sum_of(const float* x, int64_t n, bool squared, float mean) {
  float lanes[kSums] = {};
  int64_t i = 0;
  if (squared)
    for (; i + kSums <= n; i += kSums)
      for (int64_t l = 0; l < kSums; l++) lanes[l] += (x[i + l] - mean) * (x[i + l] - mean);
  else
    for (; i + kSums <= n; i += kSums)
      for (int64_t l = 0; l < kSums; l++) lanes[l] += x[i + l];
  double sum = std::accumulate(lanes, lanes + kSums, 0.0);
  for (; i < n; i++) sum += squared ? (x[i] - mean) * (x[i] - mean) : x[i];
  return sum;
}

// Mean and variance, by chunks that are put together as Chan, Golub and LeVeque do (1979).
void statistics(const float* x, int64_t n, double* mean, double* variance) {
  double all = 0, squares = 0;
  for (int64_t at = 0; at < n; at += kChunk) {
    const int64_t count = std::min(kChunk, n - at);
    const double own = sum_of(x + at, count, false, 0) / count, apart = own - all;
    const float around = static_cast<float>(own);
    squares += sum_of(x + at, count, true, around) - count * (own - around) * (own - around) + apart * apart * at * count / (at + count);
    all += apart * count / (at + count);
  }
  *mean = all, *variance = squares / n;
}

VECTORS void scale_all(const float* x, int64_t n, float scale, float shift, float* y) {
  for (int64_t i = 0; i < n; i++) y[i] = x[i] * scale + shift;
}

VECTORS void scale_silu(const float* x, int64_t n, float scale, float shift, float* y) {
  for (int64_t i = 0; i < n; i++) y[i] = silu(x[i] * scale + shift);
}

VECTORS void scale_each(const float* x, int64_t n, float mean, float scale, const float* weight, const float* bias, float* y) {
  for (int64_t i = 0; i < n; i++) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

// Norm is a run of either.
struct Norm {
  int64_t groups = 0;  // none: of rows
  int64_t silu = 0;    // or 1
  float epsilon = 0;
  int64_t channels, places, rows;  // [B, channels, places] or [rows, channels]
  const float *x, *weight, *bias;
  float* y;

  static constexpr int64_t kRows = 64;  // of a task

  void group(int64_t task) const {
    const int64_t each = channels / groups, first = task % groups * each, at = task * each * places;
    double mean, variance;
    statistics(x + at, each * places, &mean, &variance);
    for (int64_t c = 0; c < each; c++) {
      const double scale = weight[first + c] / std::sqrt(variance + epsilon);
      const auto scaled = silu ? scale_silu : scale_all;
      scaled(x + at + c * places, places, scale, bias[first + c] - mean * scale, y + at + c * places);
    }
  }

  void some_rows(int64_t task) const {
    for (int64_t row = task * kRows, end = std::min(row + kRows, rows); row < end; row++) {
      double mean, variance;
      statistics(x + row * channels, channels, &mean, &variance);
      scale_each(x + row * channels, channels, mean, 1 / std::sqrt(variance + epsilon), weight, bias, y + row * channels);
    }
  }
};

OrtStatus* normalise(Norm norm, OrtKernelContext* context) {
  Input x, weight, bias;
  CHECK(x.read(context, 0));
  CHECK(weight.read(context, 1));
  CHECK(bias.read(context, 2));
  const size_t rank = x.dims.size(), axis = norm.groups ? 1 : rank - 1;
  if (rank < 2 || weight.dims != std::vector<int64_t>{x.dims[axis]} || weight.dims != bias.dims || (norm.groups && x.dims[1] % norm.groups))
    return api->CreateStatus(ORT_INVALID_ARGUMENT, "Norm: input, weight and bias do not fit");
  norm.x = x.data, norm.weight = weight.data, norm.bias = bias.data, norm.channels = x.dims[axis];
  norm.rows = x.rows();
  norm.places = std::accumulate(x.dims.begin() + 2, x.dims.end(), int64_t{1}, std::multiplies<>());
  OrtValue* output;
  CHECK(api->KernelContext_GetOutput(context, 0, x.dims.data(), rank, &output));
  CHECK(api->GetTensorMutableData(output, reinterpret_cast<void**>(&norm.y)));
  Threads each{context};
  if (norm.groups)
    each(x.dims[0] * norm.groups, [&](int64_t task) { norm.group(task); });
  else
    each((norm.rows + Norm::kRows - 1) / Norm::kRows, [&](int64_t task) { norm.some_rows(task); });
  return each.status;
}

struct LayerNorm {
  static constexpr const char* name = "LayerNorm";
  static constexpr size_t inputs = 3;
  static constexpr bool in_place = true;
  static constexpr size_t weights = kNone;
  static OrtStatus* create(const OrtKernelInfo* info, void** kernel) {
    Norm norm;
    CHECK(api->KernelInfoGetAttribute_float(info, "epsilon", &norm.epsilon));
    *kernel = new Norm(norm);
    return nullptr;
  }
  static void destroy(void* kernel) { delete static_cast<Norm*>(kernel); }
  static OrtStatus* compute(void* kernel, OrtKernelContext* context) { return normalise(*static_cast<Norm*>(kernel), context); }
  static OrtStatus* infer(OrtShapeInferContext* context) { return infer_like_first(context, kNoAxis); }
};

struct GroupNorm : LayerNorm {
  static constexpr const char* name = "GroupNorm";
  static OrtStatus* create(const OrtKernelInfo* info, void** kernel) {
    Norm norm;
    CHECK(api->KernelInfoGetAttribute_float(info, "epsilon", &norm.epsilon));
    CHECK(api->KernelInfoGetAttribute_int64(info, "groups", &norm.groups));
    CHECK(api->KernelInfoGetAttribute_int64(info, "silu", &norm.silu));
    *kernel = new Norm(norm);
    return nullptr;
  }
};

}  // namespace

OrtCustomOp group_norm() { return operation<GroupNorm>(); }
OrtCustomOp layer_norm() { return operation<LayerNorm>(); }
