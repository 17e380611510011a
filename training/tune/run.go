//go:build torch

package tune

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"likeness/models/backend/torch"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/training/protocol"
)

// Tune learns a concept from photos that ReadPhotos read for the base. It ends after the steps, earlier where the method sees no gain, or
// when ctx is done, which is no error; report, which may be nil, is told of every step and of what
// takes long before the first. Two runs of one configuration are identical.
//
// With a *DivergedError comes the Result of what was best before.
func Tune(ctx context.Context, b *Base, photos []Photo, cfg Config, report func(Event)) (*Result, error) {
	m, err := b.find(cfg.Method)
	if err != nil {
		return nil, err
	}
	if cfg = m.complete(cfg); len(photos) < 1 || len(photos) > MaxPhotos {
		return nil, fmt.Errorf("%d photos: give 1 to %d of one subject", len(photos), MaxPhotos)
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.TextEncoder && !m.TextEncoder {
		return nil, fmt.Errorf("text encoder: %s leaves it as it is: only %s change it", m.Name,
			protocol.Able(func(m protocol.Method) bool { return m.TextEncoder }))
	}
	for i, p := range photos {
		if side := p.Picture.Image.Rect.Dx(); side != b.Side() {
			return nil, fmt.Errorf("photo %d is cut to %d pixels, and the base learns pictures of %d", i+1, side, b.Side())
		}
	}
	t := &task{base: b, cfg: cfg, photos: photos}
	if t.learner, err = m.start(ctx, b, cfg, photos); err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name, err)
	}
	plan, err := t.fits()
	if err != nil {
		return nil, err
	}
	if report == nil {
		report = func(Event) {}
	}
	report(Event{Doing: plan.String(), Plan: &plan})
	if err := t.prepare(func(what string) { report(Event{Doing: what}) }); err != nil {
		t.free()
		return nil, err
	}
	r, err := newRun(t, m.patience)
	if err != nil {
		return nil, err
	}
	defer r.close()
	return r.result(ctx, report)
}

// group is a part of what is learned, with an optimizer of its own.
type group struct {
	params    *torch.Params
	optimizer torch.Optimizer // nil: it does not move
	rate      float64
}

// run is a task on its way.
type run struct {
	*task
	engine   *torch.Engine
	groups   map[string]group // by the part's name
	start    *torch.Params    // the first values, where they pull
	patience int

	step     int
	elapsed  time.Duration
	best     map[string]op.Array
	bestStep int
	bestLoss float64
	first    float64 // held-out loss before the first step
	last     float64 // as last measured
	waited   int     // measurements since the best

	seen      []float64 // [D], the sum of the word's text states in the step, where they are followed
	seenCount float64
}

