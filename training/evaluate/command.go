//go:build torch

package evaluate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"likeness/encoder"
	"likeness/models/backend/torch"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/models/pixels"
	"likeness/models/safetensors"
	"likeness/training/loop"
	"likeness/training/protocol"
	"likeness/training/tune"
)

// Network makes a component's model run; the program's main chooses how.
type Network func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error)

// Command is the command line's evaluate.
type Command struct {
	Model         string  `help:"Folder of the model to measure." default:"models/demo" type:"path"`
	Persons       int     `help:"Persons, which are also the gallery (0: 100; with --methods 8, looked for among 100)." default:"0"`
	Split         string  `help:"Whose they are: settings are chosen on validation persons, and what was chosen is measured on test persons." enum:"test,validation" default:"test"`
	Pictures      int     `help:"Pictures of each person in each row; with --methods contexts, of which each is drawn twice." default:"4"`
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

	Methods []string `help:"Compare ways to make a concept of photos instead: all, or some by name; see below." placeholder:"all|NAME"`
	Photos  int      `help:"With --methods: photos of each person." default:"1"`

	TuneLR    []float64 `name:"tune-lr" help:"With --methods: learning rates to measure each method with, in place of its own." placeholder:"RATE"`
	TuneSteps []int     `name:"tune-steps" help:"With --methods: numbers of steps to measure each method with, in place of its own." placeholder:"N"`

	Run_ string `name:"run" help:"With --methods: folder of concepts, pictures, figures, plot and contact sheets." default:"runs/methods" type:"path"`
}

// Help is shown by kong.
func (Command) Help() string {
	var b strings.Builder
	b.WriteString("Methods that --methods compares, on the same persons, photos, prompts and noise:\n\n")
	fmt.Fprintf(&b, "  %-18s %s\n", encoder.Method, "one forward pass of the encoder, no steps")
	for _, m := range tune.Methods {
		fmt.Fprintf(&b, "  %-18s %s\n", m.Name, m.Help)
	}
	fmt.Fprintf(&b, "\nquick is measured with %s steps, others with as many as training tune takes.\n", strings.Trim(fmt.Sprint(quickSteps), "[]"))
	b.WriteString(`
Methods that move weights are drawn with all of them, not with the concept of low rank that holds a part.
It writes comparison.json, comparison.svg and .png (identity against editability, time as colour) and sheets/*.png into the folder of --run.
Ctrl-C leaves the figures of the persons that are done; the same command then goes on.

Examples:

  training evaluate
  training evaluate --methods all
  training evaluate --methods encoder,quick,lora --persons 20 --photos 4
  training evaluate --methods lora --tune-lr 1e-4,1e-3 --tune-steps 100,400 --split validation --run runs/lora`)
	return b.String()
}

// Persons of each kind of table.
const (
	tablePersons    = 100
	comparedPersons = 8
)

// Run prints the table to stdout.
func (c *Command) Run(ctx context.Context, network Network) error {
	if len(c.Methods) > 0 {
		return c.compare(ctx, network)
	}
	judge, closeJudge, err := c.openJudge(ctx)
	if err != nil {
		return err
	}
	defer closeJudge()

	var painter *pipeline.Engine
	var methods []Method
	if !c.OnlyJudge {
		m, err := openModel(c.Model, network, pipeline.Reach{})
		if err != nil {
			return err
		}
		defer m.Close()
		painter, methods = m.engine, m.methods()
	}
	report, grid, err := Run(ctx, judge, painter, methods, c.config(cmp.Or(c.Persons, tablePersons), ofPictures))
	if err != nil {
		return err
	}
	if c.Output != "" {
		if err := pixels.WritePNG(c.Output, grid); err != nil {
			return err
		}
	}
	return c.print(report)
}

func (c *Command) config(persons int, say func(done, total int) string) Config {
	return Config{Persons: persons, Validation: c.Split == "validation", Pictures: c.Pictures, Steps: c.Steps, GuidanceScale: c.GuidanceScale, Seed: c.Seed, Progress: progress(say)}
}

// print writes figures to stdout.
func (c *Command) print(figures interface{ Write(io.Writer) error }) error {
	if c.JSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(figures)
	}
	return figures.Write(os.Stdout)
}

// compare makes what is missing in the folder of the comparison, and prints the figures of the persons for whom all is there.
func (c *Command) compare(ctx context.Context, network Network) error {
	if c.Output != "" || c.OnlyJudge {
		return errors.New("--output and --only-judge are of the table without --methods; with it, pictures are in the folder of --run")
	}
	methods, err := protocol.For(c.Model)
	if err != nil {
		return err
	}
	wanted, err := candidates(c.Methods, trials{c.TuneLR, c.TuneSteps}, methods)
	if err != nil {
		return err
	}
	cfg := c.config(cmp.Or(c.Persons, comparedPersons), ofWork)
	cfg.Gallery = tablePersons
	run, err := newComparison(c.Run_, c.Photos, wanted, cfg)
	if err != nil {
		return err
	}
	persons, problem := c.fill(ctx, run, network)
	if persons == 0 {
		return problem
	}
	rest := context.WithoutCancel(ctx) // what is done is told, also after an interruption
	judge, closeJudge, err := c.openJudge(rest)
	if err != nil {
		return errors.Join(problem, err)
	}
	defer closeJudge()
	figures, err := run.tally(rest, judge, persons)
	if err != nil {
		return errors.Join(problem, err)
	}
	fmt.Fprintf(os.Stderr, "%s: figures, plot and contact sheets of %d persons\n", c.Run_, persons)
	return errors.Join(problem, c.print(figures))
}

// fill opens the model for tuning and for pictures and has the comparison make what it misses.
func (c *Command) fill(ctx context.Context, run *comparison, network Network) (persons int, err error) {
	engine, err := torch.New(torch.Config{Threads: c.Threads, Compute: torch.Fastest()})
	if err != nil {
		return 0, err
	}
	defer engine.Close()
	if run.base, err = tune.Open(engine, c.Model); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, run.base.Close()) }()
	if run.painter, err = newPainter(c.Model, network); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, run.painter.Close()) }()
	return run.fill(ctx)
}

// openJudge opens the bundled judge, or trains one.
func (c *Command) openJudge(ctx context.Context) (judge *Judge, close func(), err error) {
	weights, err := c.judgeWeights(ctx)
	if err != nil {
		return nil, nil, err
	}
	engine, err := torch.New(torch.Config{Threads: c.Threads, Compute: torch.Float32})
	if err != nil {
		return nil, nil, err
	}
	params, err := engine.NewParams(weights, false)
	if err != nil {
		engine.Close()
		return nil, nil, err
	}
	return judgeOn(engine, params), func() { params.Free(); engine.Close() }, nil
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
	engine, err := torch.New(torch.Config{Threads: c.Threads, Compute: torch.Fastest()})
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
