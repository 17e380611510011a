package op

import "math"

// Tensor is a value in the model being built. Its methods panic with *[Error], which [Build] turns into an error.
type Tensor struct {
	b    Builder
	path string
	v    Value
}

// Value returns the Builder's handle.
func (t Tensor) Value() Value { return t.v }

// Ok reports whether t is a tensor, rather than the zero Tensor that optional arguments are left at.
func (t Tensor) Ok() bool { return t.b != nil }

// wrap gives v the path of t. Operations with weights are wrapped by the weight, so that errors name the module.
func (t Tensor) wrap(name string, v Value, err error) Tensor {
	if err != nil {
		panic(&Error{Path: t.path, Op: name, Err: err})
	}
	return Tensor{t.b, t.path, v}
}

func (t Tensor) unary(k UnaryOp) Tensor {
	v, err := t.b.Unary(k, t.v)
	return t.wrap(k.String(), v, err)
}

func (t Tensor) binary(k BinaryOp, u Tensor) Tensor {
	v, err := t.b.Binary(k, t.v, u.v)
	return t.wrap(k.String(), v, err)
}

// Neg is -t.
func (t Tensor) Neg() Tensor { return t.unary(Neg) }

// Exp is e^t.
func (t Tensor) Exp() Tensor { return t.unary(Exp) }

// Log is the natural logarithm.
func (t Tensor) Log() Tensor { return t.unary(Log) }

// Sqrt is the square root.
func (t Tensor) Sqrt() Tensor { return t.unary(Sqrt) }

// Sin is the sine of radians.
func (t Tensor) Sin() Tensor { return t.unary(Sin) }

// Cos is the cosine of radians.
func (t Tensor) Cos() Tensor { return t.unary(Cos) }

// Tanh is the hyperbolic tangent.
func (t Tensor) Tanh() Tensor { return t.unary(Tanh) }

// Sigmoid is 1/(1+e^-t).
func (t Tensor) Sigmoid() Tensor { return t.unary(Sigmoid) }

// Erf is the error function.
func (t Tensor) Erf() Tensor { return t.unary(Erf) }

// Add is t + u, broadcast.
func (t Tensor) Add(u Tensor) Tensor { return t.binary(Add, u) }

// Sub is t - u, broadcast.
func (t Tensor) Sub(u Tensor) Tensor { return t.binary(Sub, u) }

// Mul is t · u, element-wise, broadcast.
func (t Tensor) Mul(u Tensor) Tensor { return t.binary(Mul, u) }

// Div is t / u, broadcast.
func (t Tensor) Div(u Tensor) Tensor { return t.binary(Div, u) }

// Less is t < u, broadcast.
func (t Tensor) Less(u Tensor) Tensor { return t.binary(Less, u) }

// Equal is t == u, broadcast.
func (t Tensor) Equal(u Tensor) Tensor { return t.binary(Equal, u) }

// Scale is t · s.
func (t Tensor) Scale(s float64) Tensor { return t.Mul(t.scalar(s)) }

// Offset is t + s.
func (t Tensor) Offset(s float64) Tensor { return t.Add(t.scalar(s)) }

func (t Tensor) scalar(s float64) Tensor {
	v, err := t.b.Const([]float32{float32(s)})
	return t.wrap("Const", v, err)
}

// MatMul is the batched matrix product.
func (t Tensor) MatMul(u Tensor) Tensor {
	v, err := t.b.MatMul(t.v, u.v)
	return t.wrap("MatMul", v, err)
}

// Linear is t·weightᵀ + bias; bias may be the zero Tensor.
func (t Tensor) Linear(weight, bias Tensor) Tensor {
	if f, ok := t.b.(Linear); ok {
		v, err := f.Linear(t.v, weight.v, bias.v)
		return weight.wrap("Linear", v, err)
	}
	y := t.MatMul(weight.Transpose(1, 0))
	if bias.Ok() {
		y = y.Add(bias)
	}
	return y
}

