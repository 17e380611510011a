//go:build torch

package evaluate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/pipeline"
	"likeness/models/pixels"
	"likeness/training/portraits"
	"likeness/training/tune"
)

// seeds is the number of pictures of one person in one context: diversity is between them.
const seeds = 2

// comparison makes and keeps, in a folder, each person's concepts and pictures by each candidate. Contexts are repeated for each seed:
// evaluation.Pictures counts the pictures.
type comparison struct {
	evaluation
	dir        string
	photos     int
	candidates []candidate
	leftOut    map[string]string
	base       *tune.Base
	painter    *painter
	model      string // fingerprint
	warm       bool   // something was tuned before, so that times are not those of a first run
}

// settings are what a candidate's concept and pictures of a person follow from. A folder that holds them is not filled again.
type settings struct {
	Model         string
	Seed          uint64
	Validation    bool
	Pictures      int
	Photos        int
	Steps         int
	GuidanceScale float64
	Tuning        tune.Config
	Defaults      tune.Config
	Whole         bool `json:",omitempty"` // drawn with all weights that were learned
}

// outcome is what is known of a candidate and a person, beside the concept and the pictures.
type outcome struct {
	Settings  json.RawMessage
	Seconds   float64 // from photos to concept
	Steps     int
	Bytes     int
	PictureMS float64
}

// Names within the folder of a person and a candidate.
const (
	outcomeFile = "made.json" // the last that is written
	conceptFile = "concept.safetensors"
)

// newComparison casts persons, each in contexts times seeds pictures.
func newComparison(dir string, photos int, wanted []candidate, cfg Config) (*comparison, error) {
	if cfg.Persons < 1 || cfg.Pictures < 1 {
		return nil, fmt.Errorf("%d persons and %d pictures of each: at least 1 and 1 are needed", cfg.Persons, cfg.Pictures)
	}
	if photos < 1 || photos > encoder.MaxPhotos {
		return nil, fmt.Errorf("--photos %d: must be from 1 to %d", photos, encoder.MaxPhotos)
	}
	c := &comparison{evaluation: evaluation{Config: cfg}, dir: dir, photos: photos, candidates: wanted, leftOut: map[string]string{}}
	c.cast()
	for i := range c.subjects {
		var each []portraits.Context
		for _, context := range c.subjects[i].contexts {
			each = append(each, slices.Repeat([]portraits.Context{context}, seeds)...)
		}
		c.subjects[i].contexts = each
	}
	c.Pictures *= seeds
	return c, nil
}

// fill makes what is not there yet, person by person, and returns for how many persons all is there. A candidate that fails is left out,
// unless it is the last; what cannot be written ends the run.
func (c *comparison) fill(ctx context.Context) (persons int, err error) {
	c.model = c.painter.base.Fingerprint
	for i := range c.Persons {
		for _, k := range c.candidates {
			c.total += c.work(k)
			if c.made(i, k) != nil {
				c.done += c.work(k)
			}
		}
	}
	for i := range c.subjects {
		for _, k := range slices.Clone(c.candidates) {
			if c.made(i, k) != nil {
				continue
			}
			err := c.one(ctx, i, k)
			last := len(c.candidates) == 2 // beside withoutConcept
			var file *fs.PathError
			switch {
			case ctx.Err() != nil:
				return i, ctx.Err()
			case err != nil && (k.method == "" || last || errors.As(err, &file)):
				return i, fmt.Errorf("%s: %w", k.name, err)
			case err != nil:
				c.leaveOut(i, k, err)
			}
		}
	}
	return c.Persons, nil
}

func (c *comparison) leaveOut(i int, k candidate, err error) {
	fmt.Fprintf(os.Stderr, "%s is left out: person %d: %v\n", k.name, i, err)
	c.leftOut[k.name] = err.Error()
	c.candidates = slices.DeleteFunc(c.candidates, func(o candidate) bool { return o.name == k.name })
	c.total -= (c.Persons - i) * c.work(k)
}

// work is about how often the UNet runs for one person, in rows.
func (c *comparison) work(k candidate) int { return k.work() + c.Pictures*c.pictureWork() }

func (c *comparison) pictureWork() int {
	const guided = 2 // rows of a step
	if c.Steps > 0 {
		return guided * c.Steps
	}
	return guided * c.painter.base.Defaults.Steps
}

func (c *comparison) folder(i int, k candidate) string {
	return filepath.Join(c.dir, "persons", fmt.Sprintf("%03d", i), k.folder())
}

func (c *comparison) picturePath(i, j int, k candidate) string {
	return filepath.Join(c.folder(i, k), fmt.Sprintf("%d-%d.png", j/seeds, j%seeds))
}

func (c *comparison) settings(k candidate) (json.RawMessage, error) {
	return json.Marshal(settings{Model: c.model, Seed: c.Seed, Validation: c.Validation, Pictures: c.Pictures, Photos: c.photos, Steps: c.Steps,
		GuidanceScale: c.GuidanceScale, Tuning: k.tuning, Defaults: k.defaults, Whole: k.movesWeights()})
}

// made is what is there of a person and a candidate, nil where it must be made.
func (c *comparison) made(i int, k candidate) *outcome {
	data, err := os.ReadFile(filepath.Join(c.folder(i, k), outcomeFile))
	if err != nil {
		return nil
	}
	var o outcome
	now, err := c.settings(k)
	if err != nil || json.Unmarshal(data, &o) != nil || string(o.Settings) != string(now) {
		return nil
	}
	return &o
}

