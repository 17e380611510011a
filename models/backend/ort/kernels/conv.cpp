// likeness.Conv: a convolution of x [B, in, H, W] by weight [out, in, h, w], out a multiple of 8, plus bias [out], with attributes stride and pads
// [top, left, bottom, right]. Those of 3×3 with stride 1 and padding 1 are Winograd's, and here. Weights are read as they lie in their file.
#include "kernels.h"
#include "linear.h"
#include "scratch.h"
#include "winograd.h"

namespace {

constexpr const char* name = "Conv";

using winograd::Kernels;
using winograd::kPoints;
using winograd::Shape;

// Where an image has fewer tiles, transforming the weights costs more than it saves.
constexpr int64_t kFewTiles = 12;

constexpr int64_t kGroups = 2;                  // of as many tiles as there are lanes, whose points are in the processor's cache at a time
constexpr int64_t kSharedGroups = 8;            // up to which all tasks share all points
constexpr int64_t kInputsAtOnce = 64;           // whose weights are transformed and used at a time, where there are few tiles
constexpr int64_t kPanelsFloats = 4 << 20;      // of the transformed weights that are kept at a time

Pool panels_pool, products_pool;

// Run is the work of one run in tasks, which are members of it.
struct Run {
  const Kernels& kernels;
  Shape shape;
  const float *x, *weight, *bias;
  float* y;
  float *panels = nullptr, *points = nullptr;  // that all tasks share
  int64_t first_panel = 0, panel_count = 0;    // of those
  std::atomic<bool> failed{false};             // memory is short

  const int64_t lanes = balanced(shape.tiles(), kernels.lanes), groups = (shape.tiles() + lanes - 1) / lanes;
  const int64_t panel_floats = kPoints * shape.in * kPanel, points_floats = kPoints * shape.in * kernels.lanes;

  int64_t count(int64_t group) const { return std::min(lanes, shape.tiles() - group * lanes); }

  // Inputs [from, to) of a panel's weights.
  void transform_weight(int64_t panel, int64_t from, int64_t to, float* made) {
    kernels.transform_weight(weight + panel * kPanel * shape.in * 9, shape.in, from, to, made);
  }
  void multiply(int64_t group, int64_t from, int64_t to, int64_t channels, const float* panels, const float* points, float* products) {
    kernels.multiply(shape.in, from, to, channels, panels, points, count(group), products);
  }
  void transform_output(int64_t group, int64_t channel, int64_t channels, const float* products) {
    kernels.transform_output(shape, products, bias, channel, channels, group * lanes, count(group), y);
  }

  // With few tiles the points are all made at first, by groups and quarters of the channels.
  void share_points(size_t task) {
    const int64_t group = task / 4, quarter = task % 4;
    const int64_t from = shape.in * quarter / 4, to = shape.in * (quarter + 1) / 4;
    kernels.transform_input(shape, x, group * lanes, count(group), from, to, points + group * points_floats);
  }
  // Weights are then transformed for some inputs at a time and used while they are in the processor's cache.
  void compute_channels(size_t task) {
    const int64_t channel = task * kOutputs, channels = std::min(kOutputs, shape.out - channel), each = kernels.products_floats();
    Buffer panels(panels_pool, kPoints * kInputsAtOnce * channels), products(products_pool, groups * each);
    if (!panels.data() || !products.data()) return void(failed = true);
    for (int64_t from = 0; from < shape.in; from += kInputsAtOnce) {
      const int64_t to = std::min(from + kInputsAtOnce, shape.in);
      for (int64_t o = 0; o < channels; o += kPanel) transform_weight((channel + o) / kPanel, from, to, panels.data() + o * kPoints * (to - from));
      for (int64_t g = 0; g < groups; g++) multiply(g, from, to, channels, panels.data(), points + g * points_floats, products.data() + g * each);
    }
    for (int64_t g = 0; g < groups; g++) transform_output(g, channel, channels, products.data() + g * each);
  }

