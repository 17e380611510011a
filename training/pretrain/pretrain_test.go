//go:build torch

package pretrain

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"likeness/encoder"
	"likeness/models/backend/ref"
	"likeness/models/backend/torch"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/tokenizer"
	"likeness/models/unet"
	"likeness/training/base"
	"likeness/training/latents"
	"likeness/training/loop"
)

const tokenizerDir = "../../models/demo/tokenizer"

// tiny is the bundled pack's architecture with few channels.
func tiny(tok *tokenizer.Tokenizer) base.Architecture {
	a := base.Portraits(tok.VocabSize(), int(tok.EndID()), tok.MaxLength())
	a.VAE.BlockOutChannels, a.VAE.NormNumGroups, a.VAE.LatentChannels = []int{8, 8, 8, 8}, 4, 4
	a.UNet.BlockOutChannels, a.UNet.NormNumGroups, a.UNet.Heads, a.UNet.CrossAttentionDim = []int{8, 16, 16}, 4, unet.PerLevel{2}, unet.PerLevel{16}
	a.UNet.InChannels, a.UNet.OutChannels = 4, 4
	a.Text.HiddenSize, a.Text.IntermediateSize, a.Text.NumHiddenLayers, a.Text.ProjectionDim = 16, 32, 1, 16
	return a
}

func tinyEncoder(textWidth int) encoder.Config {
	c := encoder.Default(textWidth)
	c.BlockOutChannels, c.NormNumGroups, c.PlaceChannels, c.HiddenSize, c.NumCoefficients = []int{8, 8, 8, 16}, 4, 4, 32, 3
	return c
}

func few(dir string) loop.Config {
	cfg := loop.Default(dir)
	cfg.Steps, cfg.Batch, cfg.WarmUp, cfg.SampleEvery = 3, 4, 1, time.Hour
	return cfg
}

func small(cfg latents.Config) latents.Config {
	cfg.Begin, cfg.Each, cfg.Renew = 4, 2, 1
	return cfg
}

// trainBase makes a model folder the way the base command does, in a few steps.
func trainBase(t *testing.T, engine *torch.Engine, model string) {
	t.Helper()
	tok, err := tokenizer.Open(tokenizerDir)
	if err != nil {
		t.Fatal(err)
	}
	arch, runs := tiny(tok), t.TempDir()
	vaeRun, vaeDir := filepath.Join(runs, "vae"), filepath.Join(model, "vae")
	if err := base.TrainVAE(t.Context(), engine, arch.VAE, few(vaeRun)); err != nil {
		t.Fatal(err)
	}
	if err := base.ExportVAE(engine, arch.VAE, vaeRun, vaeDir); err != nil {
		t.Fatal(err)
	}
	if err := base.RefineDecoder(t.Context(), engine, vaeDir, few(filepath.Join(runs, "decoder"))); err != nil {
		t.Fatal(err)
	}
	d, err := base.OpenDiffusion(engine, arch, tok, vaeDir)
	if err != nil {
		t.Fatal(err)
	}
	d.Pool = small(d.Pool)
	run := filepath.Join(runs, "diffusion")
	if err := d.Train(t.Context(), engine, few(run)); err != nil {
		t.Fatal(err)
	}
	if err := d.Export(run, tokenizerDir, model); err != nil {
		t.Fatal(err)
	}
}

