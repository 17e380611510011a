package concept

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"likeness/models/safetensors"
)

// LoRA is what a concept that was a published LoRA changes: by the network's component, such as "unet", and the dotted path of the layer.
type LoRA map[string]map[string]Delta

// Delta is a low-rank change of one linear layer or 1×1 convolution: y += (x · Downᵀ) · Up. The published factor alpha/rank is in Up.
type Delta struct {
	In, Out, Rank int
	Down          []float32 // [Rank, In]
	Up            []float32 // [Rank, Out], the transpose of LoRA's B
}

// Endings of a delta's tensors in a file, behind component and path.
const (
	endDown = ".down"
	endUp   = ".up"
)

func (l LoRA) validate() error {
	for component, deltas := range l {
		if component == "" || strings.Contains(component, ".") || len(deltas) == 0 {
			return &InvalidError{"lora", fmt.Sprintf("has %d layers of a network %.40q", len(deltas), component)}
		}
		sum := 0
		for path, d := range deltas {
			name := component + "." + path
			if d.Rank < 1 || d.In < 1 || d.Out < 1 || len(d.Down) != d.Rank*d.In || len(d.Up) != d.Rank*d.Out {
				return &InvalidError{"lora", fmt.Sprintf("on %.200q has %d and %d numbers, no [%d, %d] and [%d, %d]", name, len(d.Down), len(d.Up), d.Rank, d.In, d.Rank, d.Out)}
			}
			if sum += len(d.Down) + len(d.Up); sum > MaxNumbers {
				return &InvalidError{"lora", fmt.Sprintf("on the %s has more than %d numbers", component, MaxNumbers)}
			}
			for _, data := range [][]float32{d.Down, d.Up} {
				if err := validNumbers("lora", data); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// encode adds the tensors of a file.
func (l LoRA) encode(tensors map[string]safetensors.Tensor) {
	for component, deltas := range l {
		for path, d := range deltas {
			tensors[component+"."+path+endDown] = safetensors.F32(d.Down, d.Rank, d.In)
			tensors[component+"."+path+endUp] = safetensors.F32(d.Up, d.Rank, d.Out)
		}
	}
}

// decodeLoRA reads the tensors of a file that have no other meaning.
func decodeLoRA(tensors map[string]safetensors.Tensor) (LoRA, error) {
	var l LoRA
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		layer, ok := strings.CutSuffix(name, endDown)
		component, path, named := strings.Cut(layer, ".")
		if _, whole := tensors[layer+endUp]; !ok && strings.HasSuffix(name, endUp) {
			if _, whole = tensors[strings.TrimSuffix(name, endUp)+endDown]; whole {
				continue // read with its other half
			}
		} else if ok && named && whole {
			d, err := decodeDelta(tensors[name], tensors[layer+endUp])
			if err != nil {
				return nil, &InvalidError{layer, err.Error()}
			}
			if l == nil {
				l = LoRA{}
			}
			if l[component] == nil {
				l[component] = map[string]Delta{}
			}
			l[component][path] = d
			continue
		}
		return nil, &InvalidError{name, "is an unknown tensor"}
	}
	return l, nil
}

func decodeDelta(down, up safetensors.Tensor) (d Delta, err error) {
	if len(down.Shape) != 2 || len(up.Shape) != 2 || down.Shape[0] != up.Shape[0] {
		return d, fmt.Errorf("has halves of %v and %v", down.Shape, up.Shape)
	}
	d = Delta{Rank: down.Shape[0], In: down.Shape[1], Out: up.Shape[1]}
	if d.Down, err = down.Float32(); err == nil {
		d.Up, err = up.Float32()
	}
	return d, err
}
