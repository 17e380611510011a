// likeness.Linear: rows x [..., in] times weight [out, in], out a multiple of 8, plus bias [out]; likeness.LoRALinear, plus a low-rank change of each
// sample; and convolve, the same of what a convolution sees. Weights are read as they lie in their file.
#include "linear.h"

#include "kernels.h"
#include "pool.h"
#include "weights.h"

namespace {

constexpr int64_t kGroups = 4;        // of as many places as there are lanes, whose points are in the processor's cache at a time
constexpr int64_t kSharedGroups = 24;  // up to which all tasks share all points

// Change is what each sample, or all of them, adds: (x · down) · up.
struct Change {
  const float *down = nullptr, *up = nullptr;  // [batch, in, rank] and [batch, rank, out]
  int64_t rank = 0;
};

// Run is the work of one run in tasks, which are members of it.
struct Run {
  const char* name;
  const linear::Kernels& kernels;
  const linear::Image* image;  // null: rows
  const float* x;
  Weights weight;
  const float* bias;
  int64_t batch, places, channels, out;
  float* y;
  Change change{};
  float* points = nullptr;          // that all tasks share
  std::atomic<bool> failed{false};  // memory is short

  const int64_t lanes = balanced(places, kernels.lanes), groups_each = (places + lanes - 1) / lanes, groups = batch * groups_each;
  const int64_t in = image ? channels * image->taps() : channels, points_floats = (in + change.rank) * kernels.lanes;

  // Whose a group is, where it begins there and among all, and how many places it has.
  int64_t sample(int64_t group) const { return group / groups_each; }
  int64_t first(int64_t group) const { return group % groups_each * lanes; }
  int64_t row(int64_t group) const { return sample(group) * places + first(group); }
  int64_t count(int64_t group) const { return std::min(lanes, places - first(group)); }

  // Channels [from, to) of a group.
  void pack(int64_t group, int64_t from, int64_t to, float* points) {
    if (image)
      kernels.pack_image(x + sample(group) * channels * image->height * image->width, *image, first(group), count(group), from, to, points);
    else
      kernels.pack_rows(x + row(group) * in, in, count(group), from, to, points);
  }
  // What a group's change makes of its points, behind them.
  void lower(int64_t group, float* points) {
    kernels.compute_lower(change.down + sample(group) * in * change.rank, in, change.rank, points, count(group), points + in * kernels.lanes);
  }
  // All outputs from one on that are computed together; their weights are rows.
  void compute(int64_t output, const float* rows, int64_t group, const float* points) {
    const int64_t outputs = std::min(kOutputs, out - output);
    if (image)
      kernels.compute_image(rows, bias, in, places, points, output, outputs, count(group), y + sample(group) * out * places + first(group));
    else
      kernels.compute_rows(rows, bias, in, out, change.rank, change.up + sample(group) * change.rank * out, points, output, outputs, count(group),
                           y + row(group) * out);
  }

  // With few places the points are all made at first, by groups and quarters of the channels.
  void share_points(int64_t task) {
    const int64_t group = task / 4, quarter = task % 4;
    pack(group, channels * quarter / 4, channels * (quarter + 1) / 4, points + group * points_floats);
  }
  void compute_outputs(int64_t task) {
    const int64_t output = task * kOutputs;
    const Widened rows(weight, output * in, std::min(kOutputs, out - output) * in);
    if (!rows.data) return void(failed = true);
    for (int64_t g = 0; g < groups; g++) compute(output, rows.data, g, points + g * points_floats);
  }

  // With many places a task makes the points of its groups.
  void compute_groups(int64_t task) {
    Buffer made(points_pool, kGroups * points_floats);
    if (!made.data()) return void(failed = true);
    const int64_t begin = task * kGroups, end = std::min(begin + kGroups, groups);
    for (int64_t g = begin; g < end; g++) {
      float* own = made.data() + (g - begin) * points_floats;
      pack(g, 0, channels, own);
      if (change.rank) lower(g, own);
    }
    for (int64_t o = 0; o < out; o += kOutputs) {
      const Widened rows(weight, o * in, std::min(kOutputs, out - o) * in);
      if (!rows.data) return void(failed = true);
      for (int64_t g = begin; g < end; g++) compute(o, rows.data, g, made.data() + (g - begin) * points_floats);
    }
  }
};

OrtStatus* multiply(OrtKernelContext* context, Run& run) {
  Threads each{context};
  if (run.groups > kSharedGroups) {
    each((run.groups + kGroups - 1) / kGroups, [&](int64_t task) { run.compute_groups(task); });
    return each.end(run.name, run.failed);
  }
  Buffer points(points_pool, run.groups * run.points_floats);
  if (!(run.points = points.data())) return out_of_memory(run.name);
  each(run.groups * 4, [&](int64_t task) { run.share_points(task); });
  if (run.change.rank) each(run.groups, [&](int64_t g) { run.lower(g, run.points + g * run.points_floats); });
  each((run.out + kOutputs - 1) / kOutputs, [&](int64_t task) { run.compute_outputs(task); });
  return each.end(run.name, run.failed);
}

template <bool Changed>
struct Linear : NoAttributes {
  static constexpr const char* name = Changed ? "LoRALinear" : "Linear";
  static constexpr size_t inputs = Changed ? 5 : 3;
  static constexpr bool in_place = false;
  static constexpr size_t weights = 1;

  static OrtStatus* compute(void*, OrtKernelContext* context) {
    Input x, weight, bias, down, up;
    CHECK(x.read(context, 0));
    CHECK(weight.read(context, 1, true));
    CHECK(bias.read(context, 2));
    auto dims = x.dims;
    const auto& w = weight.dims;
    if (dims.size() < 2 || w.size() != 2 || dims.back() != w[1] || w[0] % kPanel || bias.dims != std::vector<int64_t>{w[0]})
      return api->CreateStatus(ORT_INVALID_ARGUMENT, "Linear: input, weight and bias do not fit");
    int64_t batch = 1;
    Change change;
    if constexpr (Changed) {
      CHECK(down.read(context, 3));
      CHECK(up.read(context, 4));
      if (down.dims.size() != 3 || down.dims[1] != w[1] || up.dims != std::vector<int64_t>{down.dims[0], down.dims[2], w[0]} ||
          (down.dims[0] != 1 && down.dims[0] != dims[0]))
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "LoRALinear: down and up do not fit the layer");
      batch = std::max<int64_t>(down.dims[0], 1);
      change = {down.data, up.data, down.dims[2]};
    }
    dims.back() = w[0];
    OrtValue* output;
    CHECK(api->KernelContext_GetOutput(context, 0, dims.data(), dims.size(), &output));
    float* y;
    CHECK(api->GetTensorMutableData(output, reinterpret_cast<void**>(&y)));
    Run run{name, WIDEST(linear), nullptr, x.data, weight.weights(), bias.data, batch, x.rows() / batch, w[1], w[0], y, change};
    return multiply(context, run);
  }

  static OrtStatus* infer(OrtShapeInferContext* context) { return infer_like_first(context, 0); }
};

}  // namespace

OrtStatus* convolve(OrtKernelContext* context, const linear::Image& image, int64_t batch, int64_t channels, int64_t out, const float* x,
                    const Weights& weight, const float* bias, float* y) {
  Run run{"Conv", WIDEST(linear), &image, x, weight, bias, batch, image.places(), channels, out, y};
  return multiply(context, run);
}

OrtCustomOp linear_layer() { return operation<Linear<false>>(); }
OrtCustomOp lora_linear() { return operation<Linear<true>>(); }
