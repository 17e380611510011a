package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/clip"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/models/scheduler"
	"likeness/models/unet"
	"likeness/models/vae"
)

// networks are the components that have weights; the encoder is ours.
var networks = []string{checkpoint.UNet, checkpoint.VAE, checkpoint.TextEncoder, checkpoint.TextEncoder2, "encoder"}

// inspectModel reads a whole model, each part as far as it goes.
func inspectModel(path, kind string, values bool) (*report, error) {
	r := &report{Path: path, Kind: kind}
	folder, err := checkpoint.Open(path)
	if err != nil {
		if isUnreadable(path, err) {
			return nil, err
		}
		r.addProblem(err)
	} else {
		r.Pipeline = folder.Class()
		folder.Close()
	}
	m := &inspected{report: r, single: kind != "model folder"}
	for _, name := range append(slices.Clone(networks), checkpoint.Scheduler) {
		c, err := checkpoint.OpenComponent(filepath.Join(path, name))
		if err != nil {
			continue // opening the whole has told what is missing
		}
		if err := m.read(name, c); err != nil {
			r.addProblem(fmt.Errorf("%s: %w", c.Path(), err))
		}
		if values {
			r.addProblem(finite(c))
		}
		c.Close()
	}
	if len(r.Parts) == 0 && len(r.Problems) == 0 {
		return nil, fmt.Errorf("%s: no part of a model", path)
	}
	m.conclude()
	return r, nil
}

// inspectComponent reads a network's folder.
func inspectComponent(path, name string, values bool) (*report, error) {
	c, err := checkpoint.OpenComponent(path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	m := &inspected{report: &report{Path: path, Kind: "component of a model folder"}}
	if err := m.read(name, c); err != nil {
		m.addProblem(fmt.Errorf("%s: %w", path, err))
	}
	if values {
		m.addProblem(finite(c))
	}
	return m.report, nil
}

// addProblem notes what is wrong, a line each.
func (r *report) addProblem(err error) {
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if !slices.Contains(r.Problems, line) {
			r.Problems = append(r.Problems, line)
		}
	}
}

// inspected collects the configurations of a model.
type inspected struct {
	*report
	single bool
	unet   *unet.Config
	vae    *vae.Config
}

// read reads a component's configuration and holds its weights against what the architecture reads.
func (m *inspected) read(name string, c *checkpoint.Component) error {
	if name != checkpoint.Scheduler {
		m.addPart(name, c)
	}
	var models []op.Model
	switch name {
	case checkpoint.UNet:
		cfg, err := unet.ParseConfig(c.Config())
		if err != nil {
			return err
		}
		m.unet, models = &cfg, []op.Model{unet.New(cfg, nil)}
	case checkpoint.VAE:
		cfg, err := vae.ParseConfig(c.Config())
		if err != nil {
			return err
		}
		m.vae, models = &cfg, []op.Model{vae.Encoder(cfg), vae.Decoder(cfg)}
	case checkpoint.TextEncoder, checkpoint.TextEncoder2:
		cfg, err := clip.ParseTextConfig(c.Config())
		if err != nil {
			return err
		}
		models = []op.Model{clip.Text(cfg)}
	case checkpoint.Scheduler:
		return m.readScheduler(c)
	default:
		return nil
	}
	return check(c, models)
}

// check holds a component's weights, all of them, against those that the models read.
func check(c *checkpoint.Component, models []op.Model) error {
	var manifest []checkpoint.Weight
	for _, model := range models {
		weights, err := trace.Weights(model)
		if err != nil {
			return err
		}
		for _, w := range weights {
			manifest = append(manifest, checkpoint.Weight{Name: w.Name, Shape: w.Dims})
		}
	}
	return c.Check(manifest)
}

func (m *inspected) addPart(name string, c *checkpoint.Component) {
	p := part{Name: name}
	dtypes := map[string]bool{}
	for _, weight := range c.Names() {
		info, _ := c.Info(weight)
		p.Weights++
		p.Bytes += info.Length
		p.Parameters += info.Length / int64(info.DType.Size())
		p.open += info.Length / int64(info.DType.Size()) * openSize(info.DType)
		dtypes[string(info.DType)] = true
	}
	p.DTypes = slices.Sorted(maps.Keys(dtypes))
	m.Parts = append(m.Parts, p)
}

func (m *inspected) readScheduler(c *checkpoint.Component) error {
	cfg, err := scheduler.ParseConfig(c.Config())
	if err != nil {
		return err
	}
	m.Prediction = cfg.PredictionType
	if m.single {
		beside := filepath.Join(filepath.Dir(m.Path), checkpoint.Scheduler, "scheduler_config.json")
		if _, err := os.Stat(beside); errors.Is(err, os.ErrNotExist) {
			m.Details = append(m.Details, fmt.Sprintf("%s is what the file says or what is usual for its kind; if pictures are grey or burnt, write %s",
				m.Prediction, beside))
		}
	}
	return nil
}

// conclude says what the parts make together.
func (m *inspected) conclude() {
	if m.unet == nil {
		return
	}
	m.Architecture = m.architecture()
	if m.vae == nil || min(m.unet.SampleSize[0], m.unet.SampleSize[1]) < 1 {
		return
	}
	h, w := m.unet.SampleSize[0], m.unet.SampleSize[1]
	m.Size = []int{w * m.vae.Factor(), h * m.vae.Factor()}
	bytes, err := pipeline.Picture(trace.Peak, *m.unet, *m.vae, h, w)
	if err != nil {
		m.addProblem(err)
		return
	}
	m.Memory = &footprint{Picture: bytes}
	for _, p := range m.Parts {
		m.Memory.Weights += p.open
	}
}

// architecture names the family by what tells its members apart.
func (m *inspected) architecture() string {
	cfg := *m.unet
	name := "Stable Diffusion 1"
	switch {
	case cfg.AdditionEmbedType != "":
		name = "Stable Diffusion XL"
	case cfg.UseLinearProjection:
		name = "Stable Diffusion 2"
	}
	if cfg.TimeCondProjDim > 0 {
		name += ", latent consistency (LCM)"
	}
	if m.vae == nil {
		return name
	}
	switch latents := m.vae.LatentChannels; cfg.InChannels {
	case latents:
	case 2*latents + 1: // and a masked picture's latents, and the mask
		name += ", inpainting"
	default:
		name += fmt.Sprintf(", %d input channels for %d of the latents", cfg.InChannels, latents)
	}
	return name
}

// finite reads all weights and names those with values that are not finite.
func finite(c *checkpoint.Component) error {
	var bad []string
	for _, name := range c.Names() {
		values, _, err := c.Float32(name)
		if err != nil {
			return err
		}
		if !op.Finite(values) {
			bad = append(bad, name)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %d weights have values that are not finite: %s", c.Path(), len(bad), strings.Join(bad, ", "))
}
