// What the C++ files offer to Go. Tensors are gotch's; functions that return a message leave a new one in out and return null, or else
// the message, to be freed.
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// GroupNorm of a bfloat16 image with float32 weight and bias; the result has neighbouring channels.
char *likeness_group_norm(void **out, void *x, void *weight, void *bias, int64_t groups, double eps);
// The image with its channels as neighbours in memory.
char *likeness_channels_last(void **out, void *x);
// x in bfloat16; of four axes, with neighbouring channels.
char *likeness_half(void **out, void *x);
// The 3×3 convolution of a float32 image with stride 1 and padding 1; bias may be null.
char *likeness_conv3x3(void **out, void *x, void *weight, void *bias);
// Scaled dot-product attention of [B, heads, N, d]; mask may be null.
char *likeness_attention(void **out, void *query, void *key, void *value, void *mask);
// A block of n inputs, whose result was computed without a graph, with a graph for all of it: the backward pass
// computes the block again, by handle (likenessRecompute).
char *likeness_checkpoint(void **out, void *result, void **inputs, int64_t n, uintptr_t handle);
// A leaf's gradient is none afterwards: the next one takes its place, where one of zeros would be read and added to.
void likeness_forget_gradient(void *leaf);

// Whether operations on x are recorded.
int likeness_requires_grad(void *x);

// What Go offers to them: the block of the handle on new inputs, with a graph. It returns a message or null.
extern char *likenessRecompute(uintptr_t handle, void **inputs, void **out);

#ifdef __cplusplus
}
#endif
