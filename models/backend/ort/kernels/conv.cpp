// likeness.Conv, an operator of ONNX Runtime for CPUs: a 3×3 convolution of float32 with stride 1 and padding 1, of x [B, in, H, W], weight
// [out, in, 3, 3] with out a multiple of 8, and bias [out]. Weights are read as they lie in their file.
#include "onnxruntime_c_api.h"

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include "winograd.h"

namespace {

using winograd::Kernels;
using winograd::kLanes;
using winograd::kPanel;
using winograd::kPoints;
using winograd::Shape;

const OrtApi* api;

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
#define CHECK(call) \
  if (OrtStatus* status = (call)) return status

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

// The dimensions and data of an input of four axes or one.
OrtStatus* read(const OrtValue* value, std::vector<int64_t>* dims, const float** data) {
  OrtTensorTypeAndShapeInfo* info;
  CHECK(api->GetTensorTypeAndShape(value, &info));
  size_t rank = 0;
  OrtStatus* status = api->GetDimensionsCount(info, &rank);
  dims->resize(rank);
  if (!status) status = api->GetDimensions(info, dims->data(), rank);
  api->ReleaseTensorTypeAndShapeInfo(info);
  if (status) return status;
  return api->GetTensorMutableData(const_cast<OrtValue*>(value), reinterpret_cast<void**>(const_cast<float**>(data)));
}

// Kernel is one node of a graph.
struct Kernel {
  OrtOp* small;  // ONNX Runtime's Conv
};

OrtStatus* create(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo* info, void** kernel) {
  const int64_t pads[] = {1, 1, 1, 1};
  OrtOpAttr* attribute;
  CHECK(api->CreateOpAttr("pads", pads, 4, ORT_OP_ATTR_INTS, &attribute));
  const char* constraint = "T";
  const ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  const OrtOpAttr* attributes[] = {attribute};
  Kernel made{};
  OrtStatus* status = api->CreateOp(info, "Conv", "", 11, &constraint, &type, 1, attributes, 1, 3, 1, &made.small);
  api->ReleaseOpAttr(attribute);
  if (!status) *kernel = new Kernel(made);
  return status;
}

void destroy(void* kernel) {
  api->ReleaseOp(static_cast<Kernel*>(kernel)->small);
  delete static_cast<Kernel*>(kernel);
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  const OrtValue* inputs[3];
  std::vector<int64_t> dims[3];
  const float* data[3];
  for (int i = 0; i < 3; i++) {
    CHECK(api->KernelContext_GetInput(context, i, &inputs[i]));
    CHECK(read(inputs[i], &dims[i], &data[i]));
  }
  const auto &x = dims[0], &w = dims[1];
  if (x.size() != 4 || w != std::vector<int64_t>{w.empty() ? 0 : w[0], x[1], 3, 3} || w[0] % kPanel || dims[2] != std::vector<int64_t>{w[0]})
    return api->CreateStatus(ORT_INVALID_ARGUMENT, "Conv: input, weight and bias do not fit");
  const Shape shape{x[0], x[1], w[0], x[2], x[3]};
  const int64_t result[] = {shape.batch, shape.out, shape.height, shape.width};
  OrtValue* output;
  CHECK(api->KernelContext_GetOutput(context, 0, result, 4, &output));
  if (shape.rows() * shape.columns() < kFewTiles)
    return api->InvokeOp(context, static_cast<Kernel*>(kernel)->small, inputs, 3, &output, 1);
  float* y;
  CHECK(api->GetTensorMutableData(output, reinterpret_cast<void**>(&y)));
  static const Kernels& kernels = winograd::kernels();
  Run run{kernels, shape, data[0], data[1], data[2], y};
  return convolve(context, run);
}

// The output has the dims of x with weight's first in place of the channels.
OrtStatus* infer(const OrtCustomOp*, OrtShapeInferContext* context) {
  OrtTensorTypeAndShapeInfo *x, *w, *y;
  CHECK(api->ShapeInferContext_GetInputTypeShape(context, 0, &x));
  CHECK(api->ShapeInferContext_GetInputTypeShape(context, 1, &w));
  size_t rank = 0;
  CHECK(api->GetDimensionsCount(x, &rank));
  if (rank != 4) return nullptr;  // unknown
  int64_t dims[4], weight[4];
  const char* symbols[4];
  CHECK(api->GetDimensions(x, dims, 4));
  CHECK(api->GetDimensions(w, weight, 4));
  CHECK(api->GetSymbolicDimensions(x, symbols, 4));
  dims[1] = weight[0], symbols[1] = "";
  static std::atomic<int> made{0};
  std::string names[4];
  for (int i = 0; i < 4; i++)
    if (dims[i] < 0 && !*symbols[i]) {  // an unknown size needs a name, which no other has
      names[i] = "/Conv_" + std::to_string(made++);
      symbols[i] = names[i].c_str();
    }
  CHECK(api->CreateTensorTypeAndShapeInfo(&y));
  OrtStatus* status = api->SetTensorElementType(y, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  if (!status) status = api->SetDimensions(y, dims, 4);
  if (!status) status = api->SetSymbolicDimensions(y, symbols, 4);
  if (!status) status = api->ShapeInferContext_SetOutputTypeShape(context, 0, y);
  api->ReleaseTensorTypeAndShapeInfo(y);
  return status;
}

OrtCustomOp conv() {
  OrtCustomOp op{};
  op.version = ORT_API_VERSION;
  op.GetName = [](const OrtCustomOp*) { return "Conv"; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU's
  op.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 3; };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  op.GetInputType = op.GetOutputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
  op.GetInputCharacteristic = op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  op.GetStartVersion = op.GetEndVersion = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = create;
  op.KernelComputeV2 = compute;
  op.KernelDestroy = destroy;
  op.InferOutputShapeFn = infer;
  return op;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  static const OrtCustomOp op = conv();
  static OrtCustomOpDomain* domain = nullptr;
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  api = base->GetApi(ORT_API_VERSION);
  if (!domain) {
    CHECK(api->CreateCustomOpDomain("likeness", &domain));
    CHECK(api->CustomOpDomain_Add(domain, &op));
  }
  return api->AddCustomOpDomain(options, domain);
}