// The commands' whole way: every network is trained, written, read back, and what the encoder's folder says is what was trained.
func TestFromNothingToAnEncoder(t *testing.T) {
	engine, err := torch.New(torch.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	model := filepath.Join(t.TempDir(), "model")
	trainBase(t, engine, model)

	p, err := Open(engine, model, tinyEncoder)
	if err != nil {
		t.Fatal(err)
	}
	p.Pool = small(p.Pool)
	run := t.TempDir()
	if err := p.Train(t.Context(), engine, few(run)); err != nil {
		t.Fatal(err)
	}
	if err := p.Export(run, model); err != nil {
		t.Fatal(err)
	}
	if samples, err := filepath.Glob(filepath.Join(run, "sample-*.png")); err != nil || len(samples) == 0 {
		t.Errorf("no sample pictures: %v", err)
	}

	folder, err := checkpoint.Open(model)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	component, err := folder.Component("encoder")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := encoder.ParseConfig(component.Config())
	if err != nil {
		t.Fatal(err)
	}
	layout, err := trace.Layout(unet.New(p.UNet, nil), cfg.Rank, cfg.IsTarget)
	if err != nil {
		t.Fatal(err)
	}
	base, err := folder.Fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	e, err := encoder.New(component, nil, layout, base)
	if err != nil {
		t.Fatal(err)
	}
	checkExpansion(t, e, component, cfg, layout)
	checkFurther(t, engine, model, component)
}

// checkFurther goes on from the encoder in a model folder, with its architecture, at a rate that leaves it where it was.
func checkFurther(t *testing.T, engine *torch.Engine, model string, written *checkpoint.Component) {
	t.Helper()
	p, err := Open(engine, model, encoder.Default)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.StartFrom(t.TempDir()); err == nil || !strings.Contains(err.Error(), "encoder") {
		t.Errorf("a folder without an encoder: %v", err)
	}
	if err := p.StartFrom("../../models/demo"); err == nil || !strings.Contains(err.Error(), "128 numbers") {
		t.Errorf("an encoder for a text encoder of 128 channels, on one of 16: %v", err)
	}
	weights, err := base.Weights(written, "")
	if err != nil {
		t.Fatal(err)
	}
	part, without := t.TempDir(), maps.Clone(weights)
	delete(without, "mapper.bias")
	config, err := encoder.ParseConfig(written.Config())
	if err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.WriteComponent(filepath.Join(part, component), config, base.Half(without), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.StartFrom(part); err == nil || !strings.Contains(err.Error(), "mapper.bias") {
		t.Errorf("an encoder without its mapper's bias: %v", err)
	}
	if err := p.StartFrom(model); err != nil {
		t.Fatal(err)
	}
	p.Pool = small(p.Pool)
	cfg := few(t.TempDir())
	cfg.LR = 1e-12
	if err := p.Train(t.Context(), engine, cfg); err != nil {
		t.Fatal(err)
	}
	average, err := loop.Average(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range weights {
		for i, v := range want.F32 {
			if got := average[component+"/"+name].F32[i]; math.Abs(float64(got-v)) > 1e-6 {
				t.Fatalf("%s: number %d was %g and is %g after three steps that move nothing", name, i, v, got)
			}
		}
	}
	checkStrength(t, p, average)
}

// checkStrength exports half of what an encoder says: half the words, and offsets whose up halves are half as large.
func checkStrength(t *testing.T, p *Pretraining, weights map[string]op.Array) {
	t.Helper()
	half := map[string]op.Array{}
	p.Strength = 0.5
	for name, a := range weights {
		half[name] = p.strengthened(strings.TrimPrefix(name, component+"/"), a)
	}
	side := p.Encoder.ImageSize
	photo := make([]float32, 3*side*side)
	for i := range photo {
		photo[i] = float32(math.Sin(float64(i)))
	}
	in := map[string]op.Array{"photos": op.Floats(photo, 1, 1, 3, side, side)}
	all, err := ref.Run(p.trained(), weights, in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ref.Run(p.trained(), half, in)
	if err != nil {
		t.Fatal(err)
	}
	moved := false
	check := func(name string, got, want []float32, factor float64) {
		for i, v := range got {
			if math.Abs(float64(v)-factor*float64(want[i])) > 1e-9 {
				t.Fatalf("%s: number %d is %g, want %g of %g", name, i, v, factor, want[i])
			}
			moved = moved || v != 0 && factor != 1
		}
	}
	check("words", got["words"].F32, all["words"].F32, 0.5)
	a, b := all["offsets"].F32, got["offsets"].F32
	for _, target := range p.Layout.Targets() {
		down, up, _ := p.Layout.Span(target.Path)
		check(target.Path+" down", b[down:up], a[down:], 1)
		check(target.Path+" up", b[up:up+p.Layout.Rank*target.Out], a[up:], 0.5)
	}
	if !moved {
		t.Error("the encoder says nothing: half of it is no test")
	}
}

// checkExpansion holds the expansion in Go against that of the trained model, on the reference.
func checkExpansion(t *testing.T, e *encoder.Encoder, component *checkpoint.Component, cfg encoder.Config, layout *op.Layout) {
	t.Helper()
	weights, err := base.Weights(component, "")
	if err != nil {
		t.Fatal(err)
	}
	coefficients := make([]float32, len(layout.Targets())*cfg.NumCoefficients)
	for i := range coefficients {
		coefficients[i] = float32(i%7) - 3
	}
	model := func(s op.Scope) map[string]op.Tensor {
		in := s.Input("coefficients", op.Float32, -1, len(coefficients))
		return map[string]op.Tensor{"offsets": encoder.Offsets(s, cfg, layout, in)}
	}
	out, err := ref.Run(model, weights, map[string]op.Array{"coefficients": op.Floats(coefficients, 1, len(coefficients))})
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.ExpandCoefficients(coefficients)
	if err != nil {
		t.Fatal(err)
	}
	moved := false
	for i, want := range out["offsets"].F32 {
		if d := got[i] - want; d > 1e-4 || d < -1e-4 {
			t.Fatalf("offset %d is %g, the model says %g", i, got[i], want)
		}
		moved = moved || want != 0
	}
	if !moved {
		t.Error("all offsets are zero: nothing was learned")
	}
}

func TestOpenNamesWhatIsMissing(t *testing.T) {
	engine, err := torch.New(torch.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "model_index.json"), []byte(`{"_class_name": "StableDiffusionPipeline"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Open(engine, dir, encoder.Default)
	for _, part := range []string{"unet", "vae", "text_encoder"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not name %s", err, part)
		}
	}
}
