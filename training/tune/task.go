//go:build torch

package tune

import (
	"errors"
	"math/rand/v2"
	"strings"

	"likeness/models/backend/torch"
	"likeness/models/checkpoint"
	"likeness/models/clip"
	"likeness/models/op"
	"likeness/models/unet"
	"likeness/models/vae"
	"likeness/training/base"
)

// example is a view of a photo as the denoiser learns it.
type example struct {
	latent []float32 // [C, h, w], scaled
	mask   []float32 // [h, w]
}

// task is one concept to be learned: a learner and what it learns from.
type task struct {
	base     *Base
	cfg      Config
	photos   []Photo
	learner  *learner
	plain    []example // the photos as they are
	varied   []example // and these with their variants
	captions []caption
	priors   []example     // pictures of the class
	class    caption       // and theirs
	factors  *torch.Params // of spectra; nil where there are none
}

// viewsInAll is how many views there are of all photos together at least, as far as maxViews of each allow.
const (
	viewsInAll = 16
	maxViews   = 4
)

// prepare encodes photos and captions, and finds what else the learner needs; it tells what takes long.
func (t *task) prepare(tell func(string)) error {
	n := min(maxViews, (viewsInAll+len(t.photos)-1)/len(t.photos))
	r := rand.New(rand.NewPCG(t.cfg.Seed, 0x76696577))
	for _, p := range t.photos {
		examples, err := t.examples(views(p.Picture, n, r))
		if err != nil {
			return err
		}
		t.plain, t.varied = append(t.plain, examples[0]), append(t.varied, examples...)
	}
	if err := errors.Join(t.encodeCaptions(), t.decompose(tell)); err != nil {
		return err
	}
	if t.learner.prior > 0 {
		tell("pictures of the class")
	}
	return t.imagine()
}

func (t *task) encodeCaptions() error {
	for _, template := range t.cfg.Captions {
		c, err := encode(t.base.tokenizer, template, t.cfg.Word, t.cfg.Class, t.vectors()/t.layers())
		if err != nil {
			return err
		}
		if c.states, err = t.statesOf(c); err != nil {
			return err
		}
		t.captions = append(t.captions, c)
	}
	return nil
}

// statesOf are the text states [L·D] of a caption with the word as it is at first; none where captions are encoded in every step.
func (t *task) statesOf(c caption) ([]float32, error) {
	if t.encodes() {
		return nil, nil
	}
	s := base.Sampler{Architecture: t.base.Architecture, Engine: t.base.engine}
	text, err := s.Text(t.base.tokenizer, c.ids, t.residual(c, t.learner.vectors), t.base.UNetAndText...)
	if err != nil {
		return nil, err
	}
	return text.F32[len(text.F32)/2:], nil // behind those of the empty prompt
}

// encodes tells whether captions are encoded in every step, since what is learned acts on their states.
func (t *task) encodes() bool {
	l := t.learner
	if t.vectors() > 0 && l.wordRate > 0 || len(l.layers[checkpoint.TextEncoder]) > 0 {
		return true
	}
	for name := range l.weights {
		if strings.HasPrefix(name, checkpoint.TextEncoder+"/") {
			return true
		}
	}
	return false
}

// vectors is the number of the word's vectors that are learned, of all layers.
func (t *task) vectors() int { return len(t.learner.vectors) / t.base.Text.HiddenSize }

// layers is the number of the word's layers: one unless cross-attentions have vectors of their own.
func (t *task) layers() int { return max(t.learner.text, 1) }

// unetConfig is that of the UNet with what is learned.
func (t *task) unetConfig() unet.Config {
	cfg := t.base.UNet
	cfg.LayeredText = t.layers() > 1
	return cfg
}

// examples encodes views of one photo, one after the other: what a VAE makes on its way is large.
func (t *task) examples(views []view) ([]example, error) {
	cfg := t.base.Architecture.VAE
	side := t.base.Side()
	var examples []example
	for _, v := range views {
		in := map[string]op.Array{"pixel_values": op.Floats(v.planes, 1, 3, side, side)}
		out, err := t.base.engine.Run(vae.Encoder(cfg), in, t.base.VAE)
		if err != nil {
			return nil, err
		}
		mean := out["latent_mean"]
		for i, v := range mean.F32 {
			mean.F32[i] = float32((float64(v) - cfg.Shift()) * cfg.ScalingFactor)
		}
		examples = append(examples, example{mean.F32, v.face.mask(mean.Dims[2], mean.Dims[3])})
	}
	return examples, nil
}

// unet is the scope of the UNet with what is learned.
func (t *task) unet(s op.Scope, g gate) op.Scope {
	u := s.Component(checkpoint.UNet).WithDeltas(t.learner.deltas(s, checkpoint.UNet)).WithWeights(t.learner.shifted(s))
	if t.cfg.LowMemory {
		u = u.WithRecompute()
	}
	return u.WithEdits(t.learner.edits(s, g))
}

