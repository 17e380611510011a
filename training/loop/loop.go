//go:build torch

// Package loop is the part that all trainings share: batches prepared ahead on another goroutine, AdamW with warm-up and cosine decay,
// an average of the weights, checkpoints to resume from, a progress line with the time left, and TensorBoard logs.
package loop

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"likeness/models/backend/torch"
	"likeness/models/op"
	"likeness/models/pixels"
	"likeness/training/tensorboard"
)

// Config says how long and how to train. A run ends at Steps or at Duration of training time, whichever comes first; the learning rate
// decays towards that end.
type Config struct {
	Dir         string        // the run's folder: checkpoint and logs
	Steps       int           // 0: no limit
	Duration    time.Duration // of training, summed over resumed runs; 0: no limit
	Batch       int           // samples a step
	LR          float64       // peak learning rate
	WarmUp      int           // steps until the peak
	WeightDecay float64
	ClipNorm    float64       // of the whole gradient
	EMA         float64       // decay of the weights' average
	SaveEvery   time.Duration // between checkpoints
	SampleEvery time.Duration // between sample pictures
}

// Default is a configuration that suits small networks; Steps or Duration must be set.
func Default(dir string) Config {
	return Config{Dir: dir, Batch: 64, LR: 5e-4, WarmUp: 200, WeightDecay: 0.01, ClipNorm: 1, EMA: 0.999,
		SaveEvery: 3 * time.Minute, SampleEvery: 3 * time.Minute}
}

func (c Config) check() error {
	switch {
	case c.Steps <= 0 && c.Duration <= 0:
		return errors.New("training needs a number of steps or a duration")
	case c.Batch < 1:
		return fmt.Errorf("batch %d: must be at least 1", c.Batch)
	case !(c.LR > 0) || !(c.EMA >= 0 && c.EMA < 1):
		return fmt.Errorf("learning rate %g must be positive and EMA decay %g in [0, 1)", c.LR, c.EMA)
	}
	return nil
}

// Task is what is trained.
type Task struct {
	// Model returns the scalar "loss"; its other outputs must be scalars too and are logged.
	Model op.Model
	// Init makes the first weights.
	Init func() (map[string]op.Array, error)
	// Frozen weights are read by Model and stay as they are.
	Frozen []*torch.Params
	// Batch makes a step's inputs. It runs on another goroutine, ahead of its use; progress goes from 0 to 1 over the run.
	Batch func(r *rand.Rand, progress float64) (map[string]op.Array, error)
	// Sample, if any, draws a picture with the averaged weights.
	Sample func(average *torch.Params) (image.Image, error)
}

// Train runs the task until its end or until ctx is done, which is no error: the run is saved and can be resumed.
func Train(ctx context.Context, engine *torch.Engine, cfg Config, task Task) error {
	if err := cfg.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return err
	}
	r, err := open(engine, cfg, task)
	if err != nil {
		return err
	}
	defer r.close()
	return r.train(ctx)
}

type run struct {
	Config
	task    Task
	engine  *torch.Engine
	params  *torch.Params
	ema     *torch.EMA
	adam    *torch.AdamW
	log     *tensorboard.Writer
	step    int
	elapsed time.Duration
}

func open(engine *torch.Engine, cfg Config, task Task) (r *run, err error) {
	r = &run{Config: cfg, task: task, engine: engine}
	saved, err := readCheckpoint(cfg.Dir)
	if err != nil {
		return nil, err
	}
	weights := saved.weights
	if weights == nil {
		if weights, err = task.Init(); err != nil {
			return nil, err
		}
	}
	if r.params, err = engine.NewParams(weights, true); err != nil {
		return nil, err
	}
	adam := torch.AdamWConfig{LR: cfg.LR, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: cfg.WeightDecay}
	if r.adam, err = engine.NewAdamW(r.params, adam); err != nil {
		return nil, err
	}
	if r.ema, err = engine.NewEMA(r.params); err != nil {
		return nil, err
	}
	if saved.weights != nil {
		r.step, r.elapsed = saved.step, saved.elapsed
		if err := errors.Join(r.adam.Set(saved.adam), r.ema.Params().Set(saved.average)); err != nil {
			return nil, fmt.Errorf("resume %s: %w", cfg.Dir, err)
		}
	}
	if r.log, err = tensorboard.Create(filepath.Join(cfg.Dir, "log")); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *run) close() {
	r.log.Close()
	r.params.Free()
	r.ema.Params().Free()
}

