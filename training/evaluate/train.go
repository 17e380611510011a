//go:build torch

package evaluate

import (
	"context"
	"math/rand/v2"

	"likeness/models/backend/torch"
	"likeness/models/nn"
	"likeness/models/op"
	"likeness/models/pixels"
	"likeness/training/loop"
	"likeness/training/portraits"
)

const (
	// firstPerson is the first training identity that the judge learns from. Base and encoder draw theirs from 0 upwards and end far below.
	firstPerson = 1 << 20
	persons     = 1 << 20

	temperature = 0.1
	traitWeight = 20
)

// trainJudge trains a judge in the run folder cfg.Dir. A batch is cfg.Batch pictures, two of each person.
func trainJudge(ctx context.Context, engine *torch.Engine, cfg loop.Config) error {
	renderer := portraits.NewRenderer()
	cfg.Batch -= cfg.Batch % 2
	return loop.Train(ctx, engine, cfg, loop.Task{
		Model: judgeLoss(cfg.Batch),
		Init:  func() (map[string]op.Array, error) { return loop.Init(judgeLoss(cfg.Batch), 5, ".conv2.weight") },
		Batch: func(r *rand.Rand, _ float64) (map[string]op.Array, error) {
			return judgeInputs(renderer, cfg.Batch, r), nil
		},
	})
}

func judgeInputs(renderer *portraits.Renderer, batch int, r *rand.Rand) map[string]op.Array {
	const size = 3 * portraits.Size * portraits.Size
	planes := make([]float32, batch*size)
	truth := make([]float32, batch*labels())
	who := make([]float32, batch*numTraits)
	soft := softener{scratch: make([]float32, portraits.Size*portraits.Size)}
	for i := 0; i < batch; i += 2 {
		id := portraits.Train.Identity(firstPerson + r.IntN(persons))
		known := traits(id)
		for j := i; j < i+2; j++ {
			c := portraits.NewContext(r)
			pixels.Planes(planes[j*size:], renderer.Draw(id, c))
			soft.apply(planes[j*size:][:size], r)
			copy(who[j*len(known):], known)
			at := j * labels()
			for f, facet := range portraits.LabelNames {
				truth[at+c.Labels()[f]] = 1
				at += len(facet.Values)
			}
		}
	}
	return map[string]op.Array{
		"pictures": op.Floats(planes, batch, 3, portraits.Size, portraits.Size),
		"truth":    op.Floats(truth, batch, labels()),
		"traits":   op.Floats(who, batch, numTraits),
	}
}

// judgeLoss is the contrastive loss NT-Xent (Chen et al., 2020, equation 1) of the embeddings, pictures 2i and 2i+1 showing one person, plus
// the mean cross-entropy of the facets. That the person's traits can be read from what the embedding is made from is a help on the way.
func judgeLoss(batch int) op.Model {
	self, other := make([]float32, batch*batch), make([]float32, batch*batch)
	for i := range batch {
		self[i*batch+i] = -1e4
		other[i*batch+(i^1)] = 1
	}
	return func(s op.Scope) map[string]op.Tensor {
		out := judgeNetwork(s)
		e := out["embedding"]
		similarity := e.MatMul(e.Transpose(1, 0)).Scale(1 / temperature) // [B, B]
		rivals := similarity.Add(s.Const(self, batch, batch)).Exp().Mean(1).Scale(float64(batch)).Log()
		same := similarity.Mul(s.Const(other, batch, batch)).Mean(1).Scale(float64(batch))
		identity := rivals.Sub(same).Mean(0, 1).Reshape(1)

		truth := s.Input("truth", op.Float32, -1, labels())
		context, at := op.Tensor{}, 0
		for _, facet := range portraits.LabelNames {
			n := len(facet.Values)
			logits, t := out["logits"].Slice(1, at, at+n), truth.Slice(1, at, at+n)
			entropy := logits.Exp().Mean(1).Scale(float64(n)).Log().Sub(logits.Mul(t).Mean(1).Scale(float64(n))).Mean(0, 1).Reshape(1)
			if context.Ok() {
				entropy = entropy.Add(context)
			}
			context, at = entropy, at+n
		}
		context = context.Scale(1 / float64(len(portraits.LabelNames)))

		miss := nn.Linear(s.At("traits"), out["known"], hiddenSize, numTraits, true).Sub(s.Input("traits", op.Float32, -1, numTraits))
		traits := miss.Mul(miss).Mean(0, 1).Reshape(1)
		loss := identity.Add(context).Add(traits.Scale(traitWeight))
		return map[string]op.Tensor{"loss": loss, "identity": identity, "context": context, "traits": traits}
	}
}
