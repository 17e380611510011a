package evaluate

import (
	"context"
	"embed"
	"fmt"
	"image"
	"image/draw"
	"strconv"
	"strings"

	"likeness/models/op"
	"likeness/models/pixels"
	"likeness/models/safetensors"
	"likeness/training/portraits"
)

//go:embed judge
var bundled embed.FS

const judgeFile = "judge/judge.safetensors"

// Judge tells who is in a picture and what is around them. It has seen people of its own, and is not part of any loss that a model is
// trained with: a model that pleased its judge would be measured by nothing.
type Judge struct {
	run func(pictures op.Array) (map[string]op.Array, error)
}

// Sight is what a judge sees in one picture.
type Sight struct {
	Embedding []float32 // of unit length; the cosine of two says how alike the persons are
	Labels    [6]int    // the context, as portraits.Context.Labels
}

// judgeBatch is how many pictures are looked at together.
const judgeBatch = 32

// Look judges square pictures of side portraits.Size.
func (j *Judge) Look(ctx context.Context, pictures []image.Image) ([]Sight, error) {
	const side, size = portraits.Size, 3 * portraits.Size * portraits.Size
	var sights []Sight
	canvas := image.NewRGBA(image.Rect(0, 0, side, side))
	for start := 0; start < len(pictures); start += judgeBatch {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part := pictures[start:min(start+judgeBatch, len(pictures))]
		planes := make([]float32, len(part)*size)
		for i, p := range part {
			if p.Bounds().Size() != image.Pt(side, side) {
				return nil, fmt.Errorf("picture of %v: the judge looks at %d×%d", p.Bounds().Size(), side, side)
			}
			draw.Draw(canvas, canvas.Rect, p, p.Bounds().Min, draw.Src)
			pixels.Planes(planes[i*size:], canvas)
		}
		out, err := j.run(op.Floats(planes, len(part), 3, side, side))
		if err != nil {
			return nil, fmt.Errorf("judge: %w", err)
		}
		embeddings, logits := out["embedding"].F32, out["logits"].F32
		for i := range part {
			sights = append(sights, Sight{embeddings[i*embeddingSize:][:embeddingSize], labelsOf(logits[i*labels():][:labels()])})
		}
	}
	return sights, nil
}

// labelsOf picks the likeliest value of each facet.
func labelsOf(logits []float32) (picked [6]int) {
	for f, facet := range portraits.LabelNames {
		n := len(facet.Values)
		for i, v := range logits[:n] {
			if v > logits[picked[f]] {
				picked[f] = i
			}
		}
		logits = logits[n:]
	}
	return picked
}

// bundledJudge reads the weights of the judge that comes with the program.
func bundledJudge() (map[string]op.Array, error) {
	data, err := bundled.ReadFile(judgeFile)
	if err != nil {
		return nil, fmt.Errorf("the program was built without a judge: train one with --train-judge: %w", err)
	}
	f, err := safetensors.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", judgeFile, err)
	}
	defer f.Close()
	return readJudge(f)
}

func readJudge(f *safetensors.File) (map[string]op.Array, error) {
	if got, want := f.Metadata()["labels"], strconv.Itoa(labels()); got != want {
		return nil, fmt.Errorf("%s: knows %s labels, pictures have %s: train another with --train-judge", f.Path(), got, want)
	}
	weights := map[string]op.Array{}
	for _, name := range f.Names() {
		values, dims, err := f.Float32(name)
		if err != nil {
			return nil, err
		}
		weights[name] = op.Floats(values, dims...)
	}
	return weights, nil
}

// writeJudge writes the weights that a judge needs after its training, in half precision.
func writeJudge(path string, weights map[string]op.Array) error {
	tensors := map[string]safetensors.Tensor{}
	for name, a := range weights {
		if !strings.HasPrefix(name, "traits.") {
			tensors[name] = safetensors.F16(a.F32, a.Dims...)
		}
	}
	return safetensors.Write(path, tensors, map[string]string{"labels": strconv.Itoa(labels())})
}
