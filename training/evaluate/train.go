//go:build torch

package evaluate

import (
	"context"
	"maps"
	"math/rand/v2"
	"path/filepath"

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

// trainJudge trains a judge's two networks, one after the other, in folders of cfg.Dir, and returns their weights. A batch is cfg.Batch
// pictures, two of each person.
func trainJudge(ctx context.Context, engine *torch.Engine, cfg loop.Config) (map[string]op.Array, error) {
	cfg.Batch -= cfg.Batch % 2
	weights := map[string]op.Array{}
	for _, task := range []struct {
		name   string
		model  op.Model
		inputs func(renderer *portraits.Renderer, batch int, r *rand.Rand) map[string]op.Array
	}{
		{"recogniser", recogniserLoss(cfg.Batch), recogniserInputs},
		{"classifier", classifierLoss, classifierInputs},
	} {
		renderer, part := portraits.NewRenderer(), cfg
		part.Dir = filepath.Join(cfg.Dir, task.name)
		err := loop.Train(ctx, engine, part, loop.Task{
			Model: task.model,
			Init:  func() (map[string]op.Array, error) { return loop.Init(task.model, 5, ".conv2.weight") },
			Batch: func(r *rand.Rand, _ float64) (map[string]op.Array, error) {
				return task.inputs(renderer, cfg.Batch, r), nil
			},
		})
		if err != nil {
			return nil, err
		}
		average, err := loop.Average(part.Dir)
		if err != nil {
			return nil, err
		}
		maps.Copy(weights, average)
	}
	return weights, ctx.Err()
}

const pictureSize = 3 * portraits.Size * portraits.Size

// paint draws a softened picture of a random context into planes.
func paint(planes []float32, renderer *portraits.Renderer, id portraits.Identity, r *rand.Rand) portraits.Context {
	c := portraits.NewContext(r)
	pixels.Planes(planes, renderer.Draw(id, c))
	soften(planes, r)
	return c
}

func recogniserInputs(renderer *portraits.Renderer, batch int, r *rand.Rand) map[string]op.Array {
	planes, who := make([]float32, batch*pictureSize), make([]float32, 0, batch*portraits.NumTraits)
	for i := 0; i < batch; i += 2 {
		id := portraits.Train.Identity(firstPerson + r.IntN(persons))
		for j := i; j < i+2; j++ {
			paint(planes[j*pictureSize:][:pictureSize], renderer, id, r)
			who = append(who, id.Traits()...)
		}
	}
	return map[string]op.Array{
		"pictures": op.Floats(planes, batch, 3, portraits.Size, portraits.Size),
		"traits":   op.Floats(who, batch, portraits.NumTraits),
	}
}

// recogniserLoss is the contrastive loss NT-Xent (Chen et al., 2020, equation 1), pictures 2i and 2i+1 showing one person. That the person's
// traits can be read from what the embedding is made from is a help on the way.
func recogniserLoss(batch int) op.Model {
	self, other := make([]float32, batch*batch), make([]float32, batch*batch)
	for i := range batch {
		self[i*batch+i] = -1e4
		other[i*batch+(i^1)] = 1
	}
	return func(s op.Scope) map[string]op.Tensor {
		known, e := recogniser(s)
		similarity := e.MatMul(e.Transpose(1, 0)).Scale(1 / temperature) // [B, B]
		rivals := similarity.Add(s.Const(self, batch, batch)).Exp().Mean(1).Scale(float64(batch)).Log()
		same := similarity.Mul(s.Const(other, batch, batch)).Mean(1).Scale(float64(batch))
		identity := rivals.Sub(same).Mean(0, 1).Reshape(1)

		miss := nn.Linear(s.At("traits"), known, hiddenSize, portraits.NumTraits, true).Sub(s.Input("traits", op.Float32, -1, portraits.NumTraits))
		traits := miss.Mul(miss).Mean(0, 1).Reshape(1)
		return map[string]op.Tensor{"loss": identity.Add(traits.Scale(traitWeight)), "identity": identity, "traits": traits}
	}
}

func classifierInputs(renderer *portraits.Renderer, batch int, r *rand.Rand) map[string]op.Array {
	planes, truth := make([]float32, batch*pictureSize), make([]float32, batch*labels())
	for i := range batch {
		id := portraits.Train.Identity(firstPerson + r.IntN(persons))
		c := paint(planes[i*pictureSize:][:pictureSize], renderer, id, r)
		at := i * labels()
		for f, facet := range portraits.LabelNames {
			truth[at+c.Labels()[f]] = 1
			at += len(facet.Values)
		}
	}
	return map[string]op.Array{
		"pictures": op.Floats(planes, batch, 3, portraits.Size, portraits.Size),
		"truth":    op.Floats(truth, batch, labels()),
	}
}

// classifierLoss is the sum of the facets' cross-entropies.
func classifierLoss(s op.Scope) map[string]op.Tensor {
	all, truth := classifier(s), s.Input("truth", op.Float32, -1, labels())
	outputs := map[string]op.Tensor{}
	loss, at := s.Const([]float32{0}, 1), 0
	for _, facet := range portraits.LabelNames {
		n := len(facet.Values)
		logits, t := all.Slice(1, at, at+n), truth.Slice(1, at, at+n)
		entropy := logits.Exp().Mean(1).Scale(float64(n)).Log().Sub(logits.Mul(t).Mean(1).Scale(float64(n))).Mean(0, 1).Reshape(1)
		outputs[facet.Name] = entropy
		loss, at = loss.Add(entropy), at+n
	}
	outputs["loss"] = loss
	return outputs
}
