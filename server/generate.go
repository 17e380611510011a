package main

import (
	"context"
	"fmt"
	"image"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/backend/onnx"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/models/pixels"
	"likeness/models/safetensors"
	"likeness/server/config"
)

type generateCommand struct {
	config.Model `embed:""`

	Prompt         string   `required:"" help:"What the picture shows. It names concepts by their words, <me> or <me:0.8>, and weighs others: (more), [less], (hat:1.3)."`
	Concept        []string `help:"A concept, LoRA or textual-inversion file, and how strongly it is used. Once for each." placeholder:"FILE[:SCALE]" sep:"none"`
	NegativePrompt string   `help:"What to keep away from." placeholder:"TEXT"`
	Seed           *uint64  `help:"Of the first picture; the others count up. By default a random one, which is printed." placeholder:"NUMBER"`
	Steps          int      `help:"Denoising steps; 0: the model's default." default:"0"`
	GuidanceScale  float64  `help:"How closely the prompt is followed; 0: the model's default." default:"0"`
	Rescale        float64  `name:"guidance-rescale" help:"How much of guidance's effect on the contrast is taken back, 0 to 1." default:"0"`
	GateBias       float64  `help:"Of perfusion's concepts: how like the concept a word has to be for its gate to open, 0.01 to 1." default:"0.7"`
	GateWidth      float64  `name:"gate-temperature" help:"Of perfusion's concepts: how gradually the gate opens, 0.01 to 1." default:"0.15"`
	Start          float64  `name:"guidance-start" help:"The part of the steps, 0 to 1, before which there is no guidance; a step without costs half." default:"0"`
	End            float64  `name:"guidance-end" help:"The part of the steps, 0 to 1, after which there is no guidance." default:"1"`
	CacheInterval  int      `help:"Run the whole UNet at every so manieth step and its outermost layers between them (DeepCache); 1: at every step, which is exact." default:"1"`
	Compare        bool     `help:"Make the exact pictures as well, in float32, and print how far the others are from them and what they saved."`
	ClipSkip       int      `help:"How many of the text encoder's last layers are passed over, as diffusers counts; web UIs count one more." default:"0"`
	Scheduler      string   `help:"The sampler, for example ddim, euler, unipc or dpmsolver++_karras (a wrong name lists all); by default the model's own." placeholder:"NAME"`
	Image          string   `help:"A picture to redraw instead of starting from nothing. Its transparent pixels, if it has any, are the mask." placeholder:"FILE"`
	Mask           string   `help:"What of the picture is repainted, a file of its size: where it is transparent or, if it nowhere is, white." placeholder:"FILE"`
	Strength       float64  `help:"How far to go from the picture, up to 1; 0: 0.8, and with a mask 1." default:"0"`
	Size           string   `help:"Width and height in pixels, as 128x128; by default the image's or the model's own." placeholder:"WxH"`
	N              int      `short:"n" help:"Pictures to make." default:"1"`
	Out            string   `short:"o" help:"The PNG file; several pictures become out-1.png, out-2.png and so on." default:"out.png" placeholder:"FILE"`
	Grid           bool     `help:"Put all pictures side by side into one file."`
	LatentsOut     string   `help:"Also write the final latents, as [n, C, h, w]." placeholder:"FILE.safetensors"`
}

// maxPictures bounds -n.
const maxPictures = 64

// Help is shown by kong.
func (generateCommand) Help() string {
	return `Examples:

  server generate --prompt "a pencil sketch of a face, smiling" -n 4 --grid
  server generate --prompt "an illustration of <me> wearing a crown" --concept me.safetensors --seed 1 -n 4 -o crown.png
  server generate --prompt "<ann> and <bob> at the beach" --concept ann.safetensors:0.8 --concept bob.safetensors
  server generate --prompt "<me> in ink" --concept me.safetensors --concept ink-lora.safetensors:0.7
  server generate --prompt "a photo of <me> at the beach" --concept me.safetensors --image beach.png --mask face.png
  server generate --prompt "a castle" --cache-interval 3 --guidance-end 0.8 --compare    half the time: is it good enough?

A LoRA acts on the whole picture and need not be named; <its-file-name:0.7>, which is then taken out of the prompt, sets its strength too.`
}