// LoRALinear is Linear plus a low-rank change of each sample, (t · down) · up.
func (t Tensor) LoRALinear(weight, bias, down, up Tensor) Tensor {
	if f, ok := t.b.(LoRALinear); ok {
		v, err := f.LoRALinear(t.v, weight.v, bias.v, down.v, up.v)
		return weight.wrap("LoRALinear", v, err)
	}
	return t.Linear(weight, bias).Add(t.MatMul(down).MatMul(up))
}

// Conv2D is a 2-D convolution; bias may be the zero Tensor.
func (t Tensor) Conv2D(weight, bias Tensor, stride, padding int) Tensor {
	v, err := t.b.Conv2D(t.v, weight.v, bias.v, stride, padding)
	return weight.wrap("Conv2D", v, err)
}

// UpsampleConv2D doubles the last two axes, nearest neighbour, and convolves with a 3×3 weight, stride 1 and padding 1; bias may be the
// zero Tensor.
func (t Tensor) UpsampleConv2D(weight, bias Tensor) Tensor {
	if f, ok := t.b.(UpsampleConv2D); ok {
		v, err := f.UpsampleConv2D(t.v, weight.v, bias.v)
		return weight.wrap("UpsampleConv2D", v, err)
	}
	return t.Upsample2x().Conv2D(weight, bias, 1, 1)
}

// GroupNorm normalises [B, C, ...] over groups of channels.
func (t Tensor) GroupNorm(groups int, weight, bias Tensor, eps float64) Tensor {
	v, err := t.b.GroupNorm(t.v, groups, weight.v, bias.v, eps)
	return weight.wrap("GroupNorm", v, err)
}

// LayerNorm normalises over the last axis.
func (t Tensor) LayerNorm(weight, bias Tensor, eps float64) Tensor {
	v, err := t.b.LayerNorm(t.v, weight.v, bias.v, eps)
	return weight.wrap("LayerNorm", v, err)
}

// Softmax normalises along axis.
func (t Tensor) Softmax(axis int) Tensor {
	v, err := t.b.Softmax(t.v, axis)
	return t.wrap("Softmax", v, err)
}

// Mean is the mean over axes, kept with size 1.
func (t Tensor) Mean(axes ...int) Tensor {
	v, err := t.b.ReduceMean(t.v, axes...)
	return t.wrap("ReduceMean", v, err)
}

// Max is the maximum over axes, kept with size 1.
func (t Tensor) Max(axes ...int) Tensor {
	v, err := t.b.ReduceMax(t.v, axes...)
	return t.wrap("ReduceMax", v, err)
}

// ArgMax is the index of the first maximum along axis.
func (t Tensor) ArgMax(axis int) Tensor {
	v, err := t.b.ArgMax(t.v, axis)
	return t.wrap("ArgMax", v, err)
}

// Where picks a where t is true and b elsewhere.
func (t Tensor) Where(a, b Tensor) Tensor {
	v, err := t.b.Where(t.v, a.v, b.v)
	return t.wrap("Where", v, err)
}

// Reshape gives t the dims; 0 copies a dimension of t, one -1 is inferred.
func (t Tensor) Reshape(dims ...int) Tensor {
	v, err := t.b.Reshape(t.v, nil, dims...)
	return t.wrap("Reshape", v, err)
}

// ReshapeLike gives t the dims; 0 copies a dimension of like, one -1 is inferred.
func (t Tensor) ReshapeLike(like Tensor, dims ...int) Tensor {
	v, err := t.b.Reshape(t.v, like.v, dims...)
	return t.wrap("Reshape", v, err)
}

// Transpose permutes the axes.
func (t Tensor) Transpose(perm ...int) Tensor {
	v, err := t.b.Transpose(t.v, perm...)
	return t.wrap("Transpose", v, err)
}

// Concat joins t and us along axis.
func (t Tensor) Concat(axis int, us ...Tensor) Tensor {
	xs := []Value{t.v}
	for _, u := range us {
		xs = append(xs, u.v)
	}
	v, err := t.b.Concat(axis, xs...)
	return t.wrap("Concat", v, err)
}