// tuned is the UNet with what is learned, on text states as text gives them.
func (t *task) tuned(s op.Scope, sample, timestep, states op.Tensor) op.Tensor {
	return unet.Forward(t.unet(s, learningGate), t.unetConfig(), unet.Inputs{Sample: sample, Timestep: timestep, EncoderHiddenStates: states})
}

// text are the states of a batch's captions, with what is learned: [B, L, D], of a word of layers [B, layers, L, D].
func (t *task) text(s op.Scope) op.Tensor {
	cfg := t.base.Text
	n, length := t.vectors(), cfg.MaxPositionEmbeddings
	if !t.encodes() {
		return s.Input("encoder_hidden_states", op.Float32, -1, -1, cfg.HiddenSize)
	}
	words := s.Const(make([]float32, cfg.HiddenSize), 1, 1, cfg.HiddenSize)
	if n > 0 {
		words = s.Input("slots", op.Float32, -1, length, n).MatMul(s.Component(wordsPart).Weight("vectors", n, cfg.HiddenSize))
	}
	encoder := s.Component(checkpoint.TextEncoder).WithDeltas(t.learner.deltas(s, checkpoint.TextEncoder))
	states := clip.TextForward(encoder, cfg, s.Input("input_ids", op.Int64, -1, length), words).Last
	if t.layers() == 1 {
		return states
	}
	return states.Reshape(-1, t.layers(), length, cfg.HiddenSize)
}

// diffusion is the model of a batch's loss without the pull. It also has the text states, where an edit follows them.
func (t *task) diffusion(s op.Scope) map[string]op.Tensor {
	states := t.text(s)
	outputs := map[string]op.Tensor{
		"diffusion": diffusion(s, t.base.UNet, func(sample, timestep op.Tensor) op.Tensor { return t.tuned(s, sample, timestep, states) }),
	}
	if t.learner.edit != nil {
		outputs["states"] = states
	}
	return outputs
}

// loss is the model of a batch's loss, of which there are accumulate in a step, beside what diffusion gives.
func (t *task) loss(accumulate int) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		outputs := t.diffusion(s)
		loss := outputs["diffusion"]
		if t.learner.pull > 0 {
			loss = loss.Add(t.learner.distance(s, t.base.Text.HiddenSize).Scale(t.learner.pull))
		}
		outputs["loss"] = loss.Scale(1 / float64(accumulate))
		return outputs
	}
}

// batch draws rows examples with noise of levels that are spread evenly over the schedule: the rows are those from first on of all. With
// every one comes a picture of the class, where there are any, and both losses are added.
func (t *task) batch(examples []example, r *rand.Rand, rows, first, all int) map[string]op.Array {
	u := t.base.UNet
	count := rows
	if t.priors != nil {
		count = 2 * rows
	}
	b := newBatch(t.base.Scheduler, []int{count, u.InChannels, u.SampleSize[0], u.SampleSize[1]})
	noise := make([]float32, op.Size(b.dims[1:]))
	picks := make([]int, count)
	for i := range count {
		of := examples
		picks[i] = r.IntN(len(t.captions))
		if i >= rows {
			of, picks[i] = t.priors, ofClass
		}
		e := of[r.IntN(len(of))]
		level := int((float64(first+i%rows) + r.Float64()) / float64(all) * float64(t.base.Scheduler.NumTrainTimesteps))
		for j := range noise {
			noise[j] = float32(r.NormFloat64())
		}
		b.put(i, e.latent, noise, e.mask, level)
		b.weight[i] *= float32(count) / float32(rows)
	}
	inputs := b.inputs()
	t.caption(inputs, picks)
	return inputs
}

// ofClass is the pick of the class's caption.
const ofClass = -1

// caption adds the captions' inputs: every caption once for each layer of the word, with slots for the vectors of that layer.
func (t *task) caption(inputs map[string]op.Array, picks []int) {
	rows, length := len(picks), t.base.Text.MaxPositionEmbeddings
	of := func(pick int) caption {
		if pick == ofClass {
			return t.class
		}
		return t.captions[pick]
	}
	if !t.encodes() {
		var states []float32
		for _, pick := range picks {
			states = append(states, of(pick).states...)
		}
		inputs["encoder_hidden_states"] = op.Floats(states, rows, length, t.base.Text.HiddenSize)
		return
	}
	var ids []int64
	var slots []float32
	for _, pick := range picks {
		c := of(pick)
		for layer := range t.layers() {
			ids, slots = append(ids, c.ids...), append(slots, c.slotsOf(layer, t.layers())...)
		}
	}
	rows *= t.layers()
	inputs["input_ids"] = op.Ints(ids, rows, length)
	if n := t.vectors(); n > 0 {
		inputs["slots"] = op.Floats(slots, rows, length, n)
	}
}
