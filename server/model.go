package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/encoder/exchange"
	"likeness/encoder/imageprompt"
	"likeness/models/backend/ort"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
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

// layers are those that offsets act on, by component.
type layers map[string][]op.Target

// layersOf are those that concepts of LoRA files change.
func layersOf(concepts ...*concept.Concept) layers {
	all := layers{}
	for _, c := range concepts {
		for component, deltas := range c.LoRA {
			for _, t := range exchange.Targets(deltas) {
				if !slices.Contains(all[component], t) {
					all[component] = append(all[component], t)
				}
			}
		}
	}
	return all
}

// openModel opens what the settings name, for up to maxQueue pictures at a time. The caller closes it.
func openModel(cfg config.Model, maxQueue int) (*model, error) {
	return openReaching(cfg, maxQueue, nil)
}

// openReaching is openModel with offsets that act on more layers than the encoder's.
func openReaching(cfg config.Model, maxQueue int, more layers) (*model, error) {
	p, err := place(cfg)
	if err == nil {
		err = ort.Init(p.library)
	}
	if err != nil {
		return nil, err
	}
	m := &model{placement: p}
	if err := m.open(cfg, maxQueue, more, filepath.Join(filepath.Dir(filepath.Dir(p.library)), encoder.DetectorFile)); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *model) open(cfg config.Model, maxQueue int, more layers, detectorFile string) error {
	options := m.placement.Options
	backend := pipeline.Backend{Network: func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error) {
		session, err := m.placement.open(name, model, weights)
		if err != nil {
			return nil, err // and no nil *Session in the interface
		}
		return session, nil
	}}
	backend.LowMemory = cfg.Memory == "low"
	backend.Check = func(name string, model op.Model, weights *checkpoint.Component) error {
		_, err := m.placement.emit(name, model, weights)
		return err
	}
	if options.Device == ort.CPU { // a GPU's memory is its own
		backend.Free, backend.Weights, backend.Peak = meter{"/", cfg.MemoryLimit}.free, weightBytes, trace.Peak
	}
	backend.TextLayouts = map[string]*op.Layout{}
	for _, component := range []string{checkpoint.TextEncoder, checkpoint.TextEncoder2} {
		if len(more[component]) == 0 {
			continue
		}
		layout, err := op.NewLayout(1, more[component])
		if err != nil {
			return err
		}
		backend.TextLayouts[component] = layout
	}
	if err := m.openBase(cfg, backend, more[checkpoint.UNet], options); err != nil {
		return err
	}
	if err := m.openIntake(detectorFile, options); err != nil {
		return err
	}
	m.Engine = pipeline.NewEngine(m.base, pipeline.EngineConfig{MaxQueued: maxQueue, Tiling: pipeline.Tiling(cfg.VAETiling)})
	return nil
}

// openBase opens the base model with what makes concepts for it: the adapter, if one is named, or else the folder's own encoder.
func (m *model) openBase(cfg config.Model, backend pipeline.Backend, more []op.Target, options ort.Options) (err error) {
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
	m.base, m.encoder, err = encoder.Open(cfg.Model, backend, own, more...)
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
	s := pipeline.Subject{Word: c.Word, Class: c.Class, WordEmbeddings: c.WordEmbeddings.Data, Everywhere: c.Method == exchange.MethodLoRA, Scale: scale}
	if c.BaseModel != m.base.Fingerprint {
		return s, &encoder.OtherBaseError{Word: c.Word, Want: m.base.Fingerprint, Got: c.BaseModel}
	}
	if c.WordEmbeddings.Layers > 1 {
		return s, &concept.InvalidError{Field: "embeddings", Reason: fmt.Sprintf("of <%s> differ between layers, which this model cannot read", c.Word)}
	}
	if width := c.WordEmbeddings.Width; width != 0 && width != m.base.WordWidth() {
		return s, &concept.InvalidError{Field: "embeddings", Reason: fmt.Sprintf("of <%s> have width %d, the words of this model's text encoders together %d", c.Word, width, m.base.WordWidth())}
	}
	var err error
	if s.ImageTokens, err = m.adapter.Tokens(c); err != nil {
		return s, err
	}
	s.TextOffsets = map[string]pipeline.Packed{}
	for component, deltas := range c.LoRA {
		layout, packed, err := exchange.Pack(deltas)
		if err != nil {
			return s, fmt.Errorf("concept <%s>: %w", c.Word, err)
		}
		if component == checkpoint.UNet {
			s.Layout, s.Offsets = layout, packed
		} else {
			s.TextOffsets[component] = pipeline.Packed{Layout: layout, Values: packed}
		}
	}
	if len(c.Offsets)+len(c.Coefficients) == 0 {
		return s, nil
	}
	if m.encoder == nil {
		return s, &encoder.OtherBaseError{Word: c.Word, Want: m.base.Fingerprint, Got: c.Layout}
	}
	s.Layout = m.encoder.Layout()
	s.Offsets, err = m.encoder.Expand(c)
	return s, err
}

// reaches tells whether the model's offsets act on every layer that the subjects change.
func (m *model) reaches(subjects []pipeline.Subject) bool {
	has := func(own, needed *op.Layout) bool { return needed == nil || own != nil && own.Has(needed) }
	for _, s := range subjects {
		if !has(m.base.Layout, s.Layout) {
			return false
		}
		for component, offsets := range s.TextOffsets {
			if !has(m.base.TextLayouts[component], offsets.Layout) {
				return false
			}
		}
	}
	return true
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
		ID: filepath.Base(path), BaseModel: m.base.Fingerprint, Width: d.Width, Height: d.Height, Steps: d.Steps, GuidanceScale: d.GuidanceScale,
		Scheduler: d.Scheduler, Schedulers: scheduler.Names(), Class: "face", Fit: m.base.Fit, Tuning: methods,
	}
	switch {
	case m.adapter != nil:
		info.Encoder = m.adapter.Version()
	case m.encoder != nil:
		info.Encoder = m.encoder.Version()
	}
	return info, nil
}
