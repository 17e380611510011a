package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/encoder/imageprompt"
	"likeness/models/backend/ort"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/memory"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/models/scheduler"
	"likeness/server/api"
	"likeness/server/config"
	"likeness/training/protocol"
)

// model is an open model folder on ONNX Runtime, with all that photos and prompts need.
type model struct {
	*pipeline.Engine
	*encoder.Intake
	placement placement
	base      *pipeline.Model
	encoder   *encoder.Encoder     // nil: the folder has none, or an adapter is in its place
	adapter   *imageprompt.Adapter // nil: none is named
	detector  *ort.Session         // nil: none is installed
}

// openModel opens what the settings name, for up to maxQueue pictures at a time. The caller closes it.
func openModel(cfg config.Model, maxQueue int) (*model, error) {
	return openReaching(cfg, maxQueue, pipeline.Reach{})
}

// openReaching is openModel for subjects that do more than the encoder's.
func openReaching(cfg config.Model, maxQueue int, reach pipeline.Reach) (*model, error) {
	p, err := place(cfg)
	if err == nil {
		err = ort.Init(p.library)
	}
	if err != nil {
		return nil, err
	}
	m := &model{placement: p}
	if err := m.open(cfg, maxQueue, reach, filepath.Join(filepath.Dir(filepath.Dir(p.library)), encoder.DetectorFile)); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *model) open(cfg config.Model, maxQueue int, reach pipeline.Reach, detectorFile string) error {
	options := m.placement.Options
	backend := pipeline.Backend{Reach: reach, Network: func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error) {
		return m.placement.open(name, model, weights)
	}}
	backend.LowMemory = cfg.Memory == "low"
	backend.Check = func(name string, model op.Model, weights *checkpoint.Component) error {
		_, err := m.placement.emit(name, model, weights)
		return err
	}
	if options.Device == ort.CPU { // a GPU's memory is its own
		backend.Free, backend.Weights, backend.Peak = memory.Meter{Root: "/", Limit: cfg.MemoryLimit}.Free, m.placement.weightBytes, trace.Peak
	}
	if err := m.openBase(cfg, backend, options); err != nil {
		return err
	}
	if err := m.openIntake(detectorFile, options); err != nil {
		return err
	}
	m.Engine = pipeline.NewEngine(m.base, pipeline.EngineConfig{MaxQueued: maxQueue, Tiling: pipeline.Tiling(cfg.VAETiling)})
	return nil
}

// openBase opens the base model with what makes concepts for it: the adapter, if one is named, or else the folder's own encoder.
func (m *model) openBase(cfg config.Model, backend pipeline.Backend, options ort.Options) (err error) {
	own := func(unet op.Model, settings encoder.Config) (*op.Layout, error) {
		return trace.Layout(unet, settings.Rank, settings.IsTarget)
	}
	if cfg.IPAdapter != "" {
		recogniser := func(path string) (imageprompt.Recogniser, error) { return openRecogniser(path, options) }
		if m.adapter, err = imageprompt.Open(context.Background(), cfg.IPAdapter, cfg.ImageEncoder, backend, recogniser); err != nil {
			return err
		}
		backend.ImagePrompts, own = m.adapter.ImagePrompts(), nil
	}
	m.base, m.encoder, err = encoder.Open(cfg.Model, backend, own)
	return err
}

// openIntake prepares the reading of photos, with a face detector where one is installed.
func (m *model) openIntake(detectorFile string, options ort.Options) error {
	var settings encoder.IntakeConfig
	switch {
	case m.adapter != nil:
		settings.Size, settings.Cut = m.adapter.Size(), m.adapter.Cut()
	case m.encoder != nil:
		settings.Size = m.encoder.Config().ImageSize
	}
	_, err := os.Stat(detectorFile)
	if err != nil && settings.Cut == encoder.Recognised {
		return fmt.Errorf("an %s needs the face detector, which scripts/setup fetches: %w", m.adapter.Kind(), err)
	}
	if err == nil {
		if m.detector, err = ort.OpenFile(detectorFile, ort.Options{Threads: options.Threads}); err != nil {
			return err
		}
		settings.Detector = m.detector
	}
	m.Intake = encoder.NewIntake(settings)
	return nil
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
	if m.adapter != nil { // whose file the base reads
		errs = append(errs, m.adapter.Close())
	}
	if m.detector != nil {
		errs = append(errs, m.detector.Close())
	}
	return errors.Join(errs...)
}

// Encode implements api.ConceptEncoder.
func (m *model) Encode(ctx context.Context, photos []*encoder.Photo, word, class string) (*concept.Concept, error) {
	if m.adapter != nil {
		return m.adapter.Encode(ctx, photos, word, class, m.base.Fingerprint)
	}
	if m.encoder == nil {
		return nil, api.ErrNoEncoder
	}
	return m.encoder.Encode(ctx, photos, word, class)
}

// Subject implements api.ConceptEncoder.
func (m *model) Subject(c *concept.Concept, scale float64) (pipeline.Subject, error) {
	s, err := encoder.Subject(c, scale, m.base, m.encoder)
	if err == nil {
		s.ImageTokens, err = m.adapter.Tokens(c)
	}
	return s, err
}

// describe tells the API what is served: name is the folder's.
func (m *model) describe(folder string) (api.Model, error) {
	path, err := filepath.Abs(folder)
	if err != nil {
		return api.Model{}, err
	}
	methods, err := protocol.For(path)
	if err != nil {
		return api.Model{}, err
	}
	d := m.base.Defaults
	info := api.Model{
		ID: filepath.Base(path), BaseModel: m.base.Fingerprint, Width: d.Width, Height: d.Height, Multiple: m.base.Multiple(), Steps: d.Steps,
		GuidanceScale: d.GuidanceScale, Scheduler: d.Scheduler, Schedulers: scheduler.Names(), Class: "face", Fit: m.base.Fit, Tuning: methods,
	}
	switch {
	case m.adapter != nil:
		info.Encoder = m.adapter.Version()
	case m.encoder != nil:
		info.Encoder = m.encoder.Version()
	}
	return info, nil
}