// Slice takes [start, end) along axis.
func (t Tensor) Slice(axis, start, end int) Tensor {
	v, err := t.b.Slice(t.v, axis, start, end)
	return t.wrap("Slice", v, err)
}

// Chunk cuts n equal parts of the given size along axis.
func (t Tensor) Chunk(axis, n, size int) []Tensor {
	parts := make([]Tensor, n)
	for i := range parts {
		parts[i] = t.Slice(axis, i*size, (i+1)*size)
	}
	return parts
}

// Gather takes rows of t by indices.
func (t Tensor) Gather(indices Tensor) Tensor {
	v, err := t.b.Gather(t.v, indices.v)
	return t.wrap("Gather", v, err)
}

// Expand broadcasts t to the dims of like.
func (t Tensor) Expand(like Tensor) Tensor {
	v, err := t.b.Expand(t.v, like.v)
	return t.wrap("Expand", v, err)
}

// Pad adds zeros to the last two axes.
func (t Tensor) Pad(left, right, top, bottom int) Tensor {
	v, err := t.b.Pad(t.v, left, right, top, bottom)
	return t.wrap("Pad", v, err)
}

// Upsample2x doubles the last two axes, nearest neighbour.
func (t Tensor) Upsample2x() Tensor {
	v, err := t.b.Upsample2x(t.v)
	return t.wrap("Upsample2x", v, err)
}

// Cast converts the element type.
func (t Tensor) Cast(dt DType) Tensor {
	v, err := t.b.Cast(t.v, dt)
	return t.wrap("Cast", v, err)
}

// SiLU is t·sigmoid(t).
func (t Tensor) SiLU() Tensor {
	if f, ok := t.b.(SiLU); ok {
		v, err := f.SiLU(t.v)
		return t.wrap("SiLU", v, err)
	}
	return t.Mul(t.Sigmoid())
}

// GELU is the exact form, t·Φ(t).
func (t Tensor) GELU() Tensor {
	if f, ok := t.b.(GELU); ok {
		v, err := f.GELU(t.v)
		return t.wrap("GELU", v, err)
	}
	return t.Mul(t.Scale(math.Sqrt2 / 2).Erf().Offset(1)).Scale(0.5)
}

// GEGLU is the first half of the last axis, which has 2·size, times GELU of the second.
func (t Tensor) GEGLU(size int) Tensor {
	if f, ok := t.b.(GEGLU); ok {
		v, err := f.GEGLU(t.v, size)
		return t.wrap("GEGLU", v, err)
	}
	parts := t.Chunk(-1, 2, size)
	return parts[0].Mul(parts[1].GELU())
}

// QuickGELU is t·sigmoid(1.702·t), the activation of OpenAI's CLIP.
func (t Tensor) QuickGELU() Tensor { return t.Mul(t.Scale(1.702).Sigmoid()) }

// Attention is scaled dot-product attention with t as query [B, N, heads·headDim], key and value [B, L, heads·headDim];
// mask is additive, broadcast to [B, heads, N, L], or the zero Tensor.
func (t Tensor) Attention(key, value, mask Tensor, heads, headDim int) Tensor {
	if f, ok := t.b.(Attention); ok {
		v, err := f.Attention(t.v, key.v, value.v, mask.v, heads, headDim)
		return t.wrap("Attention", v, err)
	}
	q := t.Reshape(0, 0, heads, headDim).Transpose(0, 2, 1, 3)     // [B, heads, N, d]
	k := key.Reshape(0, 0, heads, headDim).Transpose(0, 2, 3, 1)   // [B, heads, d, L]
	v := value.Reshape(0, 0, heads, headDim).Transpose(0, 2, 1, 3) // [B, heads, L, d]
	scores := q.MatMul(k).Scale(1 / math.Sqrt(float64(headDim)))   // [B, heads, N, L]
	if mask.Ok() {
		scores = scores.Add(mask)
	}
	return scores.Softmax(-1).MatMul(v).Transpose(0, 2, 1, 3).Reshape(0, 0, heads*headDim)
}
