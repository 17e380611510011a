// Package op is the small language that models are written in.
//
// A model is a plain function from a [Scope] to named [Tensor]s. The function calls a [Builder], and the Builder decides what that means:
// record shapes (trace), compute in plain Go (ref), emit an ONNX graph (onnx) or run on libtorch (torch).
package op

// Value is a Builder's own handle of a tensor.
type Value any

// DType is the element type of a tensor as a model sees it. A Builder may store and compute Float32 tensors in fewer bits.
type DType int

// The element types.
const (
	Float32 DType = iota
	Int64
	Bool
)

// String returns the type's name.
func (d DType) String() string { return [...]string{"float32", "int64", "bool"}[d] }

// UnaryOp is an element-wise function of one float tensor.
type UnaryOp int

// The unary functions.
const (
	Neg UnaryOp = iota
	Exp
	Log
	Sqrt
	Sin
	Cos
	Tanh
	Sigmoid
	Erf
)

// String returns the function's name.
func (k UnaryOp) String() string {
	return [...]string{"Neg", "Exp", "Log", "Sqrt", "Sin", "Cos", "Tanh", "Sigmoid", "Erf"}[k]
}

// BinaryOp is an element-wise function of two tensors of one type, broadcast as NumPy does.
type BinaryOp int

// The binary functions. Less and Equal return Bool.
const (
	Add BinaryOp = iota
	Sub
	Mul
	Div
	Less
	Equal
)

// String returns the function's name.
func (k BinaryOp) String() string {
	return [...]string{"Add", "Sub", "Mul", "Div", "Less", "Equal"}[k]
}

// Builder is the set of primitives. Layout is PyTorch's: images are [B, C, H, W], linear weights [out, in], convolution weights [out, in, kh, kw].
// Axes may be negative, counting from the end. Every method returns an error that says what is wrong with its arguments; [Tensor] adds the path.
//
// A primitive is here because it cannot be composed of others, or because the composite was measured to be slow.
type Builder interface {
	// Input declares a named input of a run; -1 is a symbolic dimension. The same name twice is the same input.
	Input(name string, dt DType, dims ...int) (Value, error)
	// Weight is a float tensor of the checkpoint, under its full dotted name.
	Weight(name string, dims ...int) (Value, error)
	// Const is a float tensor known now; no dims make a scalar.
	Const(v []float32, dims ...int) (Value, error)

	Unary(k UnaryOp, x Value) (Value, error)
	Binary(k BinaryOp, a, b Value) (Value, error)

	// MatMul multiplies [..., M, K] by [..., K, N], broadcasting the leading dimensions.
	MatMul(a, b Value) (Value, error)
	// Conv2D is a 2-D cross-correlation with equal stride and zero padding on both axes; bias [out] may be nil.
	Conv2D(x, weight, bias Value, stride, padding int) (Value, error)
	// GroupNorm normalises [B, C, ...] over each of the groups; weight and bias are [C].
	GroupNorm(x Value, groups int, weight, bias Value, eps float64) (Value, error)
	// LayerNorm normalises over the last axis; weight and bias are [C].
	LayerNorm(x, weight, bias Value, eps float64) (Value, error)
	Softmax(x Value, axis int) (Value, error)

	// ReduceMean and ReduceMax keep the reduced axes with size 1.
	ReduceMean(x Value, axes ...int) (Value, error)
	ReduceMax(x Value, axes ...int) (Value, error)
	// ArgMax returns the Int64 index of the first maximum along axis, which is removed.
	ArgMax(x Value, axis int) (Value, error)
	// Where picks a where cond is true, b elsewhere, broadcasting.
	Where(cond, a, b Value) (Value, error)

	// Reshape gives x the dims; 0 copies the dimension at the same place of like (of x where like is nil), one -1 is inferred.
	Reshape(x, like Value, dims ...int) (Value, error)
	Transpose(x Value, perm ...int) (Value, error)
	Concat(axis int, xs ...Value) (Value, error)
	// Slice takes [start, end) along axis.
	Slice(x Value, axis, start, end int) (Value, error)
	// Gather takes rows of x along axis 0 by Int64 indices of any shape: the result is [indices..., x.dims[1:]...].
	Gather(x, indices Value) (Value, error)
	// Expand broadcasts x, whose dims are 1 or already equal, to the dims of like.
	Expand(x, like Value) (Value, error)
	// Pad adds zeros to the last two axes.
	Pad(x Value, left, right, top, bottom int) (Value, error)
	// Upsample2x doubles the last two axes, nearest neighbour.
	Upsample2x(x Value) (Value, error)
	Cast(x Value, dt DType) (Value, error)
}

// The fused forms of composites. A Builder that has a kernel for one implements its interface; otherwise the composite is used.
type (
	// Linear is x·Wᵀ + b: x [..., in], weight [out, in], bias [out] or nil.
	Linear interface {
		Linear(x, weight, bias Value) (Value, error)
	}
	// LoRALinear is x·Wᵀ + b + (x · down) · up: x [B, N, in], down [B or 1, in, rank], up [B or 1, rank, out].
	LoRALinear interface {
		LoRALinear(x, weight, bias, down, up Value) (Value, error)
	}
	// UpsampleConv2D is Conv2D of Upsample2x, with stride 1, padding 1 and a 3×3 weight.
	UpsampleConv2D interface {
		UpsampleConv2D(x, weight, bias Value) (Value, error)
	}
	// SiLU is x·sigmoid(x).
	SiLU interface {
		SiLU(x Value) (Value, error)
	}
	// GEGLU is the first half of the last axis, which has 2·size, times GELU of the second.
	GEGLU interface {
		GEGLU(x Value, size int) (Value, error)
	}
	// GELU is the exact (erf) form.
	GELU interface {
		GELU(x Value) (Value, error)
	}
	// Attention is scaled dot-product attention over heads: query [B, N, heads·d], key and value [B, L, heads·d], mask additive,
	// broadcast to [B, heads, N, L], or nil; the result is [B, N, heads·d]. The scale is 1/√d, where headDim is d.
	Attention interface {
		Attention(query, key, value, mask Value, heads, headDim int) (Value, error)
	}
)
