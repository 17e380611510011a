//go:build torch

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"likeness/encoder"
	"likeness/models/backend/ort"
	"likeness/models/memory"
	"likeness/models/pixels"
	"likeness/models/safetensors"
	"likeness/training/protocol"
	"likeness/training/tune"
)

type tuneCommand struct {
	Method string `help:"How to learn: one of the methods above (quick, where none is given)." default:"quick" placeholder:"NAME"`
	Photos string `required:"" help:"A photo, or a folder of 1 to 20 photos of one person." placeholder:"DIR"`
	Out    string `short:"o" help:"The concept file. An earlier one is replaced at the end, as a whole." default:"concept.safetensors" placeholder:"FILE"`
	Save   string `name:"save-model" help:"Also write a model folder with the weights as they were learned, whole; of custom-diffusion, dreambooth and svdiff. An earlier one is replaced at the end." placeholder:"DIR"`
	Model  string `help:"Model folder." default:"models/demo" type:"existingdir"`
	Word   string `help:"The word that prompts name the concept by, as <word>." default:"me"`
	Class  string `help:"The noun that it is an instance of." default:"face"`

	Steps      int     `help:"Steps of the optimizer (0: the method's)."`
	LR         float64 `help:"Learning rate (0: the method's)."`
	Batch      int     `help:"Noisy pictures that are computed together (0: the method's)."`
	Accumulate int     `help:"Batches in a step: a larger batch in the same memory." default:"1"`
	Memory     string  `help:"normal or low: activations are computed twice, and dreambooth and custom-diffusion keep less of past gradients; slower." enum:"normal,low" default:"normal"`
	Resolution int     `help:"Side in pixels that photos are cut to and learned at (0: the model's)." default:"0"`
	Seed       uint64  `help:"Of noise and variants. One seed twice is one concept." default:"1"`

	Rank        int      `help:"Rank of the layers' changes: lora's, of quick those beside the prediction, whose rows and words then move too (slower, larger), and what custom-diffusion, dreambooth and svdiff are kept as (0: the method's)."`
	Alpha       float64  `help:"LoRA's alpha: the changes count alpha/rank times (0: once)."`
	Targets     []string `help:"Layers of the UNet that lora and svdiff change, by the ends of their paths, as attn2.to_k,attn2.to_v (default: svdiff's are all, lora's the encoder's, or all of attention)." placeholder:"NAME,..."`
	TextEncoder bool     `help:"Change the text encoder too: lora its attention, dreambooth all but its words."`
	Vectors     int      `help:"Vectors of the word (0: the method's; lora has none by default)."`
	Init        string   `help:"The noun that a word starts as (default: the class)." placeholder:"NOUN"`

	Caption  []string `help:"What the photos show, with {} for the subject, as \"a photo of {}\". Once for each wording." placeholder:"TEXT" sep:"none"`
	Captions string   `help:"A ready set of captions: portrait says nothing of the style, photo says photo." enum:"portrait,photo" default:"portrait"`
	Crop     string   `help:"What of a photo is learned: around the largest face, or its centre." enum:"face,centre" default:"face"`

	Sample int    `help:"Steps between sample pictures (0: none)." default:"0"`
	Run_   string `name:"run" help:"Folder of sample pictures and of what an interrupted run goes on from (default: the concept file's name with .run)." placeholder:"DIR"`
	device
}

// Help is shown by kong.
func (tuneCommand) Help() string {
	var b strings.Builder
	b.WriteString("Methods:\n\n")
	for _, m := range tune.Methods {
		fmt.Fprintf(&b, "  %-17s  %s (%d steps of %d, learning rate %g)\n", m.Name, m.Help, m.Steps, m.Batch, m.LearningRate)
	}
	b.WriteString(`
A model folder's ` + protocol.ModelFile + ` may say what suits the model instead.
Before the first step the memory that the run takes is printed; a run that would not fit is refused, with the flags that make it fit.
Every method keeps the step that is best on noise it never trains on. Ctrl-C writes the best so far; the same command then goes on.

Examples:

  training tune --photos me.jpg -o me.safetensors
  training tune --photos ann/ --word ann --steps 40 -o ann.safetensors
  training tune --method lora --photos ann/ --word ann --rank 8 --sample 100 -o ann-lora.safetensors
  training tune --method dreambooth --photos ann/ --word ann -o ann.safetensors --save-model ann-model
  training tune --method textual-inversion --photos mug/ --word mug --class mug --crop centre --captions photo -o mug.safetensors

  server generate --prompt "<me> wearing a crown" --concept me.safetensors
  server generate --model ann-model --prompt "<ann> wearing a crown" --concept ann-model/ann.safetensors`)
	return b.String()
}

