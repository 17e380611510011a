//go:build torch

package tune

import (
	"fmt"
	"strings"

	"likeness/models/backend/torch"
	"likeness/models/backend/trace"
	"likeness/models/memory"
	"likeness/models/op"
	"likeness/models/unet"
	"likeness/models/vae"
)

// unread are the bytes of libtorch's code and tables that come to memory with the first step, as measured; of products in bfloat16 there are
// more.
const (
	unread     = 70 << 20
	unreadHalf = 110 << 20
)

// gaps is how much more memory tensors take than they fill: what is freed between others fits the next ones only in part.
const gaps = 1.25

// plan adds up what the task takes.
func (t *task) plan() (Plan, error) {
	p := Plan{Weights: t.base.weights()}
	p.Program = max(0, t.base.memory.Resident()-p.Weights) + unread
	if t.base.engine.Compute() == torch.BFloat16 {
		p.Program += unreadHalf - unread
	}
	numbers := t.learner.numbers(t.base.Text.HiddenSize)
	rates := t.learner.rates()
	copies := int64(2)
	if t.learner.pull > 0 {
		copies = 3
	}
	for name, a := range numbers {
		bytes := 4 * int64(op.Size(a.Dims))
		part, _, _ := strings.Cut(name, "/")
		p.Learned += copies * bytes
		if _, ok := t.learner.weights[name]; ok {
			p.Learned += bytes // their changes, which a concept is made of
		}
		if rates[part] == 0 {
			continue
		}
		p.Gradients += bytes
		if !t.factored(part) {
			p.Optimizer += 2 * bytes
		}
	}
	for _, s := range t.learner.spectra {
		out, in, k := s.sizes()
		p.Weights += 4 * int64(k) * int64(out+in+1)
	}
	step, err := t.stepMemory(numbers, rates)
	if err != nil {
		return Plan{}, err
	}
	before, err := t.preparationMemory()
	p.Activations = int64(gaps * float64(max(step, before-p.Learned-p.Gradients-p.Optimizer)))
	return p, err
}

// stepMemory is the most of a step and of a measurement.
func (t *task) stepMemory(numbers map[string]op.Array, rates map[string]float64) (int64, error) {
	trained := func(name string) bool {
		part, _, _ := strings.Cut(name, "/")
		_, ok := numbers[name]
		return ok && rates[part] > 0
	}
	half := t.base.engine.Compute() == torch.BFloat16
	step, err := trace.Backward(t.loss(1), t.inputDims(t.cfg.Batch), trace.Training{Trained: trained, Half: half})
	if err != nil {
		return 0, err
	}
	measured, err := trace.Backward(t.diffusion, t.inputDims(t.together()), trace.Training{Half: half})
	return max(step, measured), err
}

// inputDims are those of a batch of so many rows.
func (t *task) inputDims(rows int) map[string][]int {
	if t.learner.prior > 0 {
		rows *= 2
	}
	u, length := t.base.UNet, t.base.Text.MaxPositionEmbeddings
	sample := []int{rows, u.InChannels, u.SampleSize[0], u.SampleSize[1]}
	inputs := map[string][]int{"sample": sample, "target": sample, "mask": {rows, 1, sample[2], sample[3]}}
	if !t.encodes() {
		inputs["encoder_hidden_states"] = []int{rows, length, t.base.Text.HiddenSize}
		return inputs
	}
	inputs["input_ids"] = []int{rows * t.layers(), length}
	if n := t.vectors(); n > 0 {
		inputs["slots"] = []int{rows * t.layers(), length, n}
	}
	return inputs
}

// preparationMemory is the most of encoding a photo and, where pictures of the class are drawn, of these.
func (t *task) preparationMemory() (int64, error) {
	half := t.base.engine.Compute() == torch.BFloat16
	v, u := t.base.Architecture.VAE, t.base.UNet
	most, err := trace.Backward(vae.Encoder(v), map[string][]int{"pixel_values": {1, 3, t.base.Side(), t.base.Side()}}, trace.Training{Half: half})
	if err != nil || t.learner.prior == 0 {
		return most, err
	}
	rows, h, w := 2*t.learner.prior, u.SampleSize[0], u.SampleSize[1]
	drawn, err := trace.Backward(unet.New(u, nil), map[string][]int{"sample": {rows, u.InChannels, h, w},
		"encoder_hidden_states": {rows, t.base.Text.MaxPositionEmbeddings, t.base.Text.HiddenSize}}, trace.Training{Half: half})
	if err != nil {
		return 0, err
	}
	decoded, err := trace.Backward(vae.Decoder(v), map[string][]int{"latents": {1, v.LatentChannels, h, w}}, trace.Training{Half: half})
	return max(most, drawn, decoded), err
}

// fits returns the plan or, if there is less memory, an error with what would make it fit.
func (t *task) fits() (Plan, error) {
	p, err := t.plan()
	if err != nil {
		return p, err
	}
	free := t.base.memory.Free()
	if p.Total()-t.base.memory.Resident() <= free {
		return p, nil
	}
	there := t.base.memory.Resident() + free
	refused := &MemoryError{Plan: p, Free: there}
	for _, other := range t.smaller() {
		less, err := other.task.plan()
		if err != nil {
			return p, err
		}
		if less.Total() <= there {
			refused.Advice = fmt.Sprintf("%s makes it fit (%.2f GB)", other.flags, float64(less.Total())/memory.Gigabyte)
			break
		}
	}
	return p, refused
}

// variant is a task with other settings.
type variant struct {
	task  *task
	flags string
}

// smaller are the task's variants that take less, from what costs least: time, then detail.
func (t *task) smaller() []variant {
	var all []variant
	at := func(low bool, batch, side int) {
		v := variant{task: &task{base: t.base, cfg: t.cfg, photos: t.photos, learner: t.learner}}
		var flags []string
		if v.task.cfg.LowMemory = low; low && !t.cfg.LowMemory {
			flags = append(flags, "--memory low")
		}
		if v.task.cfg.Batch = batch; batch < t.cfg.Batch {
			v.task.cfg.Accumulate = t.cfg.Accumulate * t.cfg.Batch
			flags = append(flags, fmt.Sprintf("--batch %d --accumulate %d", batch, v.task.cfg.Accumulate))
		}
		if side < t.base.Side() {
			base, err := t.base.At(side)
			if err != nil {
				return
			}
			v.task.base = base
			flags = append(flags, fmt.Sprintf("--resolution %d", side))
		}
		if v.flags = strings.Join(flags, " "); v.flags != "" {
			all = append(all, v)
		}
	}
	side, step := t.base.Side(), t.base.Step()
	at(true, t.cfg.Batch, side)
	at(t.cfg.LowMemory, 1, side)
	at(true, 1, side)
	for _, part := range []int{3, 2, 1} { // of four
		at(true, 1, side*part/4/step*step)
	}
	return all
}
