package exchange

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"likeness/encoder/concept"
	"likeness/models/checkpoint"
	"likeness/models/op/optest"
	"likeness/models/safetensors"
)

// attentionBase has the attention projections of Stable Diffusion 1.5's UNet, 128 of them, and nothing else.
func attentionBase() *Base {
	shapes := map[string][]int{}
	for block, width := range map[string]int{"down_blocks.0": 320, "down_blocks.1": 640, "down_blocks.2": 1280, "mid_block": 1280,
		"up_blocks.1": 1280, "up_blocks.2": 640, "up_blocks.3": 320} {
		for i := range map[byte]int{'d': 2, 'm': 1, 'u': 3}[block[0]] {
			for _, attention := range []string{"attn1", "attn2"} {
				for _, layer := range []string{"to_q", "to_k", "to_v", "to_out.0"} {
					shape := []int{width, width}
					if attention == "attn2" && (layer == "to_k" || layer == "to_v") {
						shape[1] = 768
					}
					shapes[fmt.Sprintf("%s.attentions.%d.transformer_blocks.0.%s.%s", block, i, attention, layer)] = shape
				}
			}
		}
	}
	b := &Base{Fingerprint: "base", Shapes: map[string]map[string][]int{checkpoint.UNet: shapes}}
	b.names = sync.OnceValue(func() names { return newNames(b) })
	return b
}

// BenchmarkRead is a LoRA of rank 4 on these projections, from its file until its offsets are packed; in diffusers' names and as a concept of
// our own. Bare is to read the same file and to copy it once. All find the file in the system's memory, and their own memory new.
func BenchmarkRead(b *testing.B) {
	base := attentionBase()
	tensors := map[string]safetensors.Tensor{}
	for path, shape := range base.Shapes[checkpoint.UNet] {
		for name, dims := range map[string][]int{"A": {4, shape[1]}, "B": {shape[0], 4}} {
			name = fmt.Sprintf("unet.%s.lora_%s.weight", path, name)
			tensors[name] = safetensors.F32(optest.Normal(name, dims...).F32, dims...)
		}
	}
	published, own := filepath.Join(b.TempDir(), "lora.safetensors"), filepath.Join(b.TempDir(), "concept.safetensors")
	check := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	check(safetensors.Write(published, tensors, nil))
	adapter, err := Read(published, base)
	check(err)
	c, err := adapter.Concept(base)
	check(err)
	check(c.Write(own))
	for name, read := range map[string]func() concept.LoRA{
		"lora": func() concept.LoRA {
			a, err := Read(published, base)
			check(err)
			return a.LoRA
		},
		"concept": func() concept.LoRA {
			c, err := concept.Read(own)
			check(err)
			return c.LoRA
		},
	} {
		b.Run(name, func(b *testing.B) {
			var ours, bare []float64
			var copied []byte
			took := func(f func()) float64 {
				debug.FreeOSMemory()
				start := time.Now()
				f()
				return time.Since(start).Seconds() * 1e3
			}
			for b.Loop() {
				ours = append(ours, took(func() {
					_, _, err := Pack(read()[checkpoint.UNet])
					check(err)
				}))
				bare = append(bare, took(func() {
					data, err := os.ReadFile(published)
					check(err)
					copied = slices.Clone(data)
				}))
			}
			slices.Sort(ours)
			slices.Sort(bare)
			runtime.KeepAlive(copied)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ours[len(ours)/2], "ms")
			b.ReportMetric(bare[len(bare)/2], "bare-ms")
			b.ReportMetric(ours[len(ours)/2]/bare[len(bare)/2], "ratio")
		})
	}
}
