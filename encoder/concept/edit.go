package concept

import (
	"fmt"
	"strings"

	"likeness/models/safetensors"
)

// Edit is a gated change of the UNet's layers (Perfusion, Tewel et al. 2023): where a text state is like the concept's own, a layer makes
// another output of it.
type Edit struct {
	Probe  []float32       // [text width]: a state's product with it is its likeness to the concept's own
	Layers map[string]Rows // by the dotted path
}

// Rows are what a layer makes of the concept's own state, and what it shall make in its place.
type Rows struct {
	Input, Output []float32 // [Out]
}

// Names of an edit's tensors in a file, with the layer's path between.
const (
	editPrefix = "edit."
	editProbe  = editPrefix + "probe"
	endInput   = ".input"
	endOutput  = ".output"
)

func (e Edit) validate() error {
	if (len(e.Probe) == 0) != (len(e.Layers) == 0) {
		return &InvalidError{"edit", fmt.Sprintf("has a probe of %d numbers for %d layers", len(e.Probe), len(e.Layers))}
	}
	sum := len(e.Probe)
	all := [][]float32{e.Probe}
	for path, rows := range e.Layers {
		if path == "" || len(rows.Input) == 0 || len(rows.Input) != len(rows.Output) {
			return &InvalidError{"edit", fmt.Sprintf("of %.200q has rows of %d and %d numbers", path, len(rows.Input), len(rows.Output))}
		}
		sum += 2 * len(rows.Input)
		all = append(all, rows.Input, rows.Output)
	}
	if sum > MaxNumbers {
		return &InvalidError{"edit", fmt.Sprintf("has more than %d numbers", MaxNumbers)}
	}
	for _, data := range all {
		if err := validNumbers("edit", data); err != nil {
			return err
		}
	}
	return nil
}

// encode adds the tensors of a file.
func (e Edit) encode(tensors map[string]safetensors.Tensor) {
	if len(e.Probe) > 0 {
		tensors[editProbe] = safetensors.F32(e.Probe, len(e.Probe))
	}
	for path, rows := range e.Layers {
		tensors[editPrefix+path+endInput] = safetensors.F32(rows.Input, len(rows.Input))
		tensors[editPrefix+path+endOutput] = safetensors.F32(rows.Output, len(rows.Output))
	}
}

// decodeEdit reads the tensors that are an edit's, and takes them out.
func decodeEdit(tensors map[string]safetensors.Tensor) (e Edit, err error) {
	for name, t := range tensors {
		rest, ok := strings.CutPrefix(name, editPrefix)
		if !ok {
			continue
		}
		delete(tensors, name)
		values, err := t.Float32()
		if err != nil || len(t.Shape) != 1 {
			return e, &InvalidError{name, fmt.Sprintf("is %s %v, not one row of numbers", t.DType, t.Shape)}
		}
		if name == editProbe {
			e.Probe = values
			continue
		}
		path, isInput := strings.CutSuffix(rest, endInput)
		if !isInput {
			if path, ok = strings.CutSuffix(rest, endOutput); !ok {
				return e, &InvalidError{name, "is an unknown tensor"}
			}
		}
		if e.Layers == nil {
			e.Layers = map[string]Rows{}
		}
		rows := e.Layers[path]
		if isInput {
			rows.Input = values
		} else {
			rows.Output = values
		}
		e.Layers[path] = rows
	}
	return e, nil
}