func newRun(t *task, patience int) (*run, error) {
	r := &run{task: t, engine: t.base.engine, groups: map[string]group{}, patience: patience, bestLoss: math.Inf(1)}
	numbers := t.learner.numbers(t.base.Text.HiddenSize)
	var err error
	for part, rate := range t.learner.rates() {
		own := maps.Clone(numbers)
		maps.DeleteFunc(own, func(name string, _ op.Array) bool { return !strings.HasPrefix(name, part+"/") })
		if len(own) == 0 {
			continue
		}
		g := group{rate: rate}
		if g.params, err = r.engine.NewParams(own, rate > 0); err != nil {
			return nil, errors.Join(err, r.close())
		}
		r.groups[part] = g
		if rate == 0 {
			continue
		}
		if g.optimizer, err = r.optimizer(part, g.params); err != nil {
			return nil, errors.Join(err, r.close())
		}
		r.groups[part] = g
	}
	if t.learner.pull > 0 {
		if r.start, err = r.engine.NewParams(t.learner.first(t.base.Text.HiddenSize), false); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	return r, r.resume()
}

// factored tells whether of a part's squared gradients only means are kept.
func (t *task) factored(part string) bool {
	return (part == checkpoint.UNet || part == checkpoint.TextEncoder) && t.cfg.LowMemory
}

// optimizer is that of a part of what is learned.
func (r *run) optimizer(part string, params *torch.Params) (torch.Optimizer, error) {
	decay := r.learner.decay
	if part == wordsPart {
		decay = 0
	}
	if r.factored(part) {
		return r.engine.NewAdafactor(params, torch.AdafactorConfig{WeightDecay: decay})
	}
	return r.engine.NewAdamW(params, torch.AdamWConfig{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: decay})
}

func (r *run) close() error {
	for _, g := range r.groups {
		g.params.Free()
	}
	if r.start != nil {
		r.start.Free()
	}
	r.free()
	return nil
}

// weights are all that the loss reads, what is learned before what is frozen under the same name.
func (r *run) weights() []*torch.Params {
	var all []*torch.Params
	for _, g := range r.groups {
		all = append(all, g.params)
	}
	for _, p := range []*torch.Params{r.start, r.factors, r.base.basis} {
		if p != nil {
			all = append(all, p)
		}
	}
	return append(all, r.base.UNetAndText...)
}

// keep makes what is learned now the best, in the place of what was.
func (r *run) keep() error {
	if r.best == nil {
		r.best = map[string]op.Array{}
	}
	for _, g := range r.groups {
		views, err := g.params.Views()
		if err != nil {
			return err
		}
		for name, now := range views {
			kept, ok := r.best[name]
			if !ok {
				kept = op.Floats(make([]float32, len(now.F32)), now.Dims...)
				r.best[name] = kept
			}
			copy(kept.F32, now.F32)
		}
	}
	return nil
}

// numbers reads what is learned.
func (r *run) numbers() (map[string]op.Array, error) {
	all := map[string]op.Array{}
	for _, g := range r.groups {
		own, err := g.params.Arrays()
		if err != nil {
			return nil, err
		}
		maps.Copy(all, own)
	}
	return all, nil
}

// result trains and makes the concept of the best step.
func (r *run) result(ctx context.Context, report func(Event)) (*Result, error) {
	err := r.train(ctx, report)
	var diverged *DivergedError
	if err != nil && !errors.As(err, &diverged) {
		return nil, err
	}
	if r.best == nil {
		return nil, err
	}
	c, lost, problem := r.concept(r.best, func(what string) { report(Event{Doing: what}) })
	if problem != nil {
		return nil, errors.Join(err, problem)
	}
	return &Result{Concept: c, Best: r.bestStep, Steps: r.step, First: r.first, Last: r.bestLoss, Rank: r.cfg.Rank, Lost: lost, Elapsed: r.elapsed,
		Interrupted: ctx.Err() != nil && !r.over(), task: r.task, numbers: r.best}, err
}

// over tells whether nothing is left to do.
func (r *run) over() bool { return r.step >= r.cfg.Steps || r.patience > 0 && r.waited >= r.patience }

// between is the number of steps between measurements on held-out noise: a short run is measured before, halfway and at its end.
func (r *run) between() int { return min((r.cfg.Steps+1)/2, 50) }

const saveEvery = time.Minute

func (r *run) train(ctx context.Context, report func(Event)) error {
	if r.step == 0 {
		if err := r.measure(); err != nil {
			return err
		}
	}
	saved := time.Now()
	for ctx.Err() == nil && !r.over() {
		began := time.Now()
		loss, err := r.update()
		if err != nil {
			return errors.Join(err, r.save())
		}
		if r.step++; r.step%r.between() == 0 || r.step == r.cfg.Steps {
			if err := r.measure(); err != nil {
				return err
			}
		}
		r.elapsed += time.Since(began)
		if time.Since(saved) > saveEvery {
			if err := r.save(); err != nil {
				return err
			}
			saved = time.Now()
		}
		if err := r.tell(loss, report); err != nil {
			return err
		}
	}
	if r.over() {
		return r.forget()
	}
	return r.save()
}

// tell reports a step.
func (r *run) tell(loss float64, report func(Event)) error {
	each := r.elapsed / time.Duration(r.step)
	e := Event{Step: r.step, Steps: r.cfg.Steps, Loss: loss, HeldOut: r.last, Best: r.bestStep,
		Left: each * time.Duration(r.cfg.Steps-r.step), PerSecond: 1 / each.Seconds()}
	if k := r.cfg.SampleEvery; k > 0 && (r.step%k == 0 || r.over()) {
		var err error
		if e.Sample, err = r.sample(); err != nil {
			return fmt.Errorf("step %d: sample picture: %w", r.step, err)
		}
	}
	report(e)
	return nil
}

// decayed is the part of the learning rate that is left: half a cosine, down to a tenth.
func (r *run) decayed() float64 {
	return 0.1 + 0.9*(1+math.Cos(math.Pi*float64(r.step)/float64(r.cfg.Steps)))/2
}

// clipNorm bounds the gradient of each part.
const clipNorm = 1

// update is one step of the optimizer. Its noise belongs to its number, so that a resumed run goes on as if it had never stopped.
func (r *run) update() (loss float64, err error) {
	random := rand.New(rand.NewPCG(r.cfg.Seed, 1+uint64(r.step)))
	all := r.cfg.Batch * r.cfg.Accumulate
	for k := range r.cfg.Accumulate {
		part, err := r.learn(r.batch(r.varied, random, r.cfg.Batch, k*r.cfg.Batch, all))
		if err != nil {
			return 0, err
		}
		loss += part
	}
	return loss, r.move()
}

// learn adds the gradients of a batch to those of the step.
func (r *run) learn(inputs map[string]op.Array) (loss float64, err error) {
	out, err := r.engine.Backward(r.loss(r.cfg.Accumulate), inputs, r.weights()...)
	if err != nil {
		return 0, err
	}
	if loss = float64(out["loss"].F32[0]); math.IsNaN(loss) || math.IsInf(loss, 0) {
		return 0, &DivergedError{r.step + 1, loss * float64(r.cfg.Accumulate)}
	}
	if states, ok := out["states"]; ok {
		r.see(states, inputs["slots"])
	}
	return loss, nil
}

// move takes the step.
func (r *run) move() error {
	for part, g := range r.groups {
		if g.optimizer == nil {
			continue
		}
		norm, err := g.optimizer.Step(g.rate*r.decayed(), clipNorm)
		if math.IsNaN(norm) || math.IsInf(norm, 0) {
			return &DivergedError{r.step + 1, norm}
		}
		if err != nil {
			return err
		}
		if part != wordsPart || r.learner.nouns == nil {
			continue
		}
		vectors, err := g.params.Arrays()
		if err != nil {
			return err
		}
		if r.learner.shorten(vectors[vectorsName].F32, r.base.Text.HiddenSize) {
			if err := g.params.Set(vectors); err != nil {
				return err
			}
		}
	}
	return r.follow()
}

// leastGain is the part by which the loss must fall to count; lightBatch is how many pictures fit, where no gradient keeps what layers find, in
// the memory of one that is learned from.
const leastGain, lightBatch = 1e-3, 4

// heldOut is the number of noisy pictures that the best step is chosen by: few, since they are the same every time, and fewer still where
// measuring them would take as long as the steps between.
func (t *task) heldOut() int {
	if t.cfg.Steps <= 50 {
		return 4
	}
	return 8
}

// together is the number of noisy pictures that are measured at a time.
func (t *task) together() int {
	if t.cfg.LowMemory {
		return min(t.heldOut(), t.cfg.Batch)
	}
	return min(t.heldOut(), lightBatch*t.cfg.Batch)
}

// measure is the loss on noise that is never trained on, and keeps the numbers where it is the lowest so far.
func (r *run) measure() error {
	random := rand.New(rand.NewPCG(r.cfg.Seed, 0))
	sum := 0.0
	heldOut, together := r.heldOut(), r.together()
	for first := 0; first < heldOut; first += together {
		rows := min(together, heldOut-first)
		out, err := r.engine.Run(r.diffusion, r.batch(r.plain, random, rows, first, heldOut), r.weights()...)
		if err != nil {
			return err
		}
		sum += float64(out["diffusion"].F32[0]) * float64(rows)
	}
	r.last = sum / float64(heldOut)
	if r.step == 0 {
		r.first = r.last
	}
	if math.IsNaN(r.last) || math.IsInf(r.last, 0) {
		return &DivergedError{r.step, r.last}
	}
	if r.waited++; r.best != nil && r.last > r.bestLoss*(1-leastGain) {
		return nil
	}
	r.bestLoss, r.bestStep, r.waited = r.last, r.step, 0
	return r.keep()
}
