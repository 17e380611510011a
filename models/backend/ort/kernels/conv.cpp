// likeness.Conv: a convolution of x [B, in, H, W] by weight [out, in, h, w], out a multiple of 8, plus bias [out], with attributes stride and pads
// [top, left, bottom, right]. Those of 3×3 with stride 1 and padding 1 are Winograd's. Weights are read as they lie in their file.
#include "convolution.h"
#include "kernels.h"
#include "linear.h"

namespace {

struct Conv {
  static constexpr const char* name = "Conv";
  static constexpr size_t inputs = 3;
  static constexpr bool in_place = false;
  static constexpr size_t weights = 1;
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

  // The size of Winograd's tiles, 0 for another convolution.
  int64_t tile(const linear::Image& i) const {
    const bool same = stride == 1 && pads[0] == 1 && pads[1] == 1 && i.rows == i.height && i.columns == i.width;
    return same && i.kernel_height == 3 && i.kernel_width == 3 ? winograd::cheapest_tile(1, i.height, i.width) : 0;
  }

  static OrtStatus* compute(void* kernel, OrtKernelContext* context) { return static_cast<const Conv*>(kernel)->compute(context); }

  OrtStatus* compute(OrtKernelContext* context) const {
    Input x, weight, bias;
    CHECK(x.read(context, 0));
    CHECK(weight.read(context, 1, true));
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
    const int64_t tile = this->tile(image);
    if (!tile) return ::convolve(context, image, in[0], in[1], w[0], x.data, weight.weights(), bias.data, y);
    winograd::Convolution convolution{{in[0], in[1], w[0], in[2], in[3], tile}, x.data, weight.weights(), bias.data, y};
    Threads each{context};
    const bool done = convolution.run(each);
    return each.end(name, !done);
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
