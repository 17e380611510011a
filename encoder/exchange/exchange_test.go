package exchange

import (
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/encoder/concept"
	"likeness/models/backend/ref"
	"likeness/models/checkpoint"
	"likeness/models/clip"
	"likeness/models/op"
	"likeness/models/safetensors"
	"likeness/models/tokenizer"
	"likeness/models/unet"
)

// tinySD is the base of the goldens, which scripts/golden/exchange.py makes.
var tinySD = filepath.Join("..", "..", "models", "pipeline", "testdata", "tiny-sd")

func openBase(t *testing.T) *Base {
	t.Helper()
	base, err := OpenBase(tinySD)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { base.Close() })
	return base
}

// weights reads every weight of a component.
func weights(t *testing.T, base *Base, name string) (config []byte, all map[string]op.Array) {
	t.Helper()
	c, err := base.folder.Component(name)
	if err != nil {
		t.Fatal(err)
	}
	all = map[string]op.Array{}
	for _, name := range c.Names() {
		info, _ := c.Info(name)
		if info.DType == safetensors.TypeI64 {
			continue // position_ids
		}
		values, shape, err := c.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = op.Floats(values, shape...)
	}
	return c.Config(), all
}

// golden are the inputs and outputs of diffusers.
type golden struct{ file *safetensors.File }

