package pipeline

import (
	"errors"
	"fmt"
	"math"

	"likeness/models/op"
)

// Edit is a gated change of what cross-attention's keys and values make of text states (Perfusion, Tewel et al. 2023, section 4). A layer's
// y becomes y - s·Input + g·Output, with s a state's likeness to the concept and the gate g = sigmoid((s - bias) / temperature).
type Edit struct {
	Probe  []float32 // [cross_attention_dim]: a state's product with it is its likeness, 1 for the concept's own state
	Input  []float32 // [UNet.EditSize]: what the layers make of the concept's own state
	Output []float32 // and what they shall make in its place
}

// What gates take where a request says nothing, as in Perfusion's inference.
const (
	GateBias        = 0.70
	GateTemperature = 0.15
)

// check holds an edit against the model.
func (e *Edit) check(m *Model) error {
	width, size := m.UNet.TextWidth(), m.UNet.EditSize()
	switch {
	case e == nil:
		return nil
	case !m.UNet.Edited:
		return errors.New("it brings gated changes, which this model was not opened with")
	case len(e.Probe) != width || len(e.Input) != size || len(e.Output) != size:
		return fmt.Errorf("gated changes of %d, %d and %d numbers, this model's are of %d, %d and %d: it was made for another model",
			len(e.Probe), len(e.Input), len(e.Output), width, size, size)
	case !op.Finite(e.Probe) || !op.Finite(e.Input) || !op.Finite(e.Output):
		return errors.New("gated changes hold values that are not numbers")
	}
	return nil
}

// gated is an edit on the text states of one prompt.
type gated struct {
	gates []float32 // [positions, 2]: of the rows
	rows  []float32 // [2, EditSize]
}

// gate lists what acts on text states [positions, D] of a completed request.
func (r Request) gate(states []float32) []gated {
	var all []gated
	for _, s := range r.Subjects {
		if s.Edit == nil || s.Scale == 0 {
			continue
		}
		width := len(s.Edit.Probe)
		g := gated{rows: append(append([]float32(nil), s.Edit.Input...), s.Edit.Output...)}
		for at := 0; at < len(states); at += width {
			likeness := 0.0
			for i, v := range states[at:][:width] {
				likeness += float64(v) * float64(s.Edit.Probe[i])
			}
			gate := 1 / (1 + math.Exp((r.GateBias-likeness)/r.GateTemperature))
			g.gates = append(g.gates, float32(-s.Scale*likeness), float32(s.Scale*gate))
		}
		all = append(all, g)
	}
	return all
}

// edit adds gates and edits to an input of the UNet: the prompt's row gets a sample's own, all else is zero.
func (m *Model) edit(run map[string]op.Array, batch []*sample, rows int) {
	if !m.UNet.Edited {
		return
	}
	most, size := 1, m.UNet.EditSize()
	for _, s := range batch {
		most = max(most, len(s.edits))
	}
	dims := m.UNet.GateDims(rows, batch[0].length, 2*most)
	gates, edits := make([]float32, op.Size(dims)), make([]float32, rows*2*most*size)
	positions, row := len(gates)/(rows*2*most), 0
	for _, s := range batch {
		row += s.rows()
		for k, e := range s.edits {
			copy(edits[((row-1)*most+k)*2*size:], e.rows)
			for at := range positions {
				own := at * 2 % len(e.gates) // one text of all layers is each layer's
				copy(gates[(((row-1)*positions+at)*most+k)*2:], e.gates[own:][:2])
			}
		}
	}
	run["gates"], run["edits"] = op.Floats(gates, dims...), op.Floats(edits, rows, 2*most, size)
}
