package unet_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/backend/trace"
	"likeness/models/op"
	"likeness/models/op/optest"
	"likeness/models/safetensors"
	"likeness/models/unet"
)

// readImages opens a golden case of image prompts (scripts/golden/ipadapter.py): a base model's UNet with an adapter's weights beside its own.
func readImages(t *testing.T, folder string) (cfg unet.Config, weights, io map[string]op.Array) {
	file, err := safetensors.Open(filepath.Join(folder, "io.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var settings struct {
		Model string  `json:"model"`
		Scale float64 `json:"scale"`
		Rank  int     `json:"rank"`
	}
	if err := json.Unmarshal([]byte(file.Metadata()["cases"]), &settings); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join("../pipeline/testdata", settings.Model, "unet")
	data, err := os.ReadFile(filepath.Join(base, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg, err = unet.ParseConfig(data); err != nil {
		t.Fatal(err)
	}
	weights = optest.Read(t, filepath.Join(base, "diffusion_pytorch_model.safetensors"))
	for name, weight := range optest.Read(t, filepath.Join(folder, "adapter.safetensors")) {
		if own, ok := strings.CutPrefix(name, "ip_adapter."); ok {
			weights[unet.Adapter+"/"+own] = weight
		}
	}
	cfg.ImagePrompts, cfg.AdapterRank = true, settings.Rank
	io = optest.Read(t, filepath.Join(folder, "io.safetensors"))
	io["image_scale"] = op.Floats([]float32{float32(settings.Scale), float32(settings.Scale)}, 2, 1)
	if cfg.AdapterRank > 0 {
		io["adapter_scale"] = op.Floats([]float32{1, 1}, 2)
	}
	return cfg, weights, io
}

// bothOrders is the two pictures' tokens end to end, and in the other order for the second row: [2, 2·T, D].
func bothOrders(tokens op.Array) op.Array {
	first, second := tokens.F32[:len(tokens.F32)/2], tokens.F32[len(tokens.F32)/2:]
	return op.Floats(slices.Concat(first, second, second, first), 2, 2*tokens.Dims[1], tokens.Dims[2])
}

// TestImagePrompts holds the network with an adapter against diffusers', and its weights against the files'.
func TestImagePrompts(t *testing.T) {
	for _, folder := range optest.Folders(t, "../ipadapter/testdata/*_*") {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			cfg, weights, io := readImages(t, folder)
			io["image_tokens"] = bothOrders(io["image_tokens"])
			model := unet.New(cfg, nil)
			optest.Manifest(t, weights, model)
			optest.Near(t, "noise_pred", predict(t, model, weights, io), io["noise_pred"], 1e-4)
		})
	}
}

// TestSeveralImagePrompts: images of one row act each by its own scale, whatever the other row's are, and scale 0 is exactly none.
func TestSeveralImagePrompts(t *testing.T) {
	cfg, weights, io := readImages(t, "../ipadapter/testdata/base_a")
	plain := cfg
	plain.ImagePrompts = false
	base := predict(t, unet.New(plain, nil), weights, io)
	tokens := io["image_tokens"] // of two pictures
	run := func(scale ...float32) op.Array {
		io["image_tokens"] = op.Floats(slices.Concat(tokens.F32, tokens.F32), 4, tokens.Dims[1], tokens.Dims[2])
		io["image_scale"] = op.Floats(scale, 2, 2)
		return predict(t, unet.New(cfg, nil), weights, io)
	}
	row := len(base.F32) / 2
	optest.Near(t, "scale 0", run(0, 0, 0, 0), base, 0)
	mixed := run(0.5, 0, 0.5, -1)
	optest.Near(t, "a second image of scale 0", op.Floats(mixed.F32[:row], row), op.Floats(run(0.5, 0, 0, 0).F32[:row], row), 1e-6)
	one := run(0.25, 0, 0.25, 0)
	io["image_tokens"] = op.Floats(slices.Concat(tokens.F32[:len(tokens.F32)/2], tokens.F32[:len(tokens.F32)/2]), 2, tokens.Dims[1], tokens.Dims[2])
	io["image_scale"] = op.Floats([]float32{0.25, 0.25}, 2, 1)
	optest.Near(t, "one image", predict(t, unet.New(cfg, nil), weights, io), one, 1e-6)
	if slices.Equal(mixed.F32[row:], base.F32[row:]) || slices.Equal(mixed.F32[row:], one.F32[row:]) {
		t.Error("the images make no difference")
	}
}

// TestAdapterLoRA: a FaceID adapter's LoRA acts on the rows that ask for it alone.
func TestAdapterLoRA(t *testing.T) {
	cfg, weights, io := readImages(t, "../ipadapter/testdata/faceid_a")
	plain := cfg
	plain.ImagePrompts, plain.AdapterRank = false, 0
	base := predict(t, unet.New(plain, nil), weights, io)
	io["image_tokens"], io["image_scale"], io["adapter_scale"] = bothOrders(io["image_tokens"]), op.Floats([]float32{0, 0}, 2, 1), op.Floats([]float32{0, 1}, 2)
	got := predict(t, unet.New(cfg, nil), weights, io)
	row := len(base.F32) / 2
	optest.Near(t, "a row of scale 0", op.Floats(got.F32[:row], row), op.Floats(base.F32[:row], row), 0)
	if slices.Equal(got.F32[row:], base.F32[row:]) {
		t.Error("the LoRA makes no difference")
	}
}

// TestPublishedAdapter holds the adapter's weights for Stable Diffusion 1.5 and XL against the published files' numbering and size.
func TestPublishedAdapter(t *testing.T) {
	for text, want := range map[string]struct {
		count, parameters int
		at                map[int]string
	}{
		sd15: {16, 19_169_280, map[int]string{0: "down_blocks.0.attentions.0", 3: "down_blocks.1.attentions.1", 6: "up_blocks.1.attentions.0",
			11: "up_blocks.2.attentions.2", 14: "up_blocks.3.attentions.2", 15: "mid_block.attentions.0"}},
		sdxl: {70, 2 * 2048 * (10*640 + 60*1280), map[int]string{0: "down_blocks.1.attentions.0", 4: "down_blocks.2.attentions.0", 24: "up_blocks.0.attentions.0", 60: "mid_block.attentions.0"}},
	} {
		cfg, err := unet.ParseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		cfg.ImagePrompts = true
		weights, err := trace.Weights(unet.New(cfg, nil))
		if err != nil {
			t.Fatal(err)
		}
		shapes, parameters := map[string][]int{}, 0
		for _, w := range weights {
			if own, ok := strings.CutPrefix(w.Name, unet.Adapter+"/"); ok {
				shapes[own] = w.Dims
				parameters += op.Size(w.Dims)
			}
		}
		all := cfg.CrossAttentions()
		if len(all) != want.count || len(shapes) != 2*want.count || parameters != want.parameters {
			t.Errorf("%d attentions with %d weights of %d parameters, want %d with twice as many of %d", len(all), len(shapes), parameters, want.count, want.parameters)
		}
		for i, a := range all {
			if own := cfg.Adapts()[2*i]; own.In != cfg.TextWidth() || own.Out != a.Width || own.Path != fmt.Sprintf("%d.to_k_ip", 2*i+1) {
				t.Errorf("%+v", own)
			}
			for _, name := range []string{fmt.Sprintf("%d.to_k_ip.weight", 2*i+1), fmt.Sprintf("%d.to_v_ip.weight", 2*i+1)} {
				if !slices.Equal(shapes[name], []int{a.Width, cfg.TextWidth()}) {
					t.Errorf("%s is %v, want [%d %d]", name, shapes[name], a.Width, cfg.TextWidth())
				}
			}
			if where := want.at[i]; !strings.HasPrefix(a.Path, where) {
				t.Errorf("attention %d is %s, want it in %s", i, a.Path, where)
			}
		}
	}
}

// TestAdapterOfAnotherModel names what does not fit.
func TestAdapterOfAnotherModel(t *testing.T) {
	cfg, weights, io := readImages(t, "../ipadapter/testdata/base_a")
	delete(weights, unet.Adapter+"/1.to_v_ip.weight")
	io["image_tokens"] = bothOrders(io["image_tokens"])
	if _, err := ref.Run(unet.New(cfg, nil), weights, io); err == nil || !strings.Contains(err.Error(), "1.to_v_ip") {
		t.Errorf("the error is %v, want one that names 1.to_v_ip", err)
	}
}
