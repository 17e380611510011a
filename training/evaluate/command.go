//go:build torch

package evaluate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"likeness/encoder"
	"likeness/models/backend/torch"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/models/pixels"
	"likeness/models/safetensors"
	"likeness/training/loop"
)

// Network makes a component's model run; the program's main chooses how.
type Network func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error)

// Command is the command line's evaluate.
type Command struct {
	Model         string  `help:"Folder of the model to measure." default:"models/demo" type:"path"`
	Persons       int     `help:"Test persons, which are also the gallery." default:"100"`
	Pictures      int     `help:"Pictures of each person in each row." default:"4"`
	Steps         int     `help:"Denoising steps (0: the model's default)."`
	GuidanceScale float64 `help:"Guidance (0: the model's default)."`
	Seed          uint64  `help:"Which contexts and noise." default:"1"`
	JSON          bool    `help:"Print JSON instead of a table."`
	Output        string  `short:"o" help:"PNG file for a grid: photo, then a picture of each row." type:"path"`
	OnlyJudge     bool    `help:"Measure the judge on real renders and no model."`
	TrainJudge    bool    `help:"Train a judge and use it instead of the bundled one."`
	JudgeRun      string  `help:"Folder of the judge's runs." default:"runs/judge" type:"path"`
	JudgeSteps    int     `help:"Steps of the training of each of its two networks." default:"1200"`
	JudgeBatch    int     `help:"Pictures a step of the judge's training, two of each person." default:"128"`
	Threads       int     `help:"CPU threads." default:"2"`
}

// Run prints the table to stdout.
func (c *Command) Run(ctx context.Context, network Network) error {
	weights, err := c.judgeWeights(ctx)
	if err != nil {
		return err
	}
	engine, err := torch.New(torch.Config{Threads: c.Threads, Compute: torch.Float32})
	if err != nil {
		return err
	}
	defer engine.Close()
	params, err := engine.NewParams(weights, false)
	if err != nil {
		return err
	}
	defer params.Free()
	judge := judgeOn(engine, params)

	var painter *pipeline.Engine
	var methods []Method
	if !c.OnlyJudge {
		m, err := openModel(c.Model, network)
		if err != nil {
			return err
		}
		defer m.Close()
		painter, methods = m.engine, m.methods()
	}
	report, grid, err := Run(ctx, judge, painter, methods, Config{Persons: c.Persons, Pictures: c.Pictures, Steps: c.Steps,
		GuidanceScale: c.GuidanceScale, Seed: c.Seed, Progress: progress()})
	if err != nil {
		return err
	}
	if c.Output != "" {
		if err := pixels.WritePNG(c.Output, grid); err != nil {
			return err
		}
	}
	if c.JSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(report)
	}
	return report.Write(os.Stdout)
}

func judgeOn(engine *torch.Engine, weights *torch.Params) *Judge {
	return &Judge{func(pictures op.Array) (map[string]op.Array, error) {
		return engine.Run(judgeNetwork, map[string]op.Array{"pictures": pictures}, weights)
	}}
}

// judgeWeights are those of a judge trained now, or the bundled ones.
func (c *Command) judgeWeights(ctx context.Context) (map[string]op.Array, error) {
	if !c.TrainJudge {
		return bundledJudge()
	}
	engine, err := torch.New(torch.Config{Threads: c.Threads, Compute: torch.BFloat16})
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	cfg := loop.Default(c.JudgeRun)
	cfg.Batch, cfg.LR, cfg.WarmUp, cfg.EMA = c.JudgeBatch, 2e-3, 50, 0.99
	cfg.Steps = c.JudgeSteps
	weights, err := trainJudge(ctx, engine, cfg)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(c.JudgeRun, "judge.safetensors")
	if err := writeJudge(path, weights); err != nil {
		return nil, err
	}
	f, err := safetensors.Open(path) // read back: half precision, as it would be bundled
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readJudge(f)
}

// model is what is measured: an engine and, where the folder has one, an encoder.
type model struct {
	base    *pipeline.Model
	engine  *pipeline.Engine
	encoder *encoder.Encoder
}

func openModel(dir string, network Network) (*model, error) {
	base, enc, err := encoder.Open(dir, pipeline.Backend{Network: network}, func(unet op.Model, cfg encoder.Config) (*op.Layout, error) {
		return trace.Layout(unet, cfg.Rank, cfg.IsTarget)
	})
	if err != nil {
		return nil, err
	}
	if enc == nil {
		fmt.Fprintf(os.Stderr, "%s has no encoder: only prompts are measured\n", dir)
	}
	return &model{base, pipeline.NewEngine(base, pipeline.EngineConfig{}), enc}, nil
}

func (m *model) methods() []Method {
	methods := []Method{PromptAlone(), PromptWithTraits()}
	if m.encoder != nil {
		methods = append(methods, Encoded(m.encoder, 1), Encoded(m.encoder, encoder.MaxPhotos))
	}
	return methods
}

func (m *model) Close() error {
	errs := []error{m.engine.Close(), m.base.Close()}
	if m.encoder != nil {
		errs = append(errs, m.encoder.Close())
	}
	return errors.Join(errs...)
}
