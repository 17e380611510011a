package ipadapter_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/clip"
	"likeness/models/ipadapter"
	"likeness/models/op"
	"likeness/models/op/optest"
)

// read opens a golden case (scripts/golden/ipadapter.py).
func read(t *testing.T, folder string) (cfg ipadapter.Config, vision clip.Config, weights, io map[string]op.Array) {
	data, err := os.ReadFile(filepath.Join(folder, "image_encoder/config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if vision, err = clip.ParseVisionConfig(data); err != nil {
		t.Fatal(err)
	}
	weights = map[string]op.Array{}
	for name, weight := range optest.Read(t, filepath.Join(folder, "image_encoder/model.safetensors")) {
		weights[ipadapter.ImageEncoder+"/"+name] = weight
	}
	shapes := map[string][]int{}
	for name, weight := range optest.Read(t, filepath.Join(folder, "adapter.safetensors")) {
		if own, ok := strings.CutPrefix(name, "image_proj."); ok {
			weights[ipadapter.ImageProj+"/"+own], shapes[own] = weight, weight.Dims
		}
	}
	if cfg, err = ipadapter.ReadConfig(shapes); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Fits(vision); err != nil {
		t.Fatal(err)
	}
	return cfg, vision, weights, optest.Read(t, filepath.Join(folder, "io.safetensors"))
}

// TestFaces holds those of FaceID against diffusers'.
func TestFaces(t *testing.T) {
	for _, folder := range optest.Folders(t, "testdata/faceid_*") {
		weights, shapes := map[string]op.Array{}, map[string][]int{}
		for name, weight := range optest.Read(t, filepath.Join(folder, "adapter.safetensors")) {
			if own, ok := strings.CutPrefix(name, "image_proj."); ok {
				weights[ipadapter.ImageProj+"/"+own], shapes[own] = weight, weight.Dims
			}
		}
		cfg, err := ipadapter.ReadConfig(shapes)
		if err != nil {
			t.Fatal(err)
		}
		io := optest.Read(t, filepath.Join(folder, "io.safetensors"))
		optest.Manifest(t, weights, ipadapter.Faces(cfg))
		for _, c := range []struct {
			tokens string
			faces  op.Array
		}{{"image_tokens", io["face_embeds"]}, {"blank_tokens", op.Floats(make([]float32, cfg.ImageWidth), 1, cfg.ImageWidth)}} {
			out, err := ref.Run(ipadapter.Faces(cfg), weights, map[string]op.Array{"face_embeds": c.faces})
			if err != nil {
				t.Fatal(err)
			}
			optest.Near(t, c.tokens, out["image_tokens"], io[c.tokens], 1e-4)
		}
	}
}

// TestGolden holds image tokens and blank ones against diffusers', and the network's weights against the files'.
func TestGolden(t *testing.T) {
	for _, folder := range optest.Folders(t, "testdata/*_*") {
		if strings.HasPrefix(filepath.Base(folder), "faceid") {
			continue // TestFaces
		}
		t.Run(filepath.Base(folder), func(t *testing.T) {
			cfg, vision, weights, io := read(t, folder)
			model := ipadapter.Network(cfg, vision)
			optest.Manifest(t, weights, model)
			out, err := ref.Run(model, weights, io)
			if err != nil {
				t.Fatal(err)
			}
			optest.Near(t, "image_tokens", out["image_tokens"], io["image_tokens"], 1e-4)
			if n := out["image_tokens"].Dims[1]; n != cfg.Tokens(vision) {
				t.Errorf("%d tokens, the configuration says %d", n, cfg.Tokens(vision))
			}
			blank, own := out["blank_tokens"]
			if own {
				n := op.Size(blank.Dims[1:])
				blank = op.Floats(blank.F32[:n], append([]int{1}, blank.Dims[1:]...)...)
			} else {
				black := map[string]op.Array{"pixel_values": op.Floats(make([]float32, 3*vision.ImageSize*vision.ImageSize), 1, 3, vision.ImageSize, vision.ImageSize)}
				if out, err = ref.Run(model, weights, black); err != nil {
					t.Fatal(err)
				}
				blank = out["image_tokens"]
			}
			optest.Near(t, "blank_tokens", blank, io["blank_tokens"], 1e-4)
		})
	}
}

// TestPublishedShapes tells the published adapters apart, and the ones that cannot be used.
func TestPublishedShapes(t *testing.T) {
	base := map[string][]int{"proj.weight": {3072, 1024}, "proj.bias": {3072}, "norm.weight": {768}, "norm.bias": {768}}
	plus := map[string][]int{"latents": {1, 16, 768}, "proj_in.weight": {768, 1280}, "proj_out.weight": {768, 768}, "layers.0.0.to_q.weight": {768, 768},
		"layers.1.0.to_q.weight": {768, 768}, "layers.0.1.1.weight": {3072, 768}}
	face := map[string][]int{"proj.0.weight": {1024, 512}, "proj.2.weight": {3072, 1024}, "norm.weight": {768}}
	full := map[string][]int{"proj.0.weight": {1280, 1280}, "proj.2.weight": {768, 1280}, "proj.3.weight": {768}}
	for _, c := range []struct {
		shapes map[string][]int
		want   ipadapter.Config
	}{
		{base, ipadapter.Config{Kind: ipadapter.Base, TextWidth: 768, ImageWidth: 1024}},
		{plus, ipadapter.Config{Kind: ipadapter.Plus, TextWidth: 768, ImageWidth: 1280, Queries: 16, Width: 768, Heads: 12, Layers: 2, Inner: 3072}},
		{full, ipadapter.Config{Kind: ipadapter.Full, TextWidth: 768, ImageWidth: 1280}},
		{face, ipadapter.Config{Kind: ipadapter.Face, TextWidth: 768, ImageWidth: 512, Queries: 4, Inner: 1024}},
	} {
		got, err := ipadapter.ReadConfig(c.shapes)
		if err != nil || got != c.want {
			t.Errorf("%+v, %v, want %+v", got, err, c.want)
		}
		if got.Kind != ipadapter.Face && !strings.Contains(got.Encoder(), "ViT-H/14") {
			t.Errorf("%s: its encoder is %s", got.Kind, got.Encoder())
		}
	}
	half := maps.Clone(plus)
	delete(half, "proj_in.weight")
	none := maps.Clone(plus)
	delete(none, "layers.0.0.to_q.weight")
	for want, shapes := range map[string]map[string][]int{
		"0 image tokens": {"norm.weight": {768}, "proj.0.weight": {1024, 512}}, "FaceID Plus, which": {"perceiver_resampler.proj_in.weight": {768, 1280}}, "no known IP-Adapter: a, b": {"a": {1}, "b": {2}},
		"maps width 0 to 768": half, "with 0 layers": none,
	} {
		if _, err := ipadapter.ReadConfig(shapes); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	cfg, _ := ipadapter.ReadConfig(base)
	if err := cfg.Fits(clip.VisionDefault()); err == nil || !strings.Contains(err.Error(), "width 512 of 3 colours, the adapter reads 1024") || !strings.Contains(err.Error(), "ViT-H/14") {
		t.Error(err)
	}
}