func openGolden(t *testing.T) golden {
	t.Helper()
	file, err := safetensors.Open(filepath.Join("testdata", "expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return golden{file}
}

func (g golden) floats(t *testing.T, name string) op.Array {
	t.Helper()
	values, shape, err := g.file.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	return op.Floats(values, shape...)
}

// close holds that got is want to 1e-4 of want's deviation.
func (g golden) close(t *testing.T, got []float32, name string) {
	t.Helper()
	want := g.floats(t, name).F32
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", name, len(got), len(want))
	}
	var most, sum, squares float64
	for i, w := range want {
		d := math.Abs(float64(got[i]) - float64(w))
		if !(d <= most) {
			most = d
		}
		sum, squares = sum+float64(w), squares+float64(w)*float64(w)
	}
	n := float64(len(want))
	if deviation := math.Sqrt(squares/n - sum*sum/n/n); !(most <= 1e-4*deviation) {
		t.Errorf("%s is off by %g, its deviation is %g", name, most, deviation)
	}
}

// pack packs deltas in a layout of another rank than theirs.
func pack(t *testing.T, layout *op.Layout, deltas map[string]concept.Delta) []float32 {
	t.Helper()
	own, values, err := Pack(deltas)
	if err == nil {
		values, err = layout.Repack(own, values)
	}
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// noise runs the UNet with the deltas as offsets of a layout of the rank.
func noise(t *testing.T, base *Base, g golden, rank int, deltas map[string]concept.Delta, weights map[string]op.Array, cfg unet.Config) []float32 {
	t.Helper()
	inputs := map[string]op.Array{}
	for _, name := range []string{"sample", "timestep", "encoder_hidden_states"} {
		inputs[name] = g.floats(t, name)
	}
	var layout *op.Layout
	if len(deltas) > 0 {
		var err error
		if layout, err = op.NewLayout(rank, Targets(deltas)); err != nil {
			t.Fatal(err)
		}
		packed := pack(t, layout, deltas)
		both := append(append([]float32(nil), packed...), packed...)
		inputs["offsets"] = op.Floats(both, 2, len(packed)/layout.Size(), layout.Size())
	}
	out, err := ref.Run(unet.New(cfg, layout), weights, inputs)
	if err != nil {
		t.Fatal(err)
	}
	return out["noise_pred"].F32
}

// states runs the text encoder with deltas as offsets, and residuals at the slots of a word.
func states(t *testing.T, base *Base, ids []int64, residual []float32, deltas map[string]concept.Delta) []float32 {
	t.Helper()
	config, all := weights(t, base, checkpoint.TextEncoder)
	cfg, err := clip.ParseTextConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	inputs := map[string]op.Array{"input_ids": op.Ints(ids, 1, len(ids)), "concept_embeddings": op.Floats(residual, 1, len(ids), base.TextWidth)}
	model := clip.Text(cfg)
	if len(deltas) > 0 {
		layout, err := op.NewLayout(2, Targets(deltas))
		if err != nil {
			t.Fatal(err)
		}
		packed := pack(t, layout, deltas)
		inputs["offsets"] = op.Floats(packed, 1, len(packed)/layout.Size(), layout.Size())
		plain := model
		model = func(s op.Scope) map[string]op.Tensor {
			return plain(s.WithOffsets(layout, s.Input("offsets", op.Float32, -1, -1, layout.Size())))
		}
	}
	out, err := ref.Run(model, all, inputs)
	if err != nil {
		t.Fatal(err)
	}
	return out["last_hidden_state"].F32
}

// A published LoRA, read as inputs of a run, does what it does in diffusers: whatever its names, ranks and alphas, and at any rank of the
// layout. Written in a format and read again, it still does.
func TestGoldenLoRA(t *testing.T) {
	base, g := openBase(t), openGolden(t)
	config, all := weights(t, base, checkpoint.UNet)
	cfg, err := unet.ParseConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ids, _, err := g.file.Int64("input_ids")
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]float32, len(ids)*base.TextWidth)
	g.close(t, noise(t, base, g, 1, nil, all, cfg), "noise_pred")
	g.close(t, states(t, base, ids, zero, nil), "last_hidden_state")
	for _, c := range []struct {
		name   string
		rank   int
		format Format
	}{
		{"kohya_a", 4, Kohya}, {"kohya_b", 1, Kohya}, {"alphas_a", 4, Kohya}, {"alphas_b", 2, Kohya},
		{"peft_a", 4, Diffusers}, {"peft_b", 3, Diffusers},
		{"trainer_a", 2, Diffusers}, {"trainer_b", 8, Diffusers}, {"processor_a", 4, Diffusers}, {"processor_b", 1, Diffusers},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join("testdata", c.name+".safetensors")
			for _, next := range []Format{Kohya, Diffusers, ""} {
				a, err := Read(path, base)
				if err != nil {
					t.Fatal(err)
				}
				if c.format != "" && a.Format != c.format {
					t.Errorf("%s is read as %s", path, a.Format)
				}
				g.close(t, noise(t, base, g, c.rank, a.LoRA[checkpoint.UNet], all, cfg), "noise_pred_"+c.name)
				g.close(t, states(t, base, ids, zero, a.LoRA[checkpoint.TextEncoder]), "last_hidden_state_"+c.name)
				path = filepath.Join(t.TempDir(), string(next)+".safetensors")
				if c.format = next; next == "" {
					break
				}
				if err := a.Write(path, next, base); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Weights with a LoRA merged into them do what the LoRA does.
func TestGoldenMerged(t *testing.T) {
	base, g := openBase(t), openGolden(t)
	config, all := weights(t, base, checkpoint.UNet)
	cfg, err := unet.ParseConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"processor_a", "kohya_b"} {
		a, err := Read(filepath.Join("testdata", name+".safetensors"), base)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "merged.safetensors")
		if len(a.LoRA[checkpoint.TextEncoder]) > 0 {
			if err := a.Write(path, Merged, base); err == nil || !strings.Contains(err.Error(), "text encoder") {
				t.Errorf("%s: %v", name, err)
			}
			delete(a.LoRA, checkpoint.TextEncoder)
		}
		if err := a.Write(path, Merged, base); err != nil {
			t.Fatal(err)
		}
		file, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		merged := map[string]op.Array{}
		for _, weight := range file.Names() {
			values, shape, err := file.Float32(weight)
			if err != nil {
				t.Fatal(err)
			}
			merged[weight] = op.Floats(values, shape...)
		}
		if err := file.Close(); err != nil || len(merged) != len(all) {
			t.Fatal(len(merged), err)
		}
		g.close(t, noise(t, base, g, 1, nil, merged, cfg), "noise_pred_"+name)
	}
}

// Offsets reach every layer that a file may change: they do what the same change of the weights does.
func TestEveryLayer(t *testing.T) {
	base, g := openBase(t), openGolden(t)
	config, all := weights(t, base, checkpoint.UNet)
	cfg, err := unet.ParseConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	plain := noise(t, base, g, 1, nil, all, cfg)
	for path, shape := range base.Shapes[checkpoint.UNet] {
		in, out, ok := width(shape)
		if !ok {
			continue
		}
		d := concept.Delta{In: in, Out: out, Rank: 1, Down: make([]float32, in), Up: make([]float32, out)}
		for i := range d.Down {
			d.Down[i] = 0.5 * float32(math.Sin(float64(i*i)+1))
		}
		for i := range d.Up {
			d.Up[i] = 0.5 * float32(math.Cos(float64(i*i)))
		}
		changed := maps.Clone(all)
		values := slices.Clone(all[path+".weight"].F32)
		addTo(values, d)
		changed[path+".weight"] = op.Floats(values, shape...)
		want := noise(t, base, g, 1, nil, changed, cfg)
		got := noise(t, base, g, 1, map[string]concept.Delta{path: d}, all, cfg)
		if !apart(want, plain, 1e-5) || apart(want, got, 1e-5) {
			t.Errorf("%s: offsets do not do what the weight does", path)
		}
	}
}

// apart tells whether two slices differ by more than d anywhere.
func apart(a, b []float32, d float64) bool {
	for i := range a {
		if !(math.Abs(float64(a[i])-float64(b[i])) <= d) {
			return true
		}
	}
	return false
}

// A textual-inversion embedding, as a difference to any noun, makes the text states that it makes in diffusers.
func TestGoldenWord(t *testing.T) {
	base, g := openBase(t), openGolden(t)
	layout, err := op.NewLayout(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, word, class string }{
		{"word_token", "cat-toy", "cat"}, {"word_params", "word_params", "red hat person"}, {"word_params", "word_params", DefaultClass},
	} {
		a, err := Read(filepath.Join("testdata", c.file+".safetensors"), base)
		if err != nil {
			t.Fatal(err)
		}
		if a.Format != Embedding || a.Word != c.word {
			t.Fatalf("%s is read as %s of <%s>", c.file, a.Format, a.Word)
		}
		a.Class = c.class
		made, err := a.Concept(base)
		if err != nil {
			t.Fatal(err)
		}
		n, width := made.WordEmbeddings.Vectors, base.TextWidth
		encoding, err := base.words[0].tokenizer.Encode("a photo of <"+c.word+"> hat", []tokenizer.Placeholder{{Word: c.word, Class: c.class, Vectors: n}})
		if err != nil {
			t.Fatal(err)
		}
		residual := make([]float32, len(encoding.IDs)*width)
		for _, slot := range encoding.Slots {
			copy(residual[slot.Position*width:], made.WordEmbeddings.Data[slot.Vector*width:][:width])
		}
		g.close(t, states(t, base, encoding.IDs, residual, nil), "last_hidden_state_"+c.file)

		back, err := FromConcept(made, layout, nil, base)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range back.Embeddings {
			if d := math.Abs(float64(v - a.Embeddings[i])); d > 1e-6 {
				t.Fatalf("vector value %d comes back %g off", i, d)
			}
		}
	}
}
