package evaluate

import (
	"likeness/models/nn"
	"likeness/models/op"
	"likeness/training/portraits"
)

const (
	embeddingSize = 128
	hiddenSize    = 192
	groups        = 8
	eps           = 1e-5
)

// labels is the number of values of all facets of a context.
func labels() int {
	n := 0
	for _, facet := range portraits.LabelNames {
		n += len(facet.Values)
	}
	return n
}

// judgeNetwork is the judge: pictures [B, 3, 128, 128] in -1..1 → embedding [B, 128] of unit length, of who is in the picture, and logits
// [B, labels()], facet after facet, of the context. The two have no weight in common.
func judgeNetwork(s op.Scope) map[string]op.Tensor {
	_, embedding := recogniser(s)
	return map[string]op.Tensor{"embedding": embedding, "logits": classifier(s)}
}

func pictures(s op.Scope) op.Tensor {
	return s.Input("pictures", op.Float32, -1, 3, portraits.Size, portraits.Size)
}

// recogniser returns the embedding and what it is made from, known [B, hiddenSize].
func recogniser(s op.Scope) (known, embedding op.Tensor) {
	s = s.At("recogniser")
	known = trunk(s, nn.Conv2D(s.At("stem"), pictures(s), 3, 64, 4, 4, 0))
	return known, unit(nn.Linear(s.At("out"), known, hiddenSize, embeddingSize, true), embeddingSize)
}

// classifier has a finer stem than the recogniser: an expression is a matter of few pixels.
func classifier(s op.Scope) op.Tensor {
	s = s.At("classifier")
	x := norm(s.At("norm0"), nn.Conv2D(s.At("stem0"), pictures(s), 3, 32, 3, 2, 1), 32) // [B, 32, 64, 64]
	return nn.Linear(s.At("out"), trunk(s, nn.Conv2D(s.At("stem"), x, 32, 64, 3, 2, 1)), hiddenSize, labels(), true)
}

// trunk is a small ResNet that keeps places apart until the last layer, so that it can see where things are: [B, 64, 32, 32] → [B, hiddenSize].
func trunk(s op.Scope, x op.Tensor) op.Tensor {
	x = nn.Conv2D(s.At("down1"), norm(s.At("norm1"), x, 64), 64, 96, 3, 2, 1) // [B, 96, 16, 16]
	x = norm(s.At("norm2"), resnet(s.At("resnet1"), x, 96), 96)
	x = nn.Conv2D(s.At("down2"), x, 96, 128, 3, 2, 1) // [B, 128, 8, 8]
	x = norm(s.At("norm3"), resnet(s.At("resnet2"), x, 128), 128)
	x = nn.Conv2D(s.At("narrow"), x, 128, 24, 1, 1, 0).Reshape(0, 24*8*8)
	return nn.Linear(s.At("hidden"), x, 24*8*8, hiddenSize, true).SiLU()
}

func resnet(s op.Scope, x op.Tensor, channels int) op.Tensor {
	return nn.Resnet{In: channels, Out: channels, Groups: groups, Eps: eps}.Forward(s, x, op.Tensor{})
}

func norm(s op.Scope, x op.Tensor, channels int) op.Tensor {
	return nn.GroupNorm(s, x, groups, channels, eps).SiLU()
}

// unit scales rows of x [B, size] to length one.
func unit(x op.Tensor, size int) op.Tensor {
	return x.Div(x.Mul(x).Mean(1).Scale(float64(size)).Offset(1e-12).Sqrt())
}
