//go:build torch

package tune

import (
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/encoder/concept"
	"likeness/models/backend/torch"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/safetensors"
	"likeness/models/scheduler"
)

const tinySD = "../../models/pipeline/testdata/tiny-sd"

// golden is a file of scripts/golden/tune.py: twenty steps of a method in PyTorch.
type golden struct {
	*safetensors.File
	Class      string  `json:"cls"`
	Init       string  `json:"init"`
	Vectors    int     `json:"vectors"`
	Rank       int     `json:"rank"`
	Alpha      float64 `json:"alpha"`
	LR         float64 `json:"lr"`
	WordLR     float64 `json:"word_lr"`
	Decay      float64 `json:"decay"`
	Pull       float64 `json:"pull"`
	Batch      int     `json:"batch"`
	Accumulate int     `json:"accumulate"`
	Prediction string  `json:"prediction"`
	Caption    string  `json:"caption"`
	Prior      int     `json:"prior"`  // pictures of the class
	Layers     int     `json:"layers"` // of the word, or 0
	Text       bool    `json:"text"`   // the text encoder is changed too
	Edit       bool    `json:"edit"`   // of cross-attention
}

func openGolden(t *testing.T, name string) *golden {
	t.Helper()
	f, err := safetensors.Open(filepath.Join("testdata", name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	g := &golden{File: f}
	if err := json.Unmarshal([]byte(f.Metadata()["case"]), g); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *golden) array(t *testing.T, name string) op.Array {
	t.Helper()
	values, dims, err := g.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	return op.Floats(values, dims...)
}

// part are the tensors behind a prefix.
func (g *golden) part(t *testing.T, prefix string) map[string]op.Array {
	t.Helper()
	all := map[string]op.Array{}
	for _, name := range g.Names() {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			all[rest] = g.array(t, name)
		}
	}
	if len(all) == 0 {
		t.Fatalf("no tensors of %s", prefix)
	}
	return all
}

// run is the method at its golden first values.
func (g *golden) run(t *testing.T, b *Base, method string) *run {
	t.Helper()
	b.Scheduler.PredictionType, b.Scheduler.RescaleBetasZeroSNR = g.Prediction, g.Prediction == scheduler.VPrediction
	start := g.part(t, "start:")
	l := &learner{vectors: start[vectorsName].F32, layers: concept.LoRA{}, gain: 1, rate: g.LR, wordRate: g.WordLR, decay: g.Decay, pull: g.Pull,
		text: g.Layers}
	if g.Rank > 0 {
		l.gain = g.Alpha / float64(g.Rank)
	}
	for name, up := range start {
		if path, ok := strings.CutSuffix(name, ".up"); ok {
			down, component := start[path+".down"], checkpoint.UNet
			if strings.HasPrefix(name, textPart) {
				component = checkpoint.TextEncoder
			}
			if l.layers[component] == nil {
				l.layers[component] = map[string]concept.Delta{}
			}
			_, path, _ = strings.Cut(path, "/")
			l.layers[component][path] = concept.Delta{In: down.Dims[1], Out: up.Dims[1], Rank: up.Dims[0], Down: down.F32, Up: up.F32}
		}
	}
	if g.Edit {
		l.edit = &edit{input: start[inputName].F32, outputs: map[string][]float32{}}
		for _, v := range g.array(t, "inverse").F32 {
			l.edit.inverse = append(l.edit.inverse, float64(v))
		}
		for _, target := range b.UNet.EditTargets() {
			l.edit.outputs[target.Path] = start[outputName(target.Path)].F32
		}
	}
	if m, err := b.find(method); err != nil {
		t.Fatal(err)
	} else if g.Prior > 0 { // whose weights are the folder's
		own, err := m.start(t.Context(), b, m.complete(Config{Word: "me", Class: g.Class, Init: g.Init, TextEncoder: g.Text}), nil)
		if err != nil {
			t.Fatal(err)
		}
		l.weights, l.spectra, l.weightRate = own.weights, own.spectra, g.LR
		if own.rate > 0 {
			l.weightRate *= own.weightRate / own.rate
		}
	}
	cfg := Config{Method: method, Word: "me", Class: g.Class, Steps: goldenSteps, Batch: g.Batch, Accumulate: g.Accumulate, Captions: []string{g.Caption}}
	task := &task{base: b, cfg: cfg, learner: l}
	if err := task.encodeCaptions(); err != nil {
		t.Fatal(err)
	}
	if err := task.decompose(func(string) {}); err != nil {
		t.Fatal(err)
	}
	ids, slots := g.array(t, "input_ids"), task.captions[0].slots
	for i, id := range task.captions[0].ids {
		if int64(ids.F32[i]) != id {
			t.Fatalf("token %d is %d, want %v", i, id, ids.F32)
		}
	}
	if g.Vectors > 0 && !slices.Equal(slots, g.array(t, "slots").F32) {
		t.Fatalf("slots %v", slots)
	}
	r, err := newRun(task, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.close() })
	return r
}

const goldenSteps = 20

