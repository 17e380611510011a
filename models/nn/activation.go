package nn

import "likeness/models/op"

// Activation applies an activation by the name that published configurations use.
func Activation(s op.Scope, name string, x op.Tensor) op.Tensor {
	switch name {
	case "silu", "swish":
		return x.SiLU()
	case "gelu":
		return x.GELU()
	case "quick_gelu":
		return x.QuickGELU()
	}
	s.Fail("activation %q: known are silu, gelu, quick_gelu", name)
	return op.Tensor{}
}
