package main

import (
	"context"
	"fmt"

	"likeness/encoder/imageprompt"
	"likeness/models/backend/ort"
	"likeness/models/op"
)

// recogniser is a face recogniser of the ArcFace family, as somebody's ONNX file.
type recogniser struct {
	*ort.Session
	in, out string
	side    int
}

// openRecogniser opens a file with one input [., 3, S, S] and one output [., numbers].
func openRecogniser(path string, options ort.Options) (imageprompt.Recogniser, error) {
	session, err := ort.OpenFile(path, options)
	if err != nil {
		return nil, err
	}
	in, out := session.Inputs(), session.Outputs()
	if len(in) != 1 || len(out) != 1 || len(in[0].Dims) != 4 || in[0].Dims[1] != 3 || in[0].Dims[2] != in[0].Dims[3] || len(out[0].Dims) != 2 {
		session.Close()
		return nil, fmt.Errorf("%s: inputs %v and outputs %v are not those of a face recogniser, one [n, 3, 112, 112] and one [n, 512]", path, in, out)
	}
	r := &recogniser{session, in[0].Name, out[0].Name, in[0].Dims[2]}
	if r.side < 1 { // left open
		r.side = 112
	}
	return r, nil
}

// Size implements imageprompt.Recogniser.
func (r *recogniser) Size() int { return r.side }

// Recognise implements imageprompt.Recogniser.
func (r *recogniser) Recognise(ctx context.Context, face []float32) ([]float32, error) {
	out, err := r.Run(ctx, map[string]op.Array{r.in: op.Floats(face, 1, 3, r.side, r.side)})
	return out[r.out].F32, err
}
