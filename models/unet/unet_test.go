package unet_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/backend/trace"
	"likeness/models/op"
	"likeness/models/op/optest"
	"likeness/models/unet"
)

// read opens a golden case (scripts/golden): its configuration, weights, and inputs and outputs.
func read(t *testing.T, folder string) (cfg unet.Config, weights, io map[string]op.Array) {
	data, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg, err = unet.ParseConfig(data); err != nil {
		t.Fatal(err)
	}
	return cfg, optest.Read(t, filepath.Join(folder, "diffusion_pytorch_model.safetensors")), optest.Read(t, filepath.Join(folder, "io.safetensors"))
}

func predict(t *testing.T, model op.Model, weights, inputs map[string]op.Array) op.Array {
	out, err := ref.Run(model, weights, inputs)
	if err != nil {
		t.Fatal(err)
	}
	return out["noise_pred"]
}

// TestGolden holds the network against diffusers' UNet2DConditionModel.
func TestGolden(t *testing.T) {
	for _, folder := range optest.Folders(t, "testdata/*") {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			cfg, weights, io := read(t, folder)
			model := unet.New(cfg, nil)
			optest.Manifest(t, weights, model)
			optest.Near(t, "noise_pred", predict(t, model, weights, io), io["noise_pred"], 1e-4)
		})
	}
}

// TestOffsets holds offsets against the same change made to the weights themselves, for each sample of a batch its own, of two concepts.
func TestOffsets(t *testing.T) {
	cfg, weights, io := read(t, "testdata/sd1")
	layout, err := trace.Layout(unet.New(cfg, nil), 2, func(path string) bool { return strings.Contains(path, ".attn2.") })
	if err != nil {
		t.Fatal(err)
	}
	model, n := unet.New(cfg, layout), layout.Size()
	io["offsets"] = op.Floats(make([]float32, 2*2*n), 2, 2, n)
	base := predict(t, unet.New(cfg, nil), weights, io)
	optest.Near(t, "noise_pred of zero offsets", predict(t, model, weights, io), base, 0)

	packed := optest.Normal("offsets", 2, 2, n)
	for i := range packed.F32 {
		packed.F32[i] *= 0.2
	}
	io["offsets"] = packed
	got := predict(t, model, weights, io)
	for sample := range 2 {
		changed := optest.Merge(weights, layout, packed.F32[2*sample*n:2*(sample+1)*n])
		want := predict(t, unet.New(cfg, nil), changed, io)
		row := op.Size(want.Dims[1:])
		part := func(a op.Array) op.Array { return op.Floats(a.F32[sample*row:(sample+1)*row], want.Dims[1:]...) }
		optest.Near(t, "noise_pred", part(got), part(want), 1e-4)
		if same := part(base).F32[0] == part(want).F32[0]; same {
			t.Errorf("sample %d: the offsets change nothing", sample)
		}
	}
}

// TestMissingWeight names the module and the weight that the checkpoint lacks.
func TestMissingWeight(t *testing.T) {
	cfg, weights, io := read(t, "testdata/sd1")
	delete(weights, "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight")
	_, err := ref.Run(unet.New(cfg, nil), weights, io)
	if want := "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k: Weight weight: "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("the error is %v, want one that begins with %q", err, want)
	}
}
