// What the operators of domain likeness share. Each is for the CPU, has three inputs and an output, all of float32, and is a struct of
//   name           the operator's
//   create         what a node needs, made of its attributes; destroy frees it
//   compute        one run
//   infer          the dims of the output, where they are known before a run
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "onnxruntime_c_api.h"

extern const OrtApi* api;

#define CHECK(call) \
  if (OrtStatus* status = (call)) return status

// Input is one of a run's three.
struct Input {
  const OrtValue* value;
  std::vector<int64_t> dims;
  const float* data;

  OrtStatus* read(OrtKernelContext* context, size_t index) {
    CHECK(api->KernelContext_GetInput(context, index, &value));
    OrtTensorTypeAndShapeInfo* info;
    CHECK(api->GetTensorTypeAndShape(value, &info));
    size_t rank = 0;
    OrtStatus* status = api->GetDimensionsCount(info, &rank);
    dims.resize(rank);
    if (!status) status = api->GetDimensions(info, dims.data(), rank);
    api->ReleaseTensorTypeAndShapeInfo(info);
    if (status) return status;
    return api->GetTensorMutableData(const_cast<OrtValue*>(value), reinterpret_cast<void**>(const_cast<float**>(&data)));
  }
};

// The output has the dims of the first input, but channels [B, channels, ...] where these are not negative.
static inline OrtStatus* infer_like_first(OrtShapeInferContext* context, int64_t channels) {
  OrtTensorTypeAndShapeInfo *x, *y;
  CHECK(api->ShapeInferContext_GetInputTypeShape(context, 0, &x));
  size_t rank = 0;
  CHECK(api->GetDimensionsCount(x, &rank));
  if (rank < 2) return nullptr;  // unknown
  std::vector<int64_t> dims(rank);
  std::vector<const char*> symbols(rank);
  std::vector<std::string> names(rank);
  CHECK(api->GetDimensions(x, dims.data(), rank));
  CHECK(api->GetSymbolicDimensions(x, symbols.data(), rank));
  if (channels >= 0) dims[1] = channels, symbols[1] = "";
  static std::atomic<int> made{0};
  for (size_t i = 0; i < rank; i++)
    if (dims[i] < 0 && !*symbols[i]) {  // an unknown size needs a name, which no other has
      names[i] = "/likeness_" + std::to_string(made++);
      symbols[i] = names[i].c_str();
    }
  CHECK(api->CreateTensorTypeAndShapeInfo(&y));
  OrtStatus* status = api->SetTensorElementType(y, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
  if (!status) status = api->SetDimensions(y, dims.data(), rank);
  if (!status) status = api->SetSymbolicDimensions(y, symbols.data(), rank);
  if (!status) status = api->ShapeInferContext_SetOutputTypeShape(context, 0, y);
  api->ReleaseTensorTypeAndShapeInfo(y);
  return status;
}

template <class Operator>
OrtCustomOp operation() {
  OrtCustomOp op{};
  op.version = ORT_API_VERSION;
  op.GetName = [](const OrtCustomOp*) { return Operator::name; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU's
  op.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 3; };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  op.GetInputType = op.GetOutputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
  op.GetInputCharacteristic = op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  op.GetStartVersion = op.GetEndVersion = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = [](const OrtCustomOp*, const OrtApi*, const OrtKernelInfo* info, void** kernel) { return Operator::create(info, kernel); };
  op.KernelComputeV2 = Operator::compute;
  op.KernelDestroy = Operator::destroy;
  op.InferOutputShapeFn = [](const OrtCustomOp*, OrtShapeInferContext* context) { return Operator::infer(context); };
  return op;
}

// The operators, of conv.cpp and norm.cpp.
OrtCustomOp conv();
OrtCustomOp group_norm();
OrtCustomOp layer_norm();
