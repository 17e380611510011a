// Package evaluate measures methods of bringing a person into pictures: does one see the person (identity), does one see what the prompt
// asks for (editability), and what do a person and a picture cost.
//
// Persons are of the test split, or of the validation split where settings are chosen; a judge, trained on persons and pictures of its own, says who and what is in a picture. The judge is
// never part of a loss that a base model or an encoder is trained with.
package evaluate

import (
	"context"
	"fmt"
	"image"
	"image/draw"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"likeness/encoder"
	"likeness/models/pipeline"
	"likeness/training/portraits"
)

// Config says what is measured. The same seed gives the same persons' pictures, contexts and noise in every row.
type Config struct {
	Persons       int
	Validation    bool // the persons are of the validation split, not of the test split
	Gallery       int  // persons that each is looked for among, the Persons first; 0: those alone
	Pictures      int  // of each person in each row
	Steps         int  // 0: the model's default
	GuidanceScale float64
	Seed          uint64
	Progress      func(row string, done, total int) // may be nil; called by one goroutine at a time
}

// together is how many pictures the engine has in hand at a time.
const together = 8

// subject is a person to be measured with.
type subject struct {
	identity portraits.Identity
	photos   []*encoder.Photo // the first a plain illustration, the others in random contexts; the pose is random
	contexts []portraits.Context
}

// evaluation is one run over all rows.
type evaluation struct {
	Config
	judge    *Judge
	subjects []subject
	gallery  [][]float32 // embeddings of plain illustrations, none of them a photo
	done     int
	total    int
	grid     grid
}

// Run measures real renders, which are the ceiling, and then each method on the engine. The grid has a line for each of the first persons
// and contexts: the photo, then a picture of each row.
func Run(ctx context.Context, judge *Judge, engine *pipeline.Engine, methods []Method, cfg Config) (*Report, image.Image, error) {
	if cfg.Persons < 2 || cfg.Pictures < 1 {
		return nil, nil, fmt.Errorf("%d persons and %d pictures of each: at least 2 and 1 are needed", cfg.Persons, cfg.Pictures)
	}
	e := &evaluation{Config: cfg, judge: judge, grid: grid{pictures: cfg.Pictures}, total: cfg.Persons * cfg.Pictures * (1 + len(methods))}
	e.cast()
	if err := e.meet(ctx); err != nil {
		return nil, nil, err
	}
	report := &Report{Persons: cfg.Persons, Pictures: cfg.Pictures}
	row, err := e.ceiling(ctx)
	if err != nil {
		return nil, nil, err
	}
	report.Rows = append(report.Rows, row)
	for _, m := range methods {
		if row, err = e.method(ctx, engine, m); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", m.Name(), err)
		}
		report.Rows = append(report.Rows, row)
	}
	return report, e.grid.image(), nil
}

// split is where the persons are from.
func (c Config) split() portraits.Split {
	if c.Validation {
		return portraits.Validation
	}
	return portraits.Test
}

// cast draws the subjects.
func (e *evaluation) cast() {
	renderer := portraits.NewRenderer()
	r := rand.New(rand.NewPCG(e.Seed, 0x6576616c))
	for i := range e.Persons {
		s := subject{identity: e.split().Identity(i)}
		for k := range encoder.MaxPhotos {
			c := portraits.NewContext(r)
			if k == 0 {
				c = portraits.Context{Pose: c.Pose, Clothes: c.Clothes, Scene: c.Scene % portraits.Beach}
			}
			s.photos = append(s.photos, &encoder.Photo{Image: clone(renderer.Draw(s.identity, c)), Hash: fmt.Sprintf("%d-%d", i, k)})
		}
		for range e.Pictures {
			s.contexts = append(s.contexts, portraits.NewContext(r))
		}
		e.subjects = append(e.subjects, s)
		e.grid.photos = append(e.grid.photos, s.photos[0].Image)
	}
}

// meet shows the judge the gallery.
func (e *evaluation) meet(ctx context.Context) error {
	renderer := portraits.NewRenderer()
	var plain []image.Image
	for i := range max(e.Gallery, e.Persons) {
		plain = append(plain, clone(renderer.Draw(e.split().Identity(i), portraits.Context{})))
	}
	sights, err := e.judge.Look(ctx, plain)
	if err != nil {
		return err
	}
	for _, s := range sights {
		e.gallery = append(e.gallery, s.Embedding)
	}
	return nil
}

