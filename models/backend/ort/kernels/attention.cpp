// likeness.Attention: query [B, N, heads·size], key and value [B, L, heads·size], size a multiple of 8, with attribute heads.
#include "attention.h"

#include "kernels.h"
#include "pool.h"

namespace {

constexpr int64_t kGroups = 8;  // of queries, which share the copies of keys and values

Pool states_pool;

struct Attention {
  static constexpr const char* name = "Attention";
  static constexpr size_t inputs = 3;
  static constexpr bool in_place = false;
  static constexpr size_t weights = kNone;
  int64_t heads;

  static OrtStatus* create(const OrtKernelInfo* info, void** kernel) {
    Attention a;
    CHECK(api->KernelInfoGetAttribute_int64(info, "heads", &a.heads));
    *kernel = new Attention(a);
    return nullptr;
  }
  static void destroy(void* kernel) { delete static_cast<Attention*>(kernel); }

  static OrtStatus* compute(void* kernel, OrtKernelContext* context) { return static_cast<const Attention*>(kernel)->compute(context); }

  OrtStatus* compute(OrtKernelContext* context) const {
    Input query, key, value;
    CHECK(query.read(context, 0));
    CHECK(key.read(context, 1));
    CHECK(value.read(context, 2));
    const auto &q = query.dims, &k = key.dims;
    if (q.size() != 3 || k.size() != 3 || value.dims != k || q[0] != k[0] || q[2] != k[2] || q[2] % (heads * kPanel) || k[1] == 0)
      return api->CreateStatus(ORT_INVALID_ARGUMENT, "Attention: query, key and value do not fit");
    OrtValue* output;
    float* y;
    CHECK(api->KernelContext_GetOutput(context, 0, q.data(), 3, &output));
    CHECK(api->GetTensorMutableData(output, reinterpret_cast<void**>(&y)));
    const attention::Kernels& kernels = WIDEST(attention);
    const int64_t width = q[2], size = width / heads, lanes = balanced(q[1], kernels.lanes), some = kGroups * lanes, parts = (q[1] + some - 1) / some;
    std::atomic<bool> failed{false};
    Threads each{context};
    each(q[0] * heads * parts, [&](int64_t task) {
      const int64_t batch = task / parts / heads, column = task / parts % heads * size, first = task % parts * some;
      Buffer space(states_pool, kernels.floats(size, kGroups));
      if (!space.data()) return void(failed = true);
      const int64_t own = batch * q[1] * width + column, others = batch * k[1] * width + column;
      kernels.attend({query.data + own, key.data + others, value.data + others, y + own, q[1], k[1], size, width}, first,
                     std::min(first + some, q[1]), lanes, space.data());
    });
    return each.end(name, failed);
  }

  static OrtStatus* infer(OrtShapeInferContext* context) { return infer_like_first(context, kNoAxis); }
};

}  // namespace

OrtCustomOp attention_op() { return operation<Attention>(); }