// inputs are those of batch k of a step.
func (g *golden) inputs(t *testing.T, r *run, step, k int) map[string]op.Array {
	t.Helper()
	latents, masks, noise, timesteps := g.array(t, "latents"), g.array(t, "masks"), g.array(t, "noise"), g.array(t, "timesteps")
	if g.Prior > 0 {
		return g.withClass(t, r, step)
	}
	size, places, rows := op.Size(latents.Dims[1:]), op.Size(masks.Dims[1:]), noise.Dims[1]
	b := newBatch(r.base.Scheduler, append([]int{g.Batch}, latents.Dims[1:]...))
	for i := range g.Batch {
		row := k*g.Batch + i
		example, at := row%latents.Dims[0], step*rows+row
		b.put(i, latents.F32[example*size:][:size], noise.F32[at*size:][:size], masks.F32[example*places:][:places], int(timesteps.F32[at]))
	}
	inputs := b.inputs()
	r.caption(inputs, make([]int, g.Batch))
	return inputs
}

// withClass are the inputs of a step with pictures of the class.
func (g *golden) withClass(t *testing.T, r *run, step int) map[string]op.Array {
	t.Helper()
	latents, priors, masks, noise, timesteps := g.array(t, "latents"), g.array(t, "priors"), g.array(t, "masks"), g.array(t, "noise"), g.array(t, "timesteps")
	size, places, rows := op.Size(latents.Dims[1:]), op.Size(masks.Dims[1:]), noise.Dims[1]
	b := newBatch(r.base.Scheduler, append([]int{rows}, latents.Dims[1:]...))
	picks := make([]int, rows)
	for i := range rows {
		latent, mask := latents.F32[i%latents.Dims[0]*size:][:size], masks.F32[i%latents.Dims[0]*places:][:places]
		if i >= g.Batch {
			latent, mask, picks[i] = priors.F32[i%priors.Dims[0]*size:][:size], box{}.mask(1, places), ofClass
		}
		b.put(i, latent, noise.F32[(step*rows+i)*size:][:size], mask, int(timesteps.F32[step*rows+i]))
		b.weight[i] *= 2
	}
	c, err := encode(r.base.tokenizer, g.Caption, "me", g.Class, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.slots = make([]float32, len(c.ids)*g.Vectors)
	if c.states, err = r.statesOf(c); err != nil {
		t.Fatal(err)
	}
	r.class = c
	inputs := b.inputs()
	r.caption(inputs, picks)
	return inputs
}

// Every method's losses, gradients and numbers are PyTorch's, over twenty steps from the same numbers on the same noise.
func TestMethodsAgainstPyTorch(t *testing.T) {
	engine := newEngine(t)
	for _, name := range everyMethod {
		if name == quick.Name {
			continue // TestCoefficients holds it against the relaxed one
		}
		t.Run(name, func(t *testing.T) {
			method := strings.TrimSuffix(strings.TrimSuffix(name, withText), relaxed)
			g, b := openGolden(t, name), openBase(t, engine, tinySD)
			r := g.run(t, b, method)
			losses := g.array(t, "loss").F32
			for r.step = range goldenSteps {
				loss := 0.0
				for k := range g.Accumulate {
					part, err := r.learn(g.inputs(t, r, r.step, k))
					if err != nil {
						t.Fatal(err)
					}
					loss += part
				}
				want, tolerance := float64(losses[r.step]), 0.01
				if r.step == 0 {
					tolerance = 1e-5
					compareGradients(t, g, r)
				}
				if math.Abs(loss-want) > tolerance*want {
					t.Errorf("step %d: the loss is %.7f, PyTorch's %.7f", r.step, loss, want)
				}
				if err := r.move(); err != nil {
					t.Fatal(err)
				}
			}
			numbers, err := r.numbers()
			if err != nil {
				t.Fatal(err)
			}
			start := g.part(t, "start:")
			for name, a := range r.learner.weights {
				start[name] = a
			}
			for name, s := range r.learner.spectra {
				_, _, k := s.sizes()
				start[shiftsPart+"/"+name] = op.Floats(make([]float32, k), k)
			}
			for name, want := range g.part(t, "end:") {
				moved := distance(want.F32, start[name].F32)
				if d := distance(numbers[name].F32, want.F32); d > 0.01*moved || moved == 0 {
					t.Errorf("%s ends %g from PyTorch's, which moved by %g", name, d, moved)
				}
			}
		})
	}
}

func compareGradients(t *testing.T, g *golden, r *run) {
	t.Helper()
	want := g.part(t, "grad:")
	for _, group := range r.groups {
		gradients, err := group.params.Gradients()
		if err != nil {
			t.Fatal(err)
		}
		for name, got := range gradients {
			if _, kept := want[name]; !kept && group.optimizer != nil && g.Prior > 0 {
				continue // the file does not have all of them
			}
			length := distance(want[name].F32, make([]float32, len(got.F32)))
			if d := distance(got.F32, want[name].F32); d > 1e-3*length {
				t.Errorf("gradient of %s is %g from PyTorch's, whose length is %g", name, d, length)
			}
			delete(want, name)
		}
	}
	for name := range want {
		t.Errorf("no gradient of %s", name)
	}
}

// distance is the length of a - b.
func distance(a, b []float32) float64 {
	sum := 0.0
	for i := range b {
		sum += math.Pow(float64(a[i])-float64(b[i]), 2)
	}
	return math.Sqrt(sum)
}

func newEngine(t *testing.T) *torch.Engine {
	t.Helper()
	e, err := torch.New(torch.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func openBase(t testing.TB, engine *torch.Engine, dir string) *Base {
	t.Helper()
	b, err := Open(engine, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}
