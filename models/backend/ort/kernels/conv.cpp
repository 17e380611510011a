// likeness.Conv, an operator of ONNX Runtime for CPUs: a 3×3 convolution of float32 with stride 1 and padding 1, of x [B, in, H, W], weight
// [out, in, 3, 3] with out a multiple of 8, and bias [out]. Weights are read as they lie in their file.
#include <cstdlib>
#include <mutex>

#include "kernels.h"
#include "winograd.h"

namespace {

using winograd::Kernels;
using winograd::kLanes;
using winograd::kPanel;
using winograd::kPoints;
using winograd::Shape;

// Where an image has fewer tiles, transforming the weights costs more than it saves, and ONNX Runtime's own Conv computes it.
constexpr int64_t kFewTiles = 12;

constexpr int64_t kGroups = 2;                  // of 32 tiles, whose points are in the processor's cache at a time
constexpr int64_t kSharedGroups = 8;            // up to which all tasks share all points
constexpr int64_t kPanelsFloats = 4 << 20;      // of the transformed weights that are kept at a time

// Pool keeps memory from run to run.
class Pool {
 public:
  struct Buffer {
    float* data = nullptr;
    int64_t floats = 0;
  };
  // No data where memory is short.
  Buffer take(int64_t floats) {
    Buffer b;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!spare_.empty()) b = spare_.back(), spare_.pop_back();
    }
    if (b.floats >= floats) return b;
    std::free(b.data);
    b.data = static_cast<float*>(std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64));
    b.floats = b.data ? floats : 0;
    return b;
  }
  void give(Buffer b) {
    std::lock_guard<std::mutex> lock(mutex_);
    spare_.push_back(b);
  }
  ~Pool() {
    for (Buffer& b : spare_) std::free(b.data);
  }

 private:
  std::mutex mutex_;
  std::vector<Buffer> spare_;
} panels_pool, points_pool;

// Buffer is a pool's memory for as long as it lives.
class Buffer {
 public:
  Buffer(Pool& pool, int64_t floats) : pool_(pool), buffer_(pool.take(floats)) {}
  ~Buffer() { pool_.give(buffer_); }
  Buffer(const Buffer&) = delete;
  float* data() const { return buffer_.data; }

 private:
  Pool& pool_;
  Pool::Buffer buffer_;
};

// Run is the work of one run in tasks, which are members of it.
struct Run {
  const Kernels& kernels;
  Shape shape;
  const float *x, *weight, *bias;
  float* y;
  float *panels = nullptr, *points = nullptr;  // that all tasks share
  int64_t first_panel = 0, panel_count = 0;    // of those
  std::atomic<bool> failed{false};             // memory is short

  int64_t groups() const { return (shape.tiles() + kLanes - 1) / kLanes; }
  int64_t panel_floats() const { return kPoints * shape.in * kPanel; }
  int64_t points_floats() const { return kPoints * shape.in * kLanes; }

  void transform_weight(int64_t panel, float* to) { kernels.transform_weight(weight + panel * kPanel * shape.in * 9, shape.in, to); }

  // With few tiles the points are all made at first, by groups and quarters of the channels.
  void share_points(size_t task) {
    const int64_t group = task / 4, quarter = task % 4;
    kernels.transform_input(shape, x, group * kLanes, shape.in * quarter / 4, shape.in * (quarter + 1) / 4, points + group * points_floats());
  }
  // A panel is then used as soon as it is made.
  void compute_panel(size_t panel) {
    Buffer made(panels_pool, panel_floats());
    if (!made.data()) return void(failed = true);
    transform_weight(panel, made.data());
    for (int64_t g = 0; g < groups(); g++)
      kernels.compute_panel(shape, made.data(), points + g * points_floats(), bias, panel * kPanel, g * kLanes, y);
  }

  // With many tiles the panels are made at first, as many as there is memory for.
  void share_panel(size_t i) { transform_weight(first_panel + i, panels + i * panel_floats()); }
  // A task makes the points of its groups and uses them for all those panels.
  void compute_groups(size_t task) {
    Buffer made(points_pool, kGroups * points_floats());
    if (!made.data()) return void(failed = true);
    const int64_t first = task * kGroups, count = std::min(kGroups, groups() - first);
    for (int64_t g = 0; g < count; g++)
      kernels.transform_input(shape, x, (first + g) * kLanes, 0, shape.in, made.data() + g * points_floats());
    for (int64_t p = 0; p < panel_count; p++)
      for (int64_t g = 0; g < count; g++)
        kernels.compute_panel(shape, panels + p * panel_floats(), made.data() + g * points_floats(), bias, (first_panel + p) * kPanel,
                              (first + g) * kLanes, y);
  }
};
OrtStatus* out_of_memory() { return api->CreateStatus(ORT_FAIL, "Conv: out of memory"); }