// Run is called by kong.
func (c *generateCommand) Run(ctx context.Context) error {
	r, err := c.request()
	if err != nil {
		return err
	}
	for _, out := range []string{c.Out, c.LatentsOut} {
		if out == "" {
			continue
		}
		if err := safetensors.Writable(out); err != nil {
			return err
		}
	}
	files := conceptFiles{folder: c.Model.Model}
	defer files.Close()
	if err := c.readConcepts(&files); err != nil {
		return err
	}
	var exact []*pipeline.Result
	if c.Compare {
		if exact, err = c.whole(ctx, &files, r); err != nil {
			return err
		}
	}
	m, r, err := c.ready(c.Model, &files, r)
	if err != nil {
		return err
	}
	defer m.Close()
	if c.Compare {
		if err := warmUpShortcuts(ctx, m, r); err != nil {
			return err
		}
		if exact == nil {
			if exact, err = c.draw(ctx, m, r.Exact()); err != nil {
				return err
			}
		}
	}
	start := time.Now()
	results, err := c.draw(ctx, m, r)
	if err != nil {
		return err
	}
	took := time.Since(start).Round(time.Millisecond)
	if n := results[0].Truncated; n > 0 {
		fmt.Fprintf(os.Stderr, "the prompt is too long: its last %d tokens were left out\n", n)
	}
	written, err := c.write(results)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: seed %d, %v, %v\n", strings.Join(written, ", "), r.Seed, took, results[0].Steps)
	if c.Compare {
		return compare(results, exact).write(os.Stdout)
	}
	return nil
}

// ready opens the model and completes the request with what only a model can tell. The caller closes the model.
func (c *generateCommand) ready(cfg config.Model, files *conceptFiles, r pipeline.Request) (*model, pipeline.Request, error) {
	m, err := openReaching(cfg, c.N, encoder.Reach(files.concepts()...))
	if err != nil {
		return nil, r, err
	}
	if r.Prompt, r.Subjects, err = c.subjects(m, files); err == nil {
		err = c.readImages(m, &r)
	}
	if err != nil {
		m.Close()
		return nil, r, err
	}
	return m, r, nil
}

// request reads the flags that are numbers and texts.
func (c *generateCommand) request() (pipeline.Request, error) {
	if c.N < 1 || c.N > maxPictures {
		return pipeline.Request{}, fmt.Errorf("-n %d: must be from 1 to %d", c.N, maxPictures)
	}
	r := pipeline.Request{
		NegativePrompt: c.NegativePrompt, Steps: c.Steps, GuidanceScale: c.GuidanceScale, GuidanceRescale: c.Rescale,
		GuidanceStart: c.Start, GuidanceEnd: c.End, CacheInterval: c.CacheInterval, ClipSkip: c.ClipSkip, Scheduler: c.Scheduler,
		GateBias: c.GateBias, GateTemperature: c.GateWidth, Seed: rand.Uint64N(1 << 32),
	}
	if c.Seed != nil {
		r.Seed = *c.Seed
	}
	if c.Size != "" {
		if n, err := fmt.Sscanf(c.Size+" ", "%dx%d ", &r.Width, &r.Height); n != 2 || err != nil || r.Width < 1 || r.Height < 1 {
			return r, fmt.Errorf("--size %q: write width and height in pixels, as 128x128", c.Size)
		}
	}
	return r, nil
}

// readImages reads picture and mask, within the limits for photos.
func (c *generateCommand) readImages(m *model, r *pipeline.Request) error {
	r.Strength = c.Strength
	for _, file := range []struct {
		path string
		into *image.Image
	}{{c.Image, &r.Image}, {c.Mask, &r.Mask}} {
		if file.path == "" {
			continue
		}
		data, err := os.ReadFile(file.path)
		if err != nil {
			return err
		}
		if *file.into, err = m.Decode(data); err != nil {
			return fmt.Errorf("%s: %w", file.path, err)
		}
	}
	return nil
}

// readConcepts reads the files and says what is in them.
func (c *generateCommand) readConcepts(files *conceptFiles) error {
	for _, argument := range c.Concept {
		file, err := files.read(argument)
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, files.describe(file))
	}
	return nil
}

