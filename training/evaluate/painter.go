//go:build torch

package evaluate

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/encoder/exchange"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
)

// layers are those that offsets act on beside the encoder's, by component.
type layers map[string][]op.Target

// model is what is measured: an engine and, where the folder has one, an encoder.
type model struct {
	base    *pipeline.Model
	engine  *pipeline.Engine
	encoder *encoder.Encoder
}

func openModel(dir string, network Network, more layers) (*model, error) {
	backend := pipeline.Backend{Network: network, TextLayouts: map[string]*op.Layout{}}
	for component, targets := range more {
		if component == checkpoint.UNet {
			continue
		}
		layout, err := op.NewLayout(1, targets)
		if err != nil {
			return nil, err
		}
		backend.TextLayouts[component] = layout
	}
	base, enc, err := encoder.Open(dir, backend, func(unet op.Model, cfg encoder.Config) (*op.Layout, error) {
		return trace.Layout(unet, cfg.Rank, cfg.IsTarget)
	}, more[checkpoint.UNet]...)
	if err != nil {
		return nil, err
	}
	return &model{base, pipeline.NewEngine(base, pipeline.EngineConfig{}), enc}, nil
}

func (m *model) methods() []Method {
	methods := []Method{PromptAlone(), PromptWithTraits()}
	if m.encoder == nil {
		fmt.Fprintln(os.Stderr, "the model has no encoder: only prompts are measured")
		return methods
	}
	return append(methods, Encoded(m.encoder, 1), Encoded(m.encoder, encoder.MaxPhotos))
}

func (m *model) Close() error {
	errs := []error{m.engine.Close(), m.base.Close()}
	if m.encoder != nil {
		errs = append(errs, m.encoder.Close())
	}
	return errors.Join(errs...)
}

// subject is how requests use a concept, as a server does.
func (m *model) subject(c *concept.Concept) (pipeline.Subject, error) {
	s := pipeline.Subject{Word: c.Word, Class: c.Class, WordEmbeddings: c.WordEmbeddings.Data, Everywhere: c.Method == exchange.MethodLoRA, Scale: 1}
	if c.WordEmbeddings.Layers > 1 {
		return s, errors.New("its words differ between layers, which pictures cannot be made with")
	}
	for component, deltas := range c.LoRA {
		layout, packed, err := exchange.Pack(deltas)
		if err != nil {
			return s, err
		}
		if component == checkpoint.UNet {
			s.Layout, s.Offsets = layout, packed
			continue
		}
		if s.TextOffsets == nil {
			s.TextOffsets = map[string]pipeline.Packed{}
		}
		s.TextOffsets[component] = pipeline.Packed{Layout: layout, Values: packed}
	}
	if len(c.Offsets)+len(c.Coefficients) == 0 {
		return s, nil
	}
	if m.encoder == nil {
		return s, errors.New("its offsets need an encoder, which the model folder has none of")
	}
	var err error
	s.Layout = m.encoder.Layout()
	s.Offsets, err = m.encoder.Expand(c)
	return s, err
}

// painter makes pictures with concepts of any layers: it opens the model again where a concept changes one that offsets do not act on yet.
type painter struct {
	dir     string
	network Network
	more    layers
	*model
}

func newPainter(dir string, network Network) (*painter, error) {
	m, err := openModel(dir, network, nil)
	return &painter{dir: dir, network: network, more: layers{}, model: m}, err
}

// reach makes offsets act on a concept's layers.
func (p *painter) reach(c *concept.Concept) error {
	more := maps.Clone(p.more)
	for component, deltas := range c.LoRA {
		for _, t := range exchange.Targets(deltas) {
			if !slices.Contains(more[component], t) && !p.has(component, t) {
				more[component] = append(slices.Clone(more[component]), t)
			}
		}
	}
	if maps.EqualFunc(more, p.more, slices.Equal) {
		return nil
	}
	m, err := openModel(p.dir, p.network, more)
	if err != nil {
		return err
	}
	earlier := p.model
	p.more, p.model = more, m
	return earlier.Close()
}

// has tells whether offsets of the UNet act on a layer.
func (p *painter) has(component string, t op.Target) bool {
	return component == checkpoint.UNet && p.base.Layout != nil && slices.Contains(p.base.Layout.Targets(), t)
}