// progress is the part of the run that is done, 0 to 1.
func (r *run) progress() float64 {
	p := 0.0
	if r.Steps > 0 {
		p = float64(r.step) / float64(r.Steps)
	}
	if r.Duration > 0 {
		p = max(p, float64(r.elapsed)/float64(r.Duration))
	}
	return min(p, 1)
}

func (r *run) rate() float64 {
	warm := min(1, float64(r.step+1)/float64(max(1, r.WarmUp)))
	return r.LR * warm * (0.01 + 0.99*(1+math.Cos(math.Pi*r.progress()))/2)
}

func (r *run) train(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	batches := r.prepare(ctx)
	line := newLine(r.Batch)
	saved, sampled := time.Now(), time.Now()
	for r.progress() < 1 && ctx.Err() == nil {
		start := time.Now()
		b, ok := <-batches
		if !ok {
			break
		}
		if b.err != nil {
			return errors.Join(b.err, r.save())
		}
		metrics, err := r.update(b.inputs)
		if err != nil {
			return err
		}
		r.step++
		r.elapsed += time.Since(start)
		if err := line.add(r, metrics); err != nil {
			return errors.Join(err, r.save())
		}
		if time.Since(saved) > r.SaveEvery {
			if err := r.save(); err != nil {
				return err
			}
			saved = time.Now()
		}
		if r.task.Sample != nil && time.Since(sampled) > r.SampleEvery {
			if err := r.sample(); err != nil {
				return err
			}
			sampled = time.Now()
		}
	}
	stop()
	if r.task.Sample != nil {
		if err := r.sample(); err != nil {
			return err
		}
	}
	line.end(r)
	return r.save()
}

type batch struct {
	inputs map[string]op.Array
	err    error
}

// prepare makes batches ahead of their use. The random numbers continue from the step a resumed run begins at.
func (r *run) prepare(ctx context.Context) <-chan batch {
	out := make(chan batch, 2)
	random := rand.New(rand.NewPCG(uint64(r.step), 0x6c696b656e657373))
	began, before := time.Now(), r.elapsed
	first := r.progress()
	go func() {
		defer close(out)
		for n := 0; ctx.Err() == nil; n++ {
			progress := first
			if r.Steps > 0 {
				progress += float64(n) / float64(r.Steps)
			}
			if r.Duration > 0 {
				progress = max(progress, float64(before+time.Since(began))/float64(r.Duration))
			}
			inputs, err := r.task.Batch(random, min(progress, 1))
			select {
			case out <- batch{inputs, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// update is one step of the optimizer.
func (r *run) update(inputs map[string]op.Array) (map[string]float64, error) {
	outputs, err := r.engine.Backward(r.task.Model, inputs, append([]*torch.Params{r.params}, r.task.Frozen...)...)
	if err != nil {
		return nil, err
	}
	metrics := map[string]float64{"lr": r.rate()}
	for name, a := range outputs {
		if len(a.F32) != 1 {
			return nil, fmt.Errorf("output %s of a training model has dims %v, want a scalar", name, a.Dims)
		}
		metrics[name] = float64(a.F32[0])
	}
	if loss := metrics["loss"]; math.IsNaN(loss) || math.IsInf(loss, 0) {
		return nil, fmt.Errorf("step %d: the loss is %g; resume from the last checkpoint with a lower learning rate", r.step, loss)
	}
	norm, err := r.adam.Step(metrics["lr"], r.ClipNorm)
	if err != nil {
		return nil, err
	}
	metrics["grad_norm"] = norm
	return metrics, r.ema.Update(min(r.EMA, float64(1+r.step)/float64(10+r.step)))
}

func (r *run) sample() error {
	img, err := r.task.Sample(r.ema.Params())
	if err != nil {
		return fmt.Errorf("sample pictures of %s: %w", r.Dir, err)
	}
	if err := pixels.WritePNG(filepath.Join(r.Dir, fmt.Sprintf("sample-%06d.png", r.step)), img); err != nil {
		return err
	}
	return r.log.Image("samples", r.step, img)
}