// one makes a person's concept and pictures by a candidate.
func (c *comparison) one(ctx context.Context, i int, k candidate) (err error) {
	dir, o := c.folder(i, k), outcome{}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	if o.Settings, err = c.settings(k); err != nil {
		return err
	}
	photos, err := c.seen(ctx, c.subjects[i])
	if err != nil {
		return err
	}
	if err := c.warmUp(ctx, k, photos); err != nil {
		return err
	}
	start := time.Now()
	l, err := c.learn(ctx, k, photos, func(part float64) { c.tell(i, k, int(part*float64(k.work()))) })
	if err != nil {
		return err
	}
	o.Seconds, o.Steps = time.Since(start).Seconds(), l.steps
	c.done += k.work()
	with, drawn, bytes, done, err := c.keep(dir, k, l)
	if err != nil {
		return err
	}
	o.Bytes, start = bytes, time.Now()
	if err := errors.Join(c.paint(ctx, i, k, with, drawn), done()); err != nil {
		return err
	}
	o.PictureMS = perItem(time.Since(start), c.Pictures)
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, outcomeFile), data, 0o644)
}

// tell reports progress: more is what is done beside c.done.
func (c *comparison) tell(i int, k candidate, more int) {
	if c.Progress != nil {
		c.Progress(fmt.Sprintf("person %d of %d, %s", i+1, c.Persons, k.name), c.done+more, c.total)
	}
}

// store writes a concept, where there is one, and returns its size.
func store(path string, c *concept.Concept) (bytes int, err error) {
	if c == nil {
		return 0, nil
	}
	data, err := c.Marshal()
	if err != nil {
		return 0, err
	}
	return len(data), c.Write(path)
}

// place is where the face is in every portrait, but for its pose.
var place = image.Rect(34, 36, 94, 104)

// seen are a person's photos as networks read them.
func (c *comparison) seen(ctx context.Context, s subject) ([]tune.Photo, error) {
	scaled := func(p *encoder.Photo, side int) (*encoder.Photo, error) {
		if side == 0 {
			return nil, nil
		}
		out, err := encoder.NewIntake(encoder.IntakeConfig{Size: side}).Align(ctx, p.Image, 1)
		if err != nil {
			return nil, err
		}
		at := func(v int) int { return v * side / portraits.Size }
		out.Hash, out.Place = p.Hash, image.Rect(at(place.Min.X), at(place.Min.Y), at(place.Max.X), at(place.Max.Y))
		return out, nil
	}
	var photos []tune.Photo
	for _, p := range s.photos[:c.photos] {
		picture, err := scaled(p, c.base.Side())
		if err != nil {
			return nil, err
		}
		seen, err := scaled(p, c.base.Seen())
		if err != nil {
			return nil, err
		}
		photos = append(photos, tune.Photo{Picture: picture, Seen: seen})
	}
	return photos, nil
}

// warmUp makes a concept for nothing before the first one that is timed: servers and workers are warm.
func (c *comparison) warmUp(ctx context.Context, k candidate, photos []tune.Photo) error {
	if k.method == "" || c.warm && k.tuning.Method != "" {
		return nil
	}
	c.warm = c.warm || k.tuning.Method != ""
	k.tuning.Steps = 1
	_, err := c.learn(ctx, k, photos, nil)
	return err
}

// learn makes what is to be drawn; told, which may be nil, is given the part that is done.
func (c *comparison) learn(ctx context.Context, k candidate, photos []tune.Photo, told func(part float64)) (learnt, error) {
	switch {
	case k.method == "":
		return learnt{}, nil
	case k.tuning.Method == "" && c.painter.encoder == nil:
		return learnt{}, errors.New("the model has no encoder: train one with `training encoder`")
	case k.tuning.Method == "":
		var seen []*encoder.Photo
		for _, p := range photos {
			seen = append(seen, p.Seen)
		}
		made, err := c.painter.encoder.Encode(ctx, seen, word, class)
		return learnt{concept: made}, err
	}
	result, err := tune.Tune(ctx, c.base, photos, k.tuning, func(e tune.Event) {
		if told != nil && e.Doing == "" {
			told(float64(e.Step) / float64(e.Steps))
		}
	})
	if diverged := (*tune.DivergedError)(nil); errors.As(err, &diverged) && result != nil {
		err = nil // what was best before is what its user gets
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return learnt{}, err
	}
	return learnt{result.Concept, result, result.Steps}, nil
}

// paint makes and writes a person's pictures with a concept, or without.
func (c *comparison) paint(ctx context.Context, i int, k candidate, with *painter, learned *concept.Concept) error {
	who, subjects := "a "+class, []pipeline.Subject(nil)
	if learned != nil {
		if err := with.grow(learned); err != nil {
			return err
		}
		s, err := with.subject(learned)
		if err != nil {
			return err
		}
		who, subjects = "<"+word+">", []pipeline.Subject{s}
	}
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(together)
	made := make(chan struct{}, c.Pictures)
	for j, context := range c.subjects[i].contexts {
		group.Go(func() error {
			picture, err := c.picture(within, with.engine, i, j, pipeline.Request{Prompt: portraits.Prompt(context, who), Subjects: subjects})
			if err != nil {
				return err
			}
			made <- struct{}{}
			return pixels.WritePNG(c.picturePath(i, j, k), picture)
		})
	}
	go func() {
		group.Wait()
		close(made)
	}()
	for range made {
		c.done += c.pictureWork()
		c.tell(i, k, 0)
	}
	return group.Wait()
}
