// Package pipeline turns a prompt, and the subjects it names, into a picture, on networks of any backend.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

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
	// Network makes the component's model run; model reads some or all of its weights. With an error its Runner is not looked at.
	Network func(name string, model op.Model, weights *checkpoint.Component) (Runner, error)
	// LowMemory has networks open only while they are used, one component's at a time: the others' memory is saved, and every picture costs the
	// time to open them. Previews are left out.
	LowMemory bool
	// Check says what keeps Network from making the model run, without opening it; low memory asks it when the model is opened. Nil: nothing.
	Check func(name string, model op.Model, weights *checkpoint.Component) error
	// Free is the bytes of memory that are left, Weights those that a component's weights take, Peak what a run takes beside them. A model or a
	// picture that cannot fit is refused before anything is opened or begun. Nil: everything is tried.
	Free    func() int64
	Weights func(name string, model op.Model, weights *checkpoint.Component) (int64, error)
	Peak    Peak
	// Layout says which layers of the UNet offsets act on. Nil: those of Reach alone, at rank 1.
	Layout func(unet op.Model) (*op.Layout, error)
	// Reach is what subjects may do besides.
	Reach Reach
	// ImagePrompts is the IP-Adapter that subjects' pictures are read with. Nil: they bring none.
	ImagePrompts *ImagePrompts
}

// Model is an open diffusers folder.
type Model struct {
	Tokenizer   *tokenizer.Tokenizer // of the first text encoder
	Scheduler   scheduler.Config
	Text        clip.Config // of the first text encoder
	UNet        unet.Config
	VAE         vae.Config
	Layout      *op.Layout            // of the offsets; nil where they act on no layer
	TextLayouts map[string]*op.Layout // of the text encoders' offsets, by component
	Defaults    Defaults
	Fingerprint string // what a concept made for this base carries

	encoders     []*textEncoder // one, or SDXL's two
	zeroNegative bool           // no negative prompt is zeros in place of the states of an empty one
	images       *ImagePrompts  // or nil
	networks     *networks
	unet         *denoiser
	decoder      *network // of the VAE
	encoder      *network // of the VAE, opened when a picture is first given
}

// Open reads the diffusers folder dir and makes its networks run. Everything that is wrong with them is in one error.
// The caller closes the Model.
func Open(dir string, b Backend) (*Model, error) {
	folder, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	texts, err := b.Reach.textLayouts()
	if err != nil {
		return nil, fmt.Errorf("offsets of %s: %w", dir, err)
	}
	m := &Model{TextLayouts: texts, images: b.ImagePrompts, networks: newNetworks(b)}
	if err := errors.Join(m.readConfigs(folder), m.readTexts(folder, b), m.readRest(folder)); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if m.images != nil {
		m.UNet.ImagePrompts, m.UNet.AdapterRank = true, m.images.Rank
		if err := m.images.check(m.UNet); err != nil {
			return nil, err
		}
	}
	if m.Layout, err = b.layout(unet.New(m.UNet, nil)); err != nil {
		return nil, fmt.Errorf("offsets of %s: %w", filepath.Join(dir, checkpoint.UNet), err)
	}
	m.UNet.LayeredText, m.UNet.Edited = b.Reach.LayeredText, b.Reach.Edits
	m.addNetworks(dir)
	if err := m.checkWeights(dir); err != nil {
		return nil, err
	}
	if err := m.prepare(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// prepare opens the networks side by side: ONNX Runtime arranges the weights of each on one core.
func (m *Model) prepare() error {
	errs := make([]error, len(m.networks.all))
	var wait sync.WaitGroup
	for i, n := range m.networks.all {
		if m.opens(n) {
			wait.Go(func() { errs[i] = n.prepare() })
		}
	}
	wait.Wait()
	return errors.Join(errs...)
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

// addNetworks lists the networks of the model in dir.
func (m *Model) addNetworks(dir string) {
	for _, t := range m.encoders {
		t.group = m.networks.newGroup()
		t.whole = t.add(t.name, t.folder, t.model(t.states))
	}
	m.unet = newDenoiser(m.networks, checkpoint.UNet, filepath.Join(dir, checkpoint.UNet), m.UNet, m.Layout)
	if m.images != nil {
		m.unet.beside = map[string]*checkpoint.Component{unet.Adapter: m.images.Attention}
	}
	folder := filepath.Join(dir, checkpoint.VAE)
	m.decoder = m.networks.newGroup().add(checkpoint.VAE, folder, vae.Decoder(m.VAE))
	m.encoder = m.networks.newGroup().add("vae_encoder", folder, vae.Encoder(m.VAE))
}

// Close releases the networks.
func (m *Model) Close() error { return m.networks.Close() }
