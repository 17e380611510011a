// Package pipeline turns a prompt, and the subjects it names, into a picture, on networks of any backend.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"likeness/models/checkpoint"
	"likeness/models/clip"
	"likeness/models/op"
	"likeness/models/scheduler"
	"likeness/models/tokenizer"
	"likeness/models/unet"
	"likeness/models/vae"
)

// Runner is a network ready to run, safe for concurrent use; an ONNX Runtime session is one.
type Runner interface {
	Run(ctx context.Context, inputs map[string]op.Array) (map[string]op.Array, error)
	Close() error
}

// Backend makes models run.
type Backend struct {
	// Network makes the component's model run; model reads some or all of its weights.
	Network func(name string, model op.Model, weights *checkpoint.Component) (Runner, error)
	// Layout says which layers of the UNet offsets act on. Nil: subjects bring words alone.
	Layout func(unet op.Model) (*op.Layout, error)
	// TextLayout says which layers of the first text encoder offsets act on. Nil: none.
	TextLayout *op.Layout
}

// Model is an open diffusers folder.
type Model struct {
	Tokenizer   *tokenizer.Tokenizer // of the first text encoder
	Scheduler   scheduler.Config
	Text        clip.Config // of the first text encoder
	UNet        unet.Config
	VAE         vae.Config
	Layout      *op.Layout // of the offsets; nil without a Backend.Layout
	TextLayout  *op.Layout // of the first text encoder's offsets, or nil
	Defaults    Defaults
	Fingerprint string // what a concept made for this base carries

	encoders     []*textEncoder // one, or SDXL's two
	zeroNegative bool           // no negative prompt is zeros in place of the states of an empty one
	unet, vae    Runner
	encoder      *lazyEncoder // of the VAE
}

// Open reads the diffusers folder dir and makes its networks run. Everything that is wrong with them is in one error.
// The caller closes the Model.
func Open(dir string, b Backend) (*Model, error) {
	folder, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	m := &Model{TextLayout: b.TextLayout}
	if err := errors.Join(m.readConfigs(folder), m.readTexts(folder, b), m.readRest(folder)); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if b.Layout != nil {
		if m.Layout, err = b.Layout(unet.New(m.UNet, nil)); err != nil {
			return nil, fmt.Errorf("offsets of %s: %w", filepath.Join(dir, checkpoint.UNet), err)
		}
	}
	m.encoder = &lazyEncoder{folder: filepath.Join(dir, checkpoint.VAE), config: m.VAE, network: b.Network}
	var errs []error
	for _, t := range m.encoders {
		t.whole, err = t.open(t.states)
		errs = append(errs, err)
	}
	for _, n := range []struct {
		name   string
		model  op.Model
		runner *Runner
	}{
		{checkpoint.UNet, unet.New(m.UNet, m.Layout), &m.unet},
		{checkpoint.VAE, vae.Decoder(m.VAE), &m.vae},
	} {
		weights, err := folder.Component(n.name)
		if err == nil {
			*n.runner, err = b.Network(n.name, n.model, weights)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// readConfigs reads the configurations of UNet, VAE and scheduler.
func (m *Model) readConfigs(folder *checkpoint.Folder) error {
	var errs []error
	for name, parse := range map[string]func([]byte) error{
		checkpoint.UNet:      func(data []byte) (err error) { m.UNet, err = unet.ParseConfig(data); return },
		checkpoint.VAE:       func(data []byte) (err error) { m.VAE, err = vae.ParseConfig(data); return },
		checkpoint.Scheduler: func(data []byte) (err error) { m.Scheduler, err = scheduler.ParseConfig(data); return },
	} {
		component, err := folder.Component(name)
		if err == nil {
			err = parse(component.Config())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Join(folder.Path(), name), err))
		}
	}
	return errors.Join(errs...)
}

// readRest reads fingerprint and defaults.
func (m *Model) readRest(folder *checkpoint.Folder) (err error) {
	if m.Fingerprint, err = folder.Fingerprint(); err != nil {
		return err
	}
	m.Defaults, err = readDefaults(folder.Path())
	return err
}

// check holds that the parts fit together.
func (m *Model) check() error {
	if err := m.checkTexts(); err != nil {
		return err
	}
	switch denoiser, latents := m.UNet, m.VAE.LatentChannels; {
	case denoiser.OutChannels != latents || denoiser.InChannels != latents && denoiser.InChannels != 2*latents+1:
		return fmt.Errorf("the unet reads %d and writes %d channels, the vae has %d: a unet reads the vae's channels, or for inpainting one more than twice as many",
			denoiser.InChannels, denoiser.OutChannels, latents)
	case min(denoiser.SampleSize[0], denoiser.SampleSize[1]) < 1:
		return fmt.Errorf("unet: sample_size %v: must be positive", denoiser.SampleSize)
	}
	return m.Defaults.check(m)
}

// Multiple is what width and height in pixels are multiples of: the networks halve them that often.
func (m *Model) Multiple() int { return m.VAE.Factor() << (len(m.UNet.BlockOutChannels) - 1) }

// Size is the width and height in pixels of the pictures that the model was trained on.
func (m *Model) Size() (width, height int) {
	return m.UNet.SampleSize[1] * m.VAE.Factor(), m.UNet.SampleSize[0] * m.VAE.Factor()
}

// Close releases the networks.
func (m *Model) Close() error {
	var errs []error
	for _, t := range m.encoders {
		errs = append(errs, t.close())
	}
	if m.encoder != nil {
		errs = append(errs, m.encoder.close())
	}
	for _, r := range []Runner{m.unet, m.vae} {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	return errors.Join(errs...)
}
