// Package width_test holds the UNet against diffusers' at the widths of Stable Diffusion 1.5, one layer a block.
package width_test

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/backend/trace"
	"likeness/models/op"
	"likeness/models/op/optest"
	"likeness/models/unet"
)

// config is what differs from diffusers' defaults.
const config = `{"cross_attention_dim": 768, "attention_head_dim": 8, "layers_per_block": 1}`

// uniform is number i of the sequence that scripts/golden/models.py draws weights from, -1 to 1.
func uniform(i uint32) float32 {
	i = (i ^ i>>16) * 0x7FEB352D
	i = (i ^ i>>15) * 0x846CA68B
	return float32((i^i>>16)>>8)*0x1p-23 - 1
}

// draw makes the weights of a draw. Matrices of one number of inputs are parts, each begun elsewhere, of one array.
func draw(list []trace.Weight, seed uint32) map[string]op.Array {
	const step = 101
	ends := map[int]int{} // of the array for a number of inputs
	for i, w := range list {
		if fan := inputs(w.Dims); fan > 0 {
			ends[fan] = max(ends[fan], step*i+op.Size(w.Dims))
		}
	}
	arrays := map[int][]float32{}
	for fan, end := range ends {
		scale := float32(math.Sqrt(3 / float64(fan)))
		arrays[fan] = make([]float32, end)
		for i := range arrays[fan] {
			arrays[fan][i] = uniform(seed+uint32(i)) * scale
		}
	}
	weights := map[string]op.Array{}
	for i, w := range list {
		begin, size := step*i, op.Size(w.Dims)
		if fan := inputs(w.Dims); fan > 0 {
			weights[w.Name] = op.Floats(arrays[fan][begin:begin+size], w.Dims...)
			continue
		}
		v, center := make([]float32, size), float32(0)
		if strings.HasSuffix(w.Name, "weight") {
			center = 1
		}
		for j := range v {
			v[j] = uniform(seed+uint32(begin+j))*0.25 + center
		}
		weights[w.Name] = op.Floats(v, w.Dims...)
	}
	return weights
}

// inputs is how many numbers one output of a matrix or kernel reads, 0 for a vector.
func inputs(dims []int) int {
	if len(dims) < 2 {
		return 0
	}
	return op.Size(dims[1:])
}

func TestGolden(t *testing.T) {
	cfg, err := unet.ParseConfig([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	model := unet.New(cfg, nil)
	list, err := trace.Weights(model)
	if err != nil {
		t.Fatal(err)
	}
	for name, seed := range map[string]uint32{"width_a": 100, "width_b": 200} {
		io := optest.Read(t, filepath.Join("testdata", name+".safetensors"))
		out, err := ref.Run(model, draw(list, seed), io)
		if err != nil {
			t.Fatal(err)
		}
		optest.Near(t, name, out["noise_pred"], io["noise_pred"], 1e-4)
	}
}