// subjects finds the concepts in the prompt. One that has no word of its own need not be there.
func (c *generateCommand) subjects(m *model, files *conceptFiles) (prompt string, subjects []pipeline.Subject, err error) {
	prompt, uses, err := concept.ParsePrompt(c.Prompt)
	if err != nil {
		return "", nil, err
	}
	paths := map[string]string{} // by word
	for _, file := range files.files {
		word, scale := file.concept.Word, file.scale
		if other, twice := paths[word]; twice {
			return "", nil, fmt.Errorf("%s and %s have the same word <%s>", other, file.path, word)
		}
		paths[word] = file.path
		i := slices.IndexFunc(uses, func(u concept.Use) bool { return u.Word == word })
		switch {
		case i >= 0:
			scale *= uses[i].Scale
		case len(file.concept.WordEmbeddings.Data) > 0:
			return "", nil, fmt.Errorf("%s: the prompt does not name <%s>", file.path, word)
		}
		s, err := m.Subject(file.concept, scale)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", file.path, err)
		}
		subjects = append(subjects, s)
	}
	for _, use := range uses {
		if paths[use.Word] == "" {
			return "", nil, fmt.Errorf("the prompt names <%s>, and no --concept file has that word", use.Word)
		}
	}
	return prompt, subjects, nil
}

// splitScale takes FILE[:SCALE] apart.
func splitScale(argument string) (path string, scale float64, err error) {
	at := strings.LastIndex(argument, ":")
	if at < 0 {
		return argument, 1, nil
	}
	scale, err = strconv.ParseFloat(argument[at+1:], 64)
	if err != nil {
		return argument, 1, nil // the colon belongs to the name
	}
	if !(scale >= -concept.MaxScale && scale <= concept.MaxScale) {
		return "", 0, fmt.Errorf("--concept %s: the scale must be from -%d to %d", argument, concept.MaxScale, concept.MaxScale)
	}
	return argument[:at], scale, nil
}

// draw makes the pictures, all at once, and shows on a terminal how far they are.
func (c *generateCommand) draw(ctx context.Context, m *model, r pipeline.Request) ([]*pipeline.Result, error) {
	results := make([]*pipeline.Result, c.N)
	stat, err := os.Stderr.Stat()
	live := err == nil && stat.Mode()&os.ModeCharDevice != 0
	var mu sync.Mutex
	done := 0
	group, ctx := errgroup.WithContext(ctx)
	for i := range c.N {
		group.Go(func() (err error) {
			mine := r
			mine.Seed += uint64(i)
			results[i], err = m.Generate(ctx, mine, func(e pipeline.Event) {
				mu.Lock()
				defer mu.Unlock()
				if done++; live {
					fmt.Fprintf(os.Stderr, "\r%3d %% of %d steps", 100*done/(c.N*e.Steps), c.N*e.Steps)
				}
			})
			return err
		})
	}
	err = group.Wait()
	if live && done > 0 {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
	return results, err
}

// whole draws the exact pictures with a model in float32 that is closed again; nil where the settings' own model is in float32.
func (c *generateCommand) whole(ctx context.Context, files *conceptFiles, r pipeline.Request) ([]*pipeline.Result, error) {
	p, err := place(c.Model)
	if err != nil || p.compute == onnx.Float32 {
		return nil, err
	}
	cfg := c.Model
	cfg.DType = onnx.Float32.String()
	m, r, err := c.ready(cfg, files, r)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := warmUpShortcuts(ctx, m, r.Exact()); err != nil {
		return nil, err
	}
	return c.draw(ctx, m, r.Exact())
}

// write writes pictures and latents, and returns the names of the files.
func (c *generateCommand) write(results []*pipeline.Result) ([]string, error) {
	var pictures []*image.NRGBA
	for _, r := range results {
		pictures = append(pictures, r.Image)
	}
	if c.Grid {
		pictures = []*image.NRGBA{grid(pictures)}
	}
	var files []string
	ext := filepath.Ext(c.Out)
	for i, picture := range pictures {
		name := c.Out
		if len(pictures) > 1 {
			name = fmt.Sprintf("%s-%d%s", strings.TrimSuffix(c.Out, ext), i+1, ext)
		}
		if err := pixels.WritePNG(name, picture); err != nil {
			return nil, err
		}
		files = append(files, name)
	}
	if c.LatentsOut == "" {
		return files, nil
	}
	var all []float32
	var one op.Array
	for _, r := range results {
		one = r.Latents
		all = append(all, one.F32...)
	}
	tensor := safetensors.F32(all, append([]int{len(results)}, one.Dims...)...)
	err := safetensors.Write(c.LatentsOut, map[string]safetensors.Tensor{"latents": tensor}, nil)
	return append(files, c.LatentsOut), err
}
