package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"likeness/encoder"
	"likeness/encoder/concept"
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

// openModel opens what the settings name, for up to maxQueue pictures at a time. The caller closes it.
func openModel(cfg config.Model, maxQueue int) (*model, error) {
	library := ort.LibraryPath()
	if err := ort.Init(library); err != nil {
		return nil, err
	}
	m := &model{}
	err := m.open(cfg, maxQueue, filepath.Join(filepath.Dir(filepath.Dir(library)), encoder.DetectorFile))
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *model) open(cfg config.Model, maxQueue int, detectorFile string) error {
	options := ort.Options{Threads: cfg.Threads, Device: cfg.Device}
	backend := pipeline.Backend{Network: func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error) {
		session, err := openNetwork(name, model, weights, options)
		if err != nil {
			return nil, err // and no nil *Session in the interface
		}
		return session, nil
	}}
	var err error
	m.base, m.encoder, err = encoder.Open(cfg.Model, backend, func(unet op.Model, settings encoder.Config) (*op.Layout, error) {
		return trace.Layout(unet, settings.Rank, settings.IsTarget)
	})
	if err != nil {
		return err
	}
	if err := m.openIntake(detectorFile, options); err != nil {
		return err
	}
	m.Engine = pipeline.NewEngine(m.base, pipeline.EngineConfig{MaxQueued: maxQueue})
	return nil
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
	s := pipeline.Subject{Word: c.Word, Class: c.Class, WordEmbeddings: c.WordEmbeddings.Data, Scale: scale}
	if c.BaseModel != m.base.Fingerprint {
		return s, &encoder.OtherBaseError{Word: c.Word, Want: m.base.Fingerprint, Got: c.BaseModel}
	}
	if c.WordEmbeddings.Layers > 1 {
		return s, &concept.InvalidError{Field: "embeddings", Reason: fmt.Sprintf("of <%s> differ between layers, which this model cannot read", c.Word)}
	}
	if m.encoder == nil {
		return s, nil
	}
	var err error
	s.Offsets, err = m.encoder.Expand(c)
	return s, err
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
		Scheduler: d.Scheduler, Schedulers: scheduler.Names(), Class: "face",
	}
	if m.encoder != nil {
		info.Encoder = m.encoder.Version()
	}
	return info, nil
}