func clone(img *image.RGBA) *image.RGBA {
	c := image.NewRGBA(img.Rect)
	draw.Draw(c, c.Rect, img, img.Rect.Min, draw.Src)
	return c
}

// ceiling measures pictures that the portraits' generator draws itself: what a perfect method would reach with this judge.
func (e *evaluation) ceiling(ctx context.Context) (Row, error) {
	renderer := portraits.NewRenderer()
	pictures := make([]image.Image, 0, e.Persons*e.Pictures)
	start := time.Now()
	for _, s := range e.subjects {
		for _, c := range s.contexts {
			pictures = append(pictures, clone(renderer.Draw(s.identity, c)))
		}
	}
	row := Row{Method: "real renders", PictureMS: perItem(time.Since(start), len(pictures))}
	e.done += len(pictures)
	_, err := e.measure(ctx, &row, pictures)
	e.grid.add(pictures)
	return row, err
}

// method measures a method.
func (e *evaluation) method(ctx context.Context, engine *pipeline.Engine, m Method) (Row, error) {
	row := Row{Method: m.Name()}
	prepared := make([]Person, len(e.subjects))
	start := time.Now()
	for i, s := range e.subjects {
		var err error
		if prepared[i], err = m.Prepare(ctx, s.identity, s.photos); err != nil {
			return row, fmt.Errorf("person %d: %w", i, err)
		}
		row.Bytes += float64(prepared[i].Bytes) / float64(len(e.subjects))
	}
	row.PrepareMS = perItem(time.Since(start), len(e.subjects))

	pictures := make([]image.Image, e.Persons*e.Pictures)
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(together)
	var mu sync.Mutex
	start = time.Now()
	for i, s := range e.subjects {
		for j, c := range s.contexts {
			group.Go(func() error {
				made, err := e.picture(within, engine, i, j, pipeline.Request{
					Prompt: prepared[i].Prompt(c), Subjects: prepared[i].Subjects, Owner: m.Name(),
				})
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				pictures[i*e.Pictures+j] = made
				e.done++
				if e.Progress != nil {
					e.Progress(m.Name(), e.done, e.total)
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return row, err
	}
	row.PictureMS = perItem(time.Since(start), len(pictures))
	_, err := e.measure(ctx, &row, pictures)
	e.grid.add(pictures)
	return row, err
}

// picture makes picture j of person i, whose noise is its own.
func (e *evaluation) picture(ctx context.Context, engine *pipeline.Engine, i, j int, r pipeline.Request) (image.Image, error) {
	r.Seed, r.Steps, r.GuidanceScale = e.Seed+uint64(i*e.Pictures+j), e.Steps, e.GuidanceScale
	r.Width, r.Height = portraits.Size, portraits.Size
	made, err := engine.Generate(ctx, r, nil)
	if err != nil {
		return nil, fmt.Errorf("picture %d of person %d: %w", j, i, err)
	}
	return made.Image, nil
}

// measure has pictures [person][context] judged.
func (e *evaluation) measure(ctx context.Context, row *Row, pictures []image.Image) ([]Sight, error) {
	sights, err := e.judge.Look(ctx, pictures)
	if err != nil {
		return nil, err
	}
	rank1, likeness, edit := make([][]float64, e.Persons), make([][]float64, e.Persons), make([][]float64, e.Persons)
	for at, s := range sights {
		i, j := at/e.Pictures, at%e.Pictures
		found := 0.0
		if nearest(e.gallery, s.Embedding) == i {
			found = 1
		}
		wanted := e.subjects[i].contexts[j].Labels()
		rank1[i] = append(rank1[i], found)
		likeness[i] = append(likeness[i], cosine(s.Embedding, e.gallery[i]))
		edit[i] = append(edit[i], present(s.Labels, wanted))
		for f, v := range wanted {
			if s.Labels[f] == v {
				row.Facets[f] += 1 / float64(len(sights))
			}
		}
	}
	row.Rank1, row.Cosine, row.Editability = bootstrap(rank1), bootstrap(likeness), bootstrap(edit)
	return sights, nil
}

func perItem(d time.Duration, n int) float64 { return d.Seconds() * 1000 / float64(n) }
