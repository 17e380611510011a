//go:build torch

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"likeness/encoder"
	"likeness/models/backend/ort"
	"likeness/models/backend/torch"
	"likeness/models/pixels"
	"likeness/models/tokenizer"
	"likeness/training/base"
	"likeness/training/evaluate"
	"likeness/training/loop"
	"likeness/training/portraits"
	"likeness/training/pretrain"
)

type portraitsCommand struct {
	Output string `short:"o" help:"PNG file to write." default:"portraits.png" type:"path"`
	Rows   int    `help:"Identities." default:"6"`
	Cols   int    `help:"Contexts of each." default:"8"`
	Seed   uint64 `help:"Which ones." default:"1"`
}

func (c *portraitsCommand) Run() error {
	return pixels.WritePNG(c.Output, portraits.Sheet(c.Rows, c.Cols, portraits.Train, c.Seed))
}

// schedule is how long a training goes on, and with which steps.
type schedule struct {
	Minutes float64 `help:"End after this much training time, summed over resumed runs (0: no limit)." default:"${minutes}"`
	Steps   int     `help:"End after this many steps (0: no limit)."`
	Batch   int     `help:"Samples a step." default:"64"`
	LR      float64 `help:"Peak learning rate." default:"5e-4"`
	Sample  float64 `help:"Minutes between sample pictures." default:"5"`
}

func (s schedule) config(dir string) loop.Config {
	cfg := loop.Default(dir)
	cfg.Steps, cfg.Batch, cfg.LR = s.Steps, s.Batch, s.LR
	cfg.Duration = time.Duration(s.Minutes * float64(time.Minute))
	cfg.SampleEvery = time.Duration(s.Sample * float64(time.Minute))
	return cfg
}

// device is how libtorch computes.
type device struct {
	Threads   int    `help:"CPU threads." default:"2"`
	Precision string `help:"Precision of matrix products: fastest is bfloat16 on processors with AMX, which makes it several times faster, and float32 on others." enum:"fastest,float32,bfloat16" default:"fastest"`
}

func (d device) engine() (*torch.Engine, error) {
	compute := torch.Fastest()
	switch d.Precision {
	case "float32":
		compute = torch.Float32
	case "bfloat16":
		compute = torch.BFloat16
	}
	return torch.New(torch.Config{Threads: d.Threads, Compute: compute})
}

type baseCommand struct {
	Run_      string   `name:"run" help:"Folder of the run." default:"runs/base" type:"path"`
	Stage     string   `help:"What to train: the VAE, the denoiser on a trained VAE, or one after the other; or the VAE's decoder alone, further." enum:"vae,diffusion,all,decoder" default:"all"`
	From      string   `help:"A model folder to go on from: its VAE is kept, its text encoder and UNet are trained further (with --stage diffusion)." type:"existingdir"`
	Tokenizer string   `help:"Folder of the CLIP vocabulary." default:"models/demo/tokenizer" type:"existingdir"`
	VAE       schedule `embed:"" prefix:"vae-" set:"minutes=60"`
	schedule  `set:"minutes=240"`
	device
}

func (c *baseCommand) Run(ctx context.Context) error {
	tok, err := tokenizer.Open(c.Tokenizer)
	if err != nil {
		return err
	}
	engine, err := c.engine()
	if err != nil {
		return err
	}
	defer engine.Close()
	arch := base.Portraits(tok.VocabSize(), int(tok.EndID()), tok.MaxLength())
	model := filepath.Join(c.Run_, "model")
	if c.Stage == "decoder" {
		return base.RefineDecoder(ctx, engine, filepath.Join(model, "vae"), c.VAE.config(filepath.Join(c.Run_, "decoder")))
	}
	if c.Stage != "diffusion" {
		run := filepath.Join(c.Run_, "vae")
		if err := base.TrainVAE(ctx, engine, arch.VAE, c.VAE.config(run)); err != nil {
			return err
		}
		if err := base.ExportVAE(engine, arch.VAE, run, filepath.Join(model, "vae")); err != nil {
			return err
		}
	}
	if c.Stage == "vae" || ctx.Err() != nil {
		return nil
	}
	if c.From != "" {
		if err := os.CopyFS(filepath.Join(model, "vae"), os.DirFS(filepath.Join(c.From, "vae"))); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	d, err := base.OpenDiffusion(engine, arch, tok, filepath.Join(model, "vae"))
	if err != nil {
		return err
	}
	if c.From != "" {
		if err := d.StartFrom(c.From); err != nil {
			return err
		}
	}
	run := filepath.Join(c.Run_, "diffusion")
	if err := d.Train(ctx, engine, c.schedule.config(run)); err != nil {
		return err
	}
	return d.Export(run, c.Tokenizer, model)
}

type encoderCommand struct {
	Model     string   `help:"Folder of the base model; the trained encoder is written into it." default:"runs/base/model" type:"existingdir"`
	Run_      string   `name:"run" help:"Folder of the run." default:"runs/encoder" type:"path"`
	Stage     string   `help:"What to train: the vision, which learns to see faces without a denoiser, the concepts on a trained vision, or one after the other." enum:"vision,concept,all" default:"all"`
	From      string   `help:"A model folder to go on from: its encoder is trained further (with --stage concept)." type:"existingdir"`
	Strength  float64  `help:"Factor on what the written encoder says, as that of <me:0.6> in a prompt: less shows less of a person and keeps more of the prompt. The same command with another one writes a finished run again." default:"1"`
	SameImage bool     `help:"Ablation: show the encoder the very picture that the denoiser must draw."`
	Vision    schedule `embed:"" prefix:"vision-" set:"minutes=30"`
	schedule  `set:"minutes=180"`
	device
}

func (c *encoderCommand) Run(ctx context.Context) error {
	if c.From != "" && c.Stage != "concept" {
		return errors.New("--from goes on from a whole encoder, whose vision is trained: use it with --stage concept")
	}
	if !(c.Strength > 0 && c.Strength <= 2) {
		return fmt.Errorf("--strength %g: must be above 0, and at most 2", c.Strength)
	}
	engine, err := c.engine()
	if err != nil {
		return err
	}
	defer engine.Close()
	p, err := pretrain.Open(engine, c.Model, encoder.Default)
	if err != nil {
		return err
	}
	p.SameImage, p.Strength = c.SameImage, c.Strength
	vision := filepath.Join(c.Run_, "vision")
	if c.Stage != "concept" {
		if err := pretrain.TrainVision(ctx, engine, p.Encoder, c.Vision.config(vision)); err != nil {
			return err
		}
	}
	if c.Stage == "vision" || ctx.Err() != nil {
		return nil
	}
	if c.From != "" {
		err = p.StartFrom(c.From)
	} else {
		p.First, err = loop.Average(vision)
	}
	if err != nil {
		return err
	}
	if err := p.Train(ctx, engine, c.schedule.config(c.Run_)); err != nil {
		return err
	}
	return p.Export(c.Run_, c.Model)
}

type evaluateCommand struct{ evaluate.Command }

func (c *evaluateCommand) Run(ctx context.Context) error {
	if err := ort.Init(ort.LibraryPath()); err != nil {
		return err
	}
	return c.Command.Run(ctx, openNetwork)
}
