package pipeline

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"likeness/models/clip"
	"likeness/models/op"
	"likeness/models/tokenizer"
)

// textEncoder is one of a model's text encoders.
type textEncoder struct {
	name      string // of the component
	config    clip.Config
	tokenizer *tokenizer.Tokenizer
	layout    *op.Layout     // of the offsets that act on it, or nil
	states    clip.Selection // what the UNet reads of it
	folder    string

	*group
	whole *network // without clip_skip

	mu       sync.Mutex
	skipping *network // with the clip_skip asked for last, or nil
	skipped  int
}

// model is the text encoder with the given states.
func (t *textEncoder) model(states clip.Selection) op.Model {
	return withOffsets(clip.Select(t.config, states), t.layout)
}

// run runs the text encoder without its last clipSkip layers. It keeps one network beside the whole one, for the clip_skip asked for last.
func (t *textEncoder) run(ctx context.Context, clipSkip int, inputs map[string]op.Array) (map[string]op.Array, error) {
	if clipSkip == 0 {
		return t.whole.Run(ctx, inputs)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.skipping == nil || t.skipped != clipSkip {
		if t.skipping != nil {
			if err := t.skipping.remove(); err != nil {
				return nil, err
			}
		}
		states := t.states
		states.Skip += clipSkip
		t.skipping, t.skipped = t.add(t.name, t.folder, t.model(states)), clipSkip
	}
	return t.skipping.Run(ctx, inputs)
}

// encodeText returns the row of a wording: its text states [layers, chunks·L, D] and, where the UNet reads them, its text_embeds behind.
func (e *Engine) encodeText(ctx context.Context, w *wording, clipSkip int) (row []float32, err error) {
	m := e.model
	whole := []int64{int64(clipSkip)}
	var lists [][]float32
	offsets, residuals := make([][]float32, len(m.encoders)), make([][]float32, len(m.encoders))
	for i, t := range m.encoders {
		offsets[i] = offsetsOf(t.layout, w.subjects, textOffsets(t.name))
		whole = append(append(whole, int64(len(w.encodings[i].IDs))), w.encodings[i].IDs...)
		residuals[i] = slices.Concat(w.residuals[i]...)
		lists = append(lists, w.encodings[i].Weights, residuals[i], offsets[i])
	}
	hash := cacheKey(whole, lists...)
	if row, ok := e.texts.get(hash); ok {
		return row, nil
	}
	states := make([][]float32, len(m.encoders))
	var pooled []float32
	for i, t := range m.encoders {
		if states[i], pooled, err = t.encode(ctx, w.encodings[i], residuals[i], offsets[i], clipSkip); err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	row = append(m.beside(states), pooled...)
	e.texts.put(hash, row)
	return row, nil
}

// encode returns the weighted states [layers, chunks·L, D] for residual of that size and, if the UNet reads it, the first chunk's text_embeds.
func (t *textEncoder) encode(ctx context.Context, encoding tokenizer.Encoding, residual, offsets []float32, clipSkip int) (states, pooled []float32, err error) {
	length, width := t.tokenizer.MaxLength(), t.config.HiddenSize
	layers := len(residual) / (len(encoding.IDs) * width)
	chunks := layers * len(encoding.IDs) / length
	weights := slices.Repeat(encoding.Weights, layers)
	inputs := map[string]op.Array{
		"input_ids":          op.Ints(slices.Repeat(encoding.IDs, layers), chunks, length),
		"concept_embeddings": op.Floats(residual, chunks, length, width),
	}
	if t.layout != nil {
		inputs["offsets"] = t.layout.Input([][]float32{offsets}, new([]float32))
	}
	out, err := t.run(ctx, clipSkip, inputs)
	if err != nil {
		return nil, nil, err
	}
	states = out["encoder_hidden_states"].F32
	if len(states) != chunks*length*width {
		return nil, nil, fmt.Errorf("encoder_hidden_states has %d values, needs %d", len(states), chunks*length*width)
	}
	if len(weights) > 0 {
		for c := range chunks {
			weigh(states[c*length*width:][:length*width], weights[c*length:][:length])
		}
	}
	if t.states.Pooled {
		pooled = out["text_embeds"].F32
		if len(pooled) != chunks*t.config.ProjectionDim {
			return nil, nil, fmt.Errorf("text_embeds has %d values, needs %d", len(pooled), chunks*t.config.ProjectionDim)
		}
		pooled = pooled[:t.config.ProjectionDim]
	}
	return states, pooled, nil
}

// weigh multiplies the states [L, D] of a chunk by its tokens' weights [L] and then all of them so that their mean stays as it was, as
// AUTOMATIC1111's web UI does (EmphasisOriginal of its modules/sd_emphasis.py). Where the mean is lost in rounding it is left alone.
func weigh(states, weights []float32) {
	width := len(states) / len(weights)
	var before, after float64
	for i := range states {
		before += float64(states[i])
		states[i] *= weights[i/width]
		after += float64(states[i])
	}
	if before == after || after == 0 {
		return
	}
	factor := float32(before / after)
	for i := range states {
		states[i] *= factor
	}
}

// beside puts the states of each text encoder, of one length, side by side: [L, the sum of their widths].
func (m *Model) beside(states [][]float32) []float32 {
	if len(states) == 1 {
		return states[0]
	}
	length := len(states[0]) / m.encoders[0].config.HiddenSize
	var all []float32
	for at := range length {
		for i, t := range m.encoders {
			all = append(all, states[i][at*t.config.HiddenSize:][:t.config.HiddenSize]...)
		}
	}
	return all
}
