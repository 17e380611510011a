package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"likeness/models/checkpoint"
	"likeness/models/clip"
	"likeness/models/tokenizer"
)

// readTexts reads tokenizers and configurations of the text encoders.
func (m *Model) readTexts(folder *checkpoint.Folder, b Backend) error {
	names := [][2]string{{checkpoint.TextEncoder, checkpoint.Tokenizer}}
	if folder.Has(checkpoint.TextEncoder2) {
		names = append(names, [2]string{checkpoint.TextEncoder2, checkpoint.Tokenizer2})
	}
	var errs []error
	for _, name := range names {
		t := &textEncoder{name: name[0], folder: filepath.Join(folder.Path(), name[0]), states: clip.Selection{Norm: true},
			layout: m.TextLayouts[name[0]]}
		component, err := folder.Component(t.name)
		if err == nil {
			if t.config, err = clip.ParseTextConfig(component.Config()); err != nil {
				err = fmt.Errorf("%s: %w", t.folder, err)
			}
		}
		errs = append(errs, err)
		words, err := folder.Component(name[1])
		if err == nil {
			t.tokenizer, err = tokenizer.Open(words.Path())
		}
		errs = append(errs, err)
		m.encoders = append(m.encoders, t)
	}
	first := m.encoders[0]
	m.Text, m.Tokenizer = first.config, first.tokenizer
	if len(m.encoders) == 2 { // StableDiffusionXLPipeline reads the states before the last layer, without the final norm
		first.states = clip.Selection{Skip: 1}
		m.encoders[1].states = clip.Selection{Skip: 1, Pooled: true}
		errs = append(errs, m.readZeroNegative(folder.Path()))
	}
	return errors.Join(errs...)
}

// readZeroNegative reads force_zeros_for_empty_prompt, which StableDiffusionXLPipeline assumes where it is not there.
func (m *Model) readZeroNegative(dir string) error {
	m.zeroNegative = true
	data, err := readSettings(dir, "model_index.json")
	if data == nil || err != nil {
		return err
	}
	err = json.Unmarshal(data, &struct {
		Zeros *bool `json:"force_zeros_for_empty_prompt"`
	}{&m.zeroNegative})
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, "model_index.json"), err)
	}
	return nil
}

// readSettings reads a file of a model folder: nil where there is none, as in a single-file checkpoint.
func readSettings(dir, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	return data, err
}

// checkTexts holds that tokenizers, text encoders and UNet fit together.
func (m *Model) checkTexts() error {
	pooled := 0
	for _, t := range m.encoders {
		switch c := t.config; {
		case t.tokenizer.MaxLength() != c.MaxPositionEmbeddings:
			return fmt.Errorf("the tokenizer's context is %d tokens, that of %s %d", t.tokenizer.MaxLength(), t.name, c.MaxPositionEmbeddings)
		case t.tokenizer.MaxLength() != m.Tokenizer.MaxLength():
			return fmt.Errorf("the tokenizers' contexts are %d and %d tokens", m.Tokenizer.MaxLength(), t.tokenizer.MaxLength())
		case t.tokenizer.VocabSize() > c.VocabSize:
			return fmt.Errorf("the tokenizer knows %d tokens, %s %d", t.tokenizer.VocabSize(), t.name, c.VocabSize)
		case t.states.Skip > c.NumHiddenLayers:
			return fmt.Errorf("%s has %d layers: too few", t.name, c.NumHiddenLayers)
		case t.states.Pooled && !c.Projection:
			return fmt.Errorf("%s has no text_projection: its architectures must name CLIPTextModelWithProjection", t.name)
		case t.states.Pooled:
			pooled = c.ProjectionDim
		}
	}
	switch {
	case m.WordWidth() != m.UNet.TextWidth():
		return fmt.Errorf("the text encoders have width %d, the unet reads %d", m.WordWidth(), m.UNet.TextWidth())
	case pooled != m.UNet.PooledWidth():
		return fmt.Errorf("the text encoders pool to width %d, the unet reads %d", pooled, m.UNet.PooledWidth())
	}
	return nil
}

// WordWidth is the width of a word's embedding: the text encoders' widths, summed.
func (m *Model) WordWidth() int {
	width := 0
	for _, t := range m.encoders {
		width += t.config.HiddenSize
	}
	return width
}

// maxClipSkip is the largest clip_skip that leaves every text encoder something.
func (m *Model) maxClipSkip() int {
	least := m.encoders[0].config.NumHiddenLayers - m.encoders[0].states.Skip
	for _, t := range m.encoders {
		least = min(least, t.config.NumHiddenLayers-t.states.Skip)
	}
	return least
}
