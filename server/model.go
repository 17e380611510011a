package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/encoder/exchange"
	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/models/scheduler"
	"likeness/server/api"
	"likeness/server/config"
)

// model is an open model folder on ONNX Runtime, with all that photos and prompts need.
type model struct {
	*pipeline.Engine
	*encoder.Intake
	base     *pipeline.Model
	encoder  *encoder.Encoder // nil: the folder has none
	detector *ort.Session     // nil: none is installed
}

// openModel opens what the settings name, for up to maxQueue pictures at a time; its offsets act on the adapters' layers too. The caller
// closes it.
func openModel(cfg config.Model, maxQueue int, adapters ...*exchange.Adapter) (*model, error) {
	library := ort.LibraryPath()
	if err := ort.Init(library); err != nil {
		return nil, err
	}
	m := &model{}
	err := m.open(cfg, maxQueue, adapters, filepath.Join(filepath.Dir(filepath.Dir(library)), encoder.DetectorFile))
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *model) open(cfg config.Model, maxQueue int, adapters []*exchange.Adapter, detectorFile string) error {
	options := ort.Options{Threads: cfg.Threads, Device: cfg.Device}
	backend := pipeline.Backend{Network: func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error) {
		session, err := openNetwork(name, model, weights, options)
		if err != nil {
			return nil, err // and no nil *Session in the interface
		}
		return session, nil
	}}
	unet, text, err := targets(adapters)
	if err != nil {
		return err
	}
	backend.TextLayout = text
	m.base, m.encoder, err = encoder.Open(cfg.Model, backend, func(unet op.Model, settings encoder.Config) (*op.Layout, error) {
		return trace.Layout(unet, settings.Rank, settings.IsTarget)
	}, unet...)
	if err != nil {
		return err
	}
	if err := m.openIntake(detectorFile, options); err != nil {
		return err
	}
	m.Engine = pipeline.NewEngine(m.base, pipeline.EngineConfig{MaxQueued: maxQueue})
	return nil
}

// targets are the layers that adapters act on: of the UNet, and as a layout, or nil, of the text encoder.
func targets(adapters []*exchange.Adapter) (unet []op.Target, text *op.Layout, err error) {
	all, err := op.NewLayout(1, nil)
	if err != nil {
		return nil, nil, err
	}
	text = all
	for _, a := range adapters {
		if all, err = all.With(exchange.Targets(a.UNet)...); err != nil {
			return nil, nil, err
		}
		if text, err = text.With(exchange.Targets(a.Text)...); err != nil {
			return nil, nil, err
		}
	}
	if text.Size() == 0 {
		text = nil
	}
	return all.Targets(), text, nil
}

// openIntake prepares the reading of photos, with a face detector where one is installed.
func (m *model) openIntake(detectorFile string, options ort.Options) error {
	var settings encoder.IntakeConfig
	if m.encoder != nil {
		settings.Size = m.encoder.Config().ImageSize
	}
	if _, err := os.Stat(detectorFile); err == nil {
		if m.detector, err = ort.OpenFile(detectorFile, ort.Options{Threads: options.Threads}); err != nil {
			return err
		}
		settings.Detector = m.detector
	}
	m.Intake = encoder.NewIntake(settings)
	return nil
}

func openNetwork(name string, model op.Model, weights *checkpoint.Component, options ort.Options) (*ort.Session, error) {
	graph, err := onnx.Emit(model, func(weight string) (onnx.Weight, bool) {
		info, ok := weights.Info(weight)
		return onnx.Weight{Info: info.Info, Path: info.Path}, ok
	}, onnx.Options{Name: name})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", weights.Path(), err)
	}
	return ort.Open(graph, options)
}

// Close ends what runs and releases the networks.
func (m *model) Close() error {
	var errs []error
	if m.Engine != nil {
		errs = append(errs, m.Engine.Close())
	}
	if m.base != nil {
		errs = append(errs, m.base.Close())
	}
	if m.encoder != nil {
		errs = append(errs, m.encoder.Close())
	}
	if m.detector != nil {
		errs = append(errs, m.detector.Close())
	}
	return errors.Join(errs...)
}

// Encode implements api.ConceptEncoder.
func (m *model) Encode(ctx context.Context, photos []*encoder.Photo, word, class string) (*concept.Concept, error) {
	if m.encoder == nil {
		return nil, api.ErrNoEncoder
	}
	return m.encoder.Encode(ctx, photos, word, class)
}

// Subject implements api.ConceptEncoder.
func (m *model) Subject(c *concept.Concept, scale float64) (pipeline.Subject, error) {
	s := pipeline.Subject{Word: c.Word, Class: c.Class, WordEmbeddings: c.WordEmbeddings.Data, TextOffsets: c.TextOffsets,
		Everywhere: c.Method == exchange.MethodLoRA, Scale: scale}
	if c.BaseModel != m.base.Fingerprint {
		return s, &encoder.OtherBaseError{Word: c.Word, Want: m.base.Fingerprint, Got: c.BaseModel}
	}
	if c.WordEmbeddings.Layers > 1 {
		return s, &concept.InvalidError{Field: "embeddings", Reason: fmt.Sprintf("of <%s> differ between layers, which this model cannot read", c.Word)}
	}
	if width := c.WordEmbeddings.Width; width != 0 && width != m.base.WordWidth() {
		return s, &concept.InvalidError{Field: "embeddings", Reason: fmt.Sprintf("of <%s> have width %d, the words of this model's text encoders together %d", c.Word, width, m.base.WordWidth())}
	}
	if layout := m.base.TextLayout; len(c.TextOffsets) > 0 && (layout == nil || c.TextLayout != layout.Digest()) {
		return s, &encoder.OtherBaseError{Word: c.Word, Want: m.base.Fingerprint, Got: c.TextLayout}
	}
	var err error
	s.Offsets, err = m.offsets(c)
	return s, err
}

// offsets are a concept's in the base model's layout.
func (m *model) offsets(c *concept.Concept) ([]float32, error) {
	layout := m.base.Layout
	switch {
	case len(c.Offsets)+len(c.Coefficients) == 0:
		return nil, nil
	case len(c.Offsets) > 0 && layout != nil && c.Layout == layout.Digest():
		return c.Offsets, nil
	case m.encoder == nil:
		return nil, &encoder.OtherBaseError{Word: c.Word, Want: m.base.Fingerprint, Got: c.Layout}
	}
	packed, err := m.encoder.Expand(c)
	if err != nil || layout.Digest() == m.encoder.Layout().Digest() {
		return packed, err
	}
	deltas, err := exchange.Unpack(m.encoder.Layout(), packed)
	if err != nil {
		return nil, err
	}
	return exchange.Pack(layout, deltas)
}

// describe tells the API what is served: name is the folder's.
func (m *model) describe(folder string) (api.Model, error) {
	path, err := filepath.Abs(folder)
	if err != nil {
		return api.Model{}, err
	}
	d := m.base.Defaults
	info := api.Model{
		ID: filepath.Base(path), BaseModel: m.base.Fingerprint, Width: d.Width, Height: d.Height, Steps: d.Steps, GuidanceScale: d.GuidanceScale,
		Scheduler: d.Scheduler, Schedulers: scheduler.Names(), Class: "face", Fit: m.base.Fit,
	}
	if m.encoder != nil {
		info.Encoder = m.encoder.Version()
	}
	return info, nil
}
