//go:build torch

package evaluate

import (
	"errors"
	"os"
	"path/filepath"

	"likeness/encoder/concept"
	"likeness/models/checkpoint"
	"likeness/training/protocol"
	"likeness/training/tune"
)

// learnt is what a candidate made of a person's photos.
type learnt struct {
	concept *concept.Concept // nil without one
	tuned   *tune.Result     // nil where nothing was tuned
	steps   int
}

// modelFolder is the folder, beside a person's pictures, of the model that was learned, while they are drawn.
const modelFolder = "model"

// movesWeights tells whether a candidate's pictures are drawn by a model of its own: a concept of low rank holds a part of what was learned.
func (c candidate) movesWeights() bool {
	m, _ := protocol.Find(c.method)
	return m.MovesWeights
}

// keep writes what was learned into dir and gives its size, with what draws it and the concept to draw; done closes what was opened for it.
func (c *comparison) keep(dir string, k candidate, l learnt) (with *painter, drawn *concept.Concept, bytes int, done func() error, err error) {
	nothing := func() error { return nil }
	if bytes, err = store(filepath.Join(dir, conceptFile), l.concept); err != nil || !k.movesWeights() {
		return c.painter, l.concept, bytes, nothing, err
	}
	folder := filepath.Join(dir, modelFolder)
	if err := l.tuned.SaveModel(folder); err != nil {
		return nil, nil, 0, nothing, err
	}
	wordFile := filepath.Join(folder, tune.WordFile(l.concept.Word))
	files, err := filepath.Glob(filepath.Join(folder, checkpoint.UNet, "*.safetensors"))
	if err != nil {
		return nil, nil, 0, nothing, err
	}
	bytes = 0
	for _, file := range append(files, wordFile) {
		stat, err := os.Stat(file)
		if err != nil {
			return nil, nil, 0, nothing, err
		}
		bytes += int(stat.Size())
	}
	if drawn, err = concept.Read(wordFile); err != nil {
		return nil, nil, 0, nothing, err
	}
	if with, err = newPainter(folder, c.painter.network); err != nil {
		return nil, nil, 0, nothing, err
	}
	return with, drawn, bytes, func() error { return errors.Join(with.Close(), os.RemoveAll(folder)) }, nil
}
