package encoder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
)

// Layout lists the layers of a UNet that an encoder's offsets act on.
type Layout func(unet op.Model, cfg Config) (*op.Layout, error)

// Open makes the networks of a model folder run: the base model and, where the folder has one, its encoder; nil otherwise.
// Offsets act on the encoder's targets and on those of the backend's reach. A nil layout leaves the folder's encoder closed.
// The caller closes both.
func Open(dir string, backend pipeline.Backend, layout Layout) (*pipeline.Model, *Encoder, error) {
	var component *checkpoint.Component
	var err error
	if layout != nil {
		component, err = openComponent(filepath.Join(dir, "encoder"))
	}
	if err != nil {
		return nil, nil, err
	}
	if component == nil {
		base, err := pipeline.Open(dir, backend)
		return base, nil, err
	}
	defer component.Close()
	cfg, err := ParseConfig(component.Config())
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", component.Path(), err)
	}
	var own *op.Layout
	backend.Layout = func(unet op.Model) (*op.Layout, error) {
		var err error
		own, err = layout(unet, cfg)
		return own, err
	}
	base, err := pipeline.Open(dir, backend)
	if err != nil {
		return nil, nil, err
	}
	network, err := backend.Network("encoder", Network(cfg, own), component)
	if err != nil {
		return nil, nil, errors.Join(err, base.Close())
	}
	e, err := New(component, network, own, base.Fingerprint)
	if err != nil {
		return nil, nil, errors.Join(err, network.Close(), base.Close())
	}
	return base, e, nil
}

// openComponent returns nil where there is no such folder.
func openComponent(dir string) (*checkpoint.Component, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	return checkpoint.OpenComponent(dir)
}

// Close releases the encoder's network.
func (e *Encoder) Close() error { return e.run.Close() }