// Run is called by kong.
func (c *tuneCommand) Run(ctx context.Context) error {
	if err := safetensors.Writable(c.Out); err != nil {
		return fmt.Errorf("--out %w", err)
	}
	engine, err := c.engine()
	if err != nil {
		return err
	}
	defer engine.Close()
	base, err := tune.Open(engine, c.Model)
	if err != nil {
		return err
	}
	defer base.Close()
	if c.Save != "" {
		if err := base.CanSaveModel(c.Method, c.Save); err != nil {
			return fmt.Errorf("--save-model %s: %w", c.Save, err)
		}
	}
	if base, err = base.At(c.Resolution); err != nil {
		return err
	}
	intake, closeIntake, err := c.intake()
	if err != nil {
		return err
	}
	defer closeIntake()
	photos, err := tune.ReadPhotos(ctx, c.Photos, intake, base.Side(), base.Seen())
	if err != nil {
		return err
	}
	line := newTuneLine(c.folder())
	result, err := tune.Tune(ctx, base, photos, c.config(), line.show)
	line.end()
	if err = errors.Join(err, line.err); result == nil {
		return err
	}
	if problem := result.Concept.Write(c.Out); problem != nil {
		return errors.Join(err, problem)
	}
	c.tell(result)
	if c.Save == "" {
		return err
	}
	if problem := result.SaveModel(c.Save); problem != nil {
		return errors.Join(err, fmt.Errorf("--save-model: %w", problem))
	}
	fmt.Fprintf(os.Stderr, "%s: the model as it was learned, without an encoder; <%s> of it is %s\n", c.Save, c.Word, filepath.Join(c.Save, tune.WordFile(c.Word)))
	return err
}

// tell says what was learned.
func (c *tuneCommand) tell(result *tune.Result) {
	fmt.Fprintf(os.Stderr, "%s: <%s> of step %d, loss on held-out noise %.4f (%.4f before the first step), %d steps in %s\n",
		c.Out, result.Concept.Word, result.Best, result.Last, result.First, result.Steps, result.Elapsed.Round(10*time.Millisecond))
	if peak := (memory.Meter{Root: "/"}).Peak(); peak > 0 {
		fmt.Fprintf(os.Stderr, "peak memory %.2f GB\n", float64(peak)/memory.Gigabyte)
	}
	if note := result.Note(); note != "" {
		fmt.Fprintln(os.Stderr, note)
	}
	if result.Interrupted {
		fmt.Fprintln(os.Stderr, "interrupted: the same command goes on")
	}
}

func (c *tuneCommand) config() tune.Config {
	captions := c.Caption
	if len(captions) == 0 {
		captions = tune.Captions[c.Captions]
	}
	return tune.Config{Method: c.Method, Word: c.Word, Class: c.Class, Steps: c.Steps, LR: c.LR, Batch: c.Batch, Accumulate: c.Accumulate,
		Seed: c.Seed, Rank: c.Rank, Alpha: c.Alpha, Targets: c.Targets, TextEncoder: c.TextEncoder, Vectors: c.Vectors, Init: c.Init, Captions: captions,
		LowMemory: c.Memory == "low", SampleEvery: c.Sample, Run: c.folder()}
}

func (c *tuneCommand) folder() string {
	if c.Run_ != "" {
		return c.Run_
	}
	return strings.TrimSuffix(c.Out, filepath.Ext(c.Out)) + ".run"
}

// intake reads photos, with the face detector where one is wanted and installed.
func (c *tuneCommand) intake() (tune.Intake, func() error, error) {
	library := ort.LibraryPath()
	file := filepath.Join(filepath.Dir(filepath.Dir(library)), encoder.DetectorFile)
	if _, err := os.Stat(file); err != nil || c.Crop == "centre" {
		return func(side int) *encoder.Intake { return encoder.NewIntake(encoder.IntakeConfig{Size: side}) }, func() error { return nil }, nil
	}
	if err := ort.Init(library); err != nil {
		return nil, nil, err
	}
	detector, err := ort.OpenFile(file, ort.Options{Threads: c.Threads})
	if err != nil {
		return nil, nil, err
	}
	return func(side int) *encoder.Intake {
		return encoder.NewIntake(encoder.IntakeConfig{Size: side, Detector: detector})
	}, detector.Close, nil
}

// tuneLine shows how far a tuning is: one line, rewritten, on a terminal, and a line now and then elsewhere. It writes the samples.
type tuneLine struct {
	folder   string
	terminal bool
	shown    time.Time
	err      error // of the first sample picture that could not be written
}

func newTuneLine(folder string) *tuneLine {
	info, err := os.Stderr.Stat()
	return &tuneLine{folder: folder, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

func (l *tuneLine) show(e tune.Event) {
	if e.Sample != nil && l.err == nil {
		if l.err = os.MkdirAll(l.folder, 0o755); l.err == nil {
			l.err = pixels.WritePNG(filepath.Join(l.folder, fmt.Sprintf("sample-%06d.png", e.Step)), e.Sample)
		}
	}
	every, before, after := 5*time.Second, "", "\n"
	if l.terminal {
		every, before, after = 100*time.Millisecond, "\r\x1b[K", ""
	}
	if e.Plan != nil {
		fmt.Fprintln(os.Stderr, e.Doing)
		return
	}
	if time.Since(l.shown) < every && (e.Step < e.Steps || e.Doing != "") {
		return
	}
	l.shown = time.Now()
	if e.Doing != "" {
		fmt.Fprint(os.Stderr, before, e.Doing, after)
		return
	}
	fmt.Fprintf(os.Stderr, "%sstep %d/%d  loss %.4f  held-out %.4f (best at step %d)  %.2f steps/s  %s left%s",
		before, e.Step, e.Steps, e.Loss, e.HeldOut, e.Best, e.PerSecond, e.Left.Round(time.Second), after)
}

func (l *tuneLine) end() {
	if l.terminal && !l.shown.IsZero() {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