template <void (Run::*Task)(size_t)>
OrtStatus* parallel(OrtKernelContext* context, Run& run, int64_t tasks) {
  return api->KernelContext_ParallelFor(
      context, [](void* run, size_t task) { (static_cast<Run*>(run)->*Task)(task); }, tasks, 0, &run);
}

OrtStatus* convolve_few(OrtKernelContext* context, Run& run) {
  Buffer points(points_pool, run.groups() * run.points_floats());
  if (!(run.points = points.data())) return out_of_memory();
  CHECK(parallel<&Run::share_points>(context, run, run.groups() * 4));
  return parallel<&Run::compute_panel>(context, run, run.shape.out / kPanel);
}

OrtStatus* convolve_many(OrtKernelContext* context, Run& run) {
  const int64_t all = run.shape.out / kPanel, most = std::min(all, std::max<int64_t>(kPanelsFloats / run.panel_floats(), 1));
  Buffer panels(panels_pool, most * run.panel_floats());
  if (!(run.panels = panels.data())) return out_of_memory();
  for (; run.first_panel < all; run.first_panel += most) {
    run.panel_count = std::min(most, all - run.first_panel);
    CHECK(parallel<&Run::share_panel>(context, run, run.panel_count));
    CHECK(parallel<&Run::compute_groups>(context, run, (run.groups() + kGroups - 1) / kGroups));
  }
  return nullptr;
}

OrtStatus* convolve(OrtKernelContext* context, Run& run) {
  CHECK(run.groups() <= kSharedGroups ? convolve_few(context, run) : convolve_many(context, run));
  return run.failed ? out_of_memory() : nullptr;
}

struct Conv {
  static constexpr const char* name = "Conv";
  OrtOp* small;  // ONNX Runtime's

  static OrtStatus* create(const OrtKernelInfo* info, void** kernel) {
    const int64_t pads[] = {1, 1, 1, 1};
    OrtOpAttr* attribute;
    CHECK(api->CreateOpAttr("pads", pads, 4, ORT_OP_ATTR_INTS, &attribute));
    const char* constraint = "T";
    const ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    const OrtOpAttr* attributes[] = {attribute};
    OrtOp* small;
    OrtStatus* status = api->CreateOp(info, "Conv", "", 11, &constraint, &type, 1, attributes, 1, 3, 1, &small);
    api->ReleaseOpAttr(attribute);
    if (!status) *kernel = new Conv{small};
    return status;
  }

  static void destroy(void* kernel) {
    api->ReleaseOp(static_cast<Conv*>(kernel)->small);
    delete static_cast<Conv*>(kernel);
  }

  static OrtStatus* compute(void* kernel, OrtKernelContext* context) {
    Input x, weight, bias;
    CHECK(x.read(context, 0));
    CHECK(weight.read(context, 1));
    CHECK(bias.read(context, 2));
    const auto &in = x.dims, &w = weight.dims;
    if (in.size() != 4 || w.size() != 4 || w[1] != in[1] || w[2] != 3 || w[3] != 3 || w[0] % kPanel || bias.dims != std::vector<int64_t>{w[0]})
      return api->CreateStatus(ORT_INVALID_ARGUMENT, "Conv: input, weight and bias do not fit");
    const Shape shape{in[0], in[1], w[0], in[2], in[3]};
    const int64_t result[] = {shape.batch, shape.out, shape.height, shape.width};
    OrtValue* output;
    CHECK(api->KernelContext_GetOutput(context, 0, result, 4, &output));
    if (shape.rows() * shape.columns() < kFewTiles) {
      const OrtValue* inputs[] = {x.value, weight.value, bias.value};
      return api->InvokeOp(context, static_cast<Conv*>(kernel)->small, inputs, 3, &output, 1);
    }
    float* y;
    CHECK(api->GetTensorMutableData(output, reinterpret_cast<void**>(&y)));
    static const Kernels& kernels = winograd::kernels();
    Run run{kernels, shape, x.data, weight.data, bias.data, y};
    return convolve(context, run);
  }

  static OrtStatus* infer(OrtShapeInferContext* context) {
    OrtTensorTypeAndShapeInfo* weight;
    CHECK(api->ShapeInferContext_GetInputTypeShape(context, 1, &weight));
    size_t rank = 0;
    CHECK(api->GetDimensionsCount(weight, &rank));
    if (rank != 4) return nullptr;  // unknown
    int64_t dims[4];
    CHECK(api->GetDimensions(weight, dims, 4));
    return infer_like_first(context, dims[0]);
  }
};

}  // namespace

OrtCustomOp conv() { return operation<Conv>(); }
