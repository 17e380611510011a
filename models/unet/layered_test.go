package unet_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"likeness/models/backend/trace"
	"likeness/models/op"
	"likeness/models/op/optest"
	"likeness/models/unet"
)

// layered repeats text states [B, L, D] for the configuration's layers.
func layered(cfg unet.Config, states op.Array) op.Array {
	row := op.Size(states.Dims[1:])
	var all []float32
	for b := range states.Dims[0] {
		all = append(all, slices.Repeat(states.F32[b*row:][:row], cfg.TextLayers())...)
	}
	return op.Floats(all, states.Dims[0], cfg.TextLayers(), states.Dims[1], states.Dims[2])
}

// TestLayeredText: the same text for every cross-attention is that text, bit for bit; a text for one of them acts, whole network and
// outermost layers alike.
func TestLayeredText(t *testing.T) {
	cfg, weights, io := read(t, "testdata/sd1")
	base := predict(t, unet.New(cfg, nil), weights, io)
	cfg.LayeredText = true
	io["encoder_hidden_states"] = layered(cfg, io["encoder_hidden_states"])
	optest.Near(t, "noise_pred", predict(t, unet.New(cfg, nil), weights, io), base, 0)
	row := len(io["encoder_hidden_states"].F32) / io["encoder_hidden_states"].Dims[0]
	size := row / cfg.TextLayers()
	seen := []float32{base.F32[0]}
	for layer := range cfg.TextLayers() {
		changed := layered(cfg, op.Floats(io["encoder_hidden_states"].F32[:size], append([]int{1}, io["encoder_hidden_states"].Dims[2:]...)...))
		for i := range size {
			changed.F32[layer*size+i] += 1
		}
		copy(io["encoder_hidden_states"].F32, changed.F32)
		got := predict(t, unet.New(cfg, nil), weights, io).F32[0]
		if slices.Contains(seen, got) {
			t.Errorf("the text of layer %d changes nothing of its own", layer)
		}
		seen = append(seen, got)
	}
}

// TestTextLayers: layers are numbered as the network runs through them.
func TestTextLayers(t *testing.T) {
	for text, want := range map[string]int{sd15: 16, sdxl: 70} {
		cfg, err := unet.ParseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var run []string
		model := unet.New(cfg, nil)
		if _, err := trace.Weights(func(s op.Scope) map[string]op.Tensor {
			run = nil
			return model(s.WithDeltas(func(path string, _, _ int) (down, up op.Tensor, ok bool) {
				if attention, ok := strings.CutSuffix(path, ".attn2.to_k"); ok {
					run = append(run, attention+".attn2")
				}
				return op.Tensor{}, op.Tensor{}, false
			}))
		}); err != nil {
			t.Fatal(err)
		}
		all := cfg.CrossAttentions()
		slices.SortFunc(all, func(a, b unet.CrossAttention) int { return cmp.Compare(a.Layer, b.Layer) })
		if cfg.TextLayers() != want || len(run) != want {
			t.Fatalf("%d layers, %d are run, want %d", cfg.TextLayers(), len(run), want)
		}
		for i, a := range all {
			if a.Layer != i || a.Path != run[i] {
				t.Errorf("layer %d is %s with number %d, the network runs %s", i, a.Path, a.Layer, run[i])
			}
		}
	}
}
