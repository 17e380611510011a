package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"reflect"
	"sync"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/encoder/exchange"
	"likeness/models/pipeline"
	"likeness/server/config"
)

// served is the model that a server draws with. Its offsets act on the encoder's layers alone, its text is one for all layers, until a concept
// comes that needs more: then the model is opened again, and the pictures that are being made finish on the one before.
type served struct {
	cfg      config.Model
	maxQueue int

	mu      sync.Mutex
	current *model
	users   *sync.WaitGroup // of current
	closing sync.WaitGroup  // models whose last users are not through

	growing sync.Mutex // held while the model is opened again
	reach   pipeline.Reach

	opening sync.Mutex
	base    *exchange.Base // from the first file of another program on
}

// openServed opens what the settings name, for up to maxQueue pictures at a time. The caller closes it.
func openServed(cfg config.Model, maxQueue int) (*served, error) {
	m, err := openModel(cfg, maxQueue)
	if err != nil {
		return nil, err
	}
	return &served{cfg: cfg, maxQueue: maxQueue, current: m, users: &sync.WaitGroup{}}, nil
}

// use gives the model as it is now, which stays open until done is called.
func (s *served) use() (m *model, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users.Add(1)
	return s.current, s.users.Done
}

// grow opens the model again with what it lacks of need. Once offsets have to act on one more layer, they do on every one that a file may change.
func (s *served) grow(need pipeline.Reach) error {
	s.growing.Lock()
	defer s.growing.Unlock()
	m, done := s.use()
	missing := m.base.Lacks(need)
	done()
	if len(missing.Offsets) > 0 {
		base, err := s.openBase()
		if err != nil {
			return err
		}
		missing.Offsets = base.Targets()
	}
	reach := s.reach.With(missing)
	if reflect.DeepEqual(reach, s.reach) {
		return nil
	}
	m, err := openReaching(s.cfg, s.maxQueue, reach)
	if err != nil {
		return fmt.Errorf("opening the model for a concept that needs more of it: %w", err)
	}
	s.mu.Lock()
	before, users := s.current, s.users
	s.current, s.users, s.reach = m, &sync.WaitGroup{}, reach
	s.mu.Unlock()
	s.closing.Go(func() {
		users.Wait()
		before.Close()
	})
	return nil
}

// openBase gives the model folder as other programs' files are read and written for it, open until Close: opening it takes longer than reading
// a file.
func (s *served) openBase() (base *exchange.Base, err error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.base == nil {
		s.base, err = exchange.OpenBase(s.cfg.Model)
	}
	return s.base, err
}

// Close ends what runs and releases the networks.
func (s *served) Close() error {
	s.closing.Wait()
	err := s.current.Close()
	if s.base != nil {
		err = errors.Join(err, s.base.Close())
	}
	return err
}

// Decode implements api.PhotoReader.
func (s *served) Decode(data []byte) (image.Image, error) {
	m, done := s.use()
	defer done()
	return m.Decode(data)
}

// Read implements api.PhotoReader.
func (s *served) Read(ctx context.Context, data []byte) (*encoder.Photo, error) {
	m, done := s.use()
	defer done()
	return m.Read(ctx, data)
}

// Encode implements api.ConceptEncoder.
func (s *served) Encode(ctx context.Context, photos []*encoder.Photo, word, class string) (*concept.Concept, error) {
	m, done := s.use()
	defer done()
	return m.Encode(ctx, photos, word, class)
}

// Subject implements api.ConceptEncoder.
func (s *served) Subject(c *concept.Concept, scale float64) (pipeline.Subject, error) {
	m, done := s.use()
	defer done()
	return m.Subject(c, scale)
}

// Generate implements api.Generator.
func (s *served) Generate(ctx context.Context, r pipeline.Request, onEvent func(pipeline.Event)) (*pipeline.Result, error) {
	m, done, err := s.useFor(r)
	if err != nil {
		return nil, err
	}
	defer done()
	return m.Generate(ctx, r, onEvent)
}

// Check implements api.Generator.
func (s *served) Check(r pipeline.Request) error {
	m, done, err := s.useFor(r)
	if err != nil {
		return err
	}
	defer done()
	return m.Check(r)
}

// useFor is use of a model that the request's subjects can act on.
func (s *served) useFor(r pipeline.Request) (m *model, done func(), err error) {
	m, done = s.use()
	if m.base.Lacks(r.Reach()).Empty() {
		return m, done, nil
	}
	done()
	if err := s.grow(r.Reach()); err != nil {
		return nil, nil, err
	}
	m, done = s.use()
	return m, done, nil
}

// Import implements api.Exchange.
func (s *served) Import(name string, data []byte, word, class string) (*concept.Concept, error) {
	if concept.IsData(data) {
		c, err := concept.Unmarshal(data)
		if err == nil && word != "" {
			c.Word = word
		}
		return c, err
	}
	base, err := s.openBase()
	if err != nil {
		return nil, err
	}
	adapter, err := exchange.Parse(name, data, base)
	if err != nil {
		return nil, err
	}
	if word != "" {
		adapter.Word = word
	}
	if class != "" && len(adapter.Embeddings) > 0 {
		adapter.Class = class
	}
	c, err := adapter.Concept(base)
	if err != nil {
		return nil, err
	}
	c.Notes = []string{adapter.Describe(base.TextWidth)}
	return c, s.grow(encoder.Reach(c))
}

// Export implements api.Exchange.
func (s *served) Export(c *concept.Concept, format string) ([]byte, error) {
	if format == string(exchange.Merged) {
		return nil, &exchange.FormatError{Reason: "merged weights are the size of the model: bin/server export writes them"}
	}
	base, err := s.openBase()
	if err != nil {
		return nil, err
	}
	m, done := s.use()
	defer done()
	subject, err := m.Subject(c, 1)
	if err != nil {
		return nil, err
	}
	var offsets []float32
	if len(c.LoRA) == 0 {
		offsets = subject.Offsets
	}
	adapter, err := exchange.FromConcept(c, subject.Layout, offsets, base)
	if err != nil {
		return nil, err
	}
	return adapter.Marshal(exchange.Format(format), base)
}
