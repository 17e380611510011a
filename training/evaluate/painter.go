//go:build torch

package evaluate

import (
	"errors"
	"fmt"
	"os"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/backend/trace"
	"likeness/models/op"
	"likeness/models/pipeline"
)

// model is what is measured: an engine and, where the folder has one, an encoder.
type model struct {
	base    *pipeline.Model
	engine  *pipeline.Engine
	encoder *encoder.Encoder
}

func openModel(dir string, network Network, reach pipeline.Reach) (*model, error) {
	base, enc, err := encoder.Open(dir, pipeline.Backend{Network: network, Reach: reach}, func(unet op.Model, cfg encoder.Config) (*op.Layout, error) {
		return trace.Layout(unet, cfg.Rank, cfg.IsTarget)
	})
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
	return encoder.Subject(c, 1, m.base, m.encoder)
}

// painter makes pictures with any concepts: it opens the model again where one needs more of it.
type painter struct {
	dir     string
	network Network
	reach   pipeline.Reach
	*model
}

func newPainter(dir string, network Network) (*painter, error) {
	m, err := openModel(dir, network, pipeline.Reach{})
	return &painter{dir: dir, network: network, model: m}, err
}

// grow lets the model draw a concept.
func (p *painter) grow(c *concept.Concept) error {
	missing := p.base.Lacks(encoder.Reach(c))
	if missing.Empty() {
		return nil
	}
	reach := p.reach.With(missing)
	m, err := openModel(p.dir, p.network, reach)
	if err != nil {
		return err
	}
	earlier := p.model
	p.reach, p.model = reach, m
	return earlier.Close()
}