  // With many tiles the panels are made at first, as many as there is memory for.
  void share_panel(size_t i) { transform_weight(first_panel + i, 0, shape.in, panels + i * panel_floats); }
  // A task makes the points of its groups and uses them for all those panels.
  void compute_groups(size_t task) {
    Buffer made(points_pool, kGroups * points_floats), products(products_pool, kernels.products_floats());
    if (!made.data() || !products.data()) return void(failed = true);
    const int64_t first = task * kGroups, last = std::min(first + kGroups, groups);
    for (int64_t g = first; g < last; g++)
      kernels.transform_input(shape, x, g * lanes, count(g), 0, shape.in, made.data() + (g - first) * points_floats);
    for (int64_t o = 0; o < panel_count * kPanel; o += kOutputs) {
      const int64_t channels = std::min(kOutputs, panel_count * kPanel - o);
      for (int64_t g = first; g < last; g++) {
        multiply(g, 0, shape.in, channels, panels + o / kPanel * panel_floats, made.data() + (g - first) * points_floats, products.data());
        transform_output(g, first_panel * kPanel + o, channels, products.data());
      }
    }
  }
};

OrtStatus* convolve_few(OrtKernelContext* context, Run& run) {
  Buffer points(points_pool, run.groups * run.points_floats);
  if (!(run.points = points.data())) return out_of_memory(name);
  CHECK(parallel<&Run::share_points>(context, run, run.groups * 4));
  return parallel<&Run::compute_channels>(context, run, (run.shape.out + kOutputs - 1) / kOutputs);
}

OrtStatus* convolve_many(OrtKernelContext* context, Run& run) {
  const int64_t all = run.shape.out / kPanel, most = std::min(all, std::max<int64_t>(kPanelsFloats / run.panel_floats, 1));
  Buffer panels(panels_pool, most * run.panel_floats);
  if (!(run.panels = panels.data())) return out_of_memory(name);
  for (; run.first_panel < all; run.first_panel += most) {
    run.panel_count = std::min(most, all - run.first_panel);
    CHECK(parallel<&Run::share_panel>(context, run, run.panel_count));
    CHECK(parallel<&Run::compute_groups>(context, run, (run.groups + kGroups - 1) / kGroups));
  }
  return nullptr;
}

OrtStatus* convolve(OrtKernelContext* context, Run& run) {
  CHECK(run.groups <= kSharedGroups ? convolve_few(context, run) : convolve_many(context, run));
  return run.failed ? out_of_memory(name) : nullptr;
}

struct Conv {
  static constexpr const char* name = ::name;
  static constexpr size_t inputs = 3;
  static constexpr bool in_place = false;
  int64_t stride, pads[4];

  static OrtStatus* create(const OrtKernelInfo* info, void** kernel) {
    Conv c;
    size_t size = 4;
    CHECK(api->KernelInfoGetAttribute_int64(info, "stride", &c.stride));
    CHECK(api->KernelInfoGetAttributeArray_int64(info, "pads", c.pads, &size));
    *kernel = new Conv(c);
    return nullptr;
  }
  static void destroy(void* kernel) { delete static_cast<Conv*>(kernel); }

  bool is_winograd(const linear::Image& i) const {
    const bool same = stride == 1 && pads[0] == 1 && pads[1] == 1 && i.rows == i.height && i.columns == i.width;
    return same && i.kernel_height == 3 && i.kernel_width == 3 && (i.rows + 1) / 2 * ((i.columns + 1) / 2) >= kFewTiles;
  }

  static OrtStatus* compute(void* kernel, OrtKernelContext* context) { return static_cast<const Conv*>(kernel)->compute(context); }

  OrtStatus* compute(OrtKernelContext* context) const {
    Input x, weight, bias;
    CHECK(x.read(context, 0));
    CHECK(weight.read(context, 1));
    CHECK(bias.read(context, 2));
    const auto &in = x.dims, &w = weight.dims;
    if (in.size() != 4 || w.size() != 4 || w[1] != in[1] || w[0] % kPanel || bias.dims != std::vector<int64_t>{w[0]})
      return api->CreateStatus(ORT_INVALID_ARGUMENT, "Conv: input, weight and bias do not fit");
    const int64_t rows = (in[2] + pads[0] + pads[2] - w[2]) / stride + 1, columns = (in[3] + pads[1] + pads[3] - w[3]) / stride + 1;
    if (in[2] + pads[0] + pads[2] < w[2] || in[3] + pads[1] + pads[3] < w[3])
      return api->CreateStatus(ORT_INVALID_ARGUMENT, "Conv: the kernel is larger than the image");
    const int64_t result[] = {in[0], w[0], rows, columns};
    OrtValue* output;
    CHECK(api->KernelContext_GetOutput(context, 0, result, 4, &output));
    float* y;
    CHECK(api->GetTensorMutableData(output, reinterpret_cast<void**>(&y)));
    const linear::Image image{in[2], in[3], w[2], w[3], stride, pads[0], pads[1], rows, columns};
    if (!is_winograd(image)) return ::convolve(context, image, in[0], in[1], w[0], x.data, weight.data, bias.data, y);
    Run run{WIDEST(winograd), {in[0], in[1], w[0], in[2], in[3]}, x.data, weight.data, bias.data, y};
    return convolve(context, run);
  }

  static OrtStatus* infer(OrtShapeInferContext* context) {
    const OrtOpAttr *stride, *pads;
    Conv c;
    size_t size;
    std::vector<int64_t> w;
    CHECK(api->ShapeInferContext_GetAttribute(context, "stride", &stride));
    CHECK(api->ReadOpAttr(stride, ORT_OP_ATTR_INT, &c.stride, sizeof(c.stride), &size));
    CHECK(api->ShapeInferContext_GetAttribute(context, "pads", &pads));
    CHECK(api->ReadOpAttr(pads, ORT_OP_ATTR_INTS, c.pads, sizeof(c.pads), &size));
    CHECK(dims_of(context, 1, w, nullptr));
    const bool same = c.stride == 1 && w.size() == 4 && c.pads[0] + c.pads[2] + 1 == w[2] && c.pads[1] + c.pads[3] + 1 == w[3];
    return infer_like_first(context, 2, !same);
  }
};

}  // namespace

OrtCustomOp conv() { return operation<Conv>(); }
