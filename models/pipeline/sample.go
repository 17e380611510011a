package pipeline

import (
	"context"
	"fmt"

	"likeness/models/op"
	"likeness/models/rng"
	"likeness/models/scheduler"
)

// sample is one picture on its way. Between turns only the engine's loop touches it.
type sample struct {
	ctx       context.Context
	owner     string
	h, w      int       // of the latents
	latents   []float32 // [C, h, w]
	texts               // under guidance the negative prompt's, then the prompt's
	offsets   []float32 // of all subjects, scaled, vectors end to end; the prompt's row gets them
	shared    int       // how many of these numbers, the first, every row gets
	images    []imagePrompt
	edits     []gated // of the prompt's row
	guidance  float64
	rescale   float64 // of guidance
	scheduler scheduler.Scheduler
	timesteps []float64
	begin     int // the step it starts at
	step      int // the step to come
	preview   int // steps between previews, or 0

	guidedFrom, guidedTo int         // the steps, of timesteps, that are guided if there are two states
	interval             int         // steps from one whole step to the next
	age                  int         // steps since the last whole one, it included
	deep                 [][]float32 // [C, h, w] of each of its rows, where interval is over 1
	counts               StepCounts

	mask         []float32 // [h, w], 1 where an original is repainted; nil: everywhere
	known, noise []float32 // [C, h, w] of the original and the noise on it, where keep needs them
	beside       []float32 // [1 + C, h, w], mask and masked original, where the UNet reads them

	progress chan progress // one for each step, so that sending never waits; closed at the end
	err      error         // why it ended before its last step; set before progress is closed
}

// progress is what the loop says of a step.
type progress struct {
	step      int
	predicted []float32 // the clean latents that the network expects, where a preview is due
}

// newSample starts a completed request whose prompts and picture are encoded.
func (m *Model) newSample(ctx context.Context, r Request, t texts, o *original) (*sample, error) {
	steps, err := scheduler.New(m.Scheduler, r.Scheduler, r.Steps)
	if err != nil {
		return nil, invalid("scheduler", "cannot take the steps: %v", err)
	}
	f := m.VAE.Factor()
	s := &sample{
		ctx: ctx, owner: r.Owner, h: r.Height / f, w: r.Width / f, texts: t, guidance: r.GuidanceScale, rescale: r.GuidanceRescale,
		scheduler: steps, timesteps: steps.Timesteps(), preview: r.PreviewEvery,
	}
	s.setShortcuts(r)
	s.progress = make(chan progress, len(s.timesteps))
	s.offsets = offsetsOf(m.Layout, r.everywhere(), unetOffsets)
	s.shared = len(s.offsets)
	s.offsets = joined(s.offsets, offsetsOf(m.Layout, r.elsewhere(), unetOffsets))
	s.images = imagesOf(r.Subjects)
	prompt := t.states[len(t.states)-1]
	s.edits = r.gate(prompt[:len(prompt)-m.UNet.PooledWidth()])
	generator := rng.NewCPU(r.Seed)
	if err := m.start(s, r, o, generator.Normal); err != nil {
		return nil, err
	}
	if stochastic, ok := steps.(scheduler.Stochastic); ok {
		stochastic.SetNoise(generator.Normal)
	}
	return s, nil
}

// steps is how many steps the sample takes.
func (s *sample) steps() int { return len(s.timesteps) - s.begin }

// advance takes the step whose network input was input [C, h, w] and whose outputs are noise [rows, C, h, w].
func (s *sample) advance(cfg scheduler.Config, input, noise []float32) error {
	n := len(s.latents)
	s.counts.count(s)
	guided := noise[len(noise)-n:]
	if s.guided() {
		target := 0.0
		if s.rescale > 0 {
			target = deviation(guided)
		}
		for i, conditional := range guided {
			guided[i] = noise[i] + float32(s.guidance)*(conditional-noise[i])
		}
		if s.rescale > 0 {
			rescale(guided, target, s.rescale)
		}
	}
	p := progress{step: s.step + 1 - s.begin}
	if last := s.steps(); s.preview > 0 && p.step%s.preview == 0 && p.step < last {
		p.predicted = make([]float32, n)
		cfg.PredictX0(p.predicted, input, guided, s.timesteps[s.step])
	}
	if err := s.scheduler.Step(s.latents, guided, s.step); err != nil {
		return err
	}
	if err := s.keep(); err != nil {
		return err
	}
	if !op.Finite(s.latents) {
		return fmt.Errorf("step %d of %d: %w", p.step, s.steps(), ErrNotNumbers)
	}
	s.step++
	s.age++
	s.progress <- p
	return nil
}

// done tells whether every step is taken.
func (s *sample) done() bool { return s.step == len(s.timesteps) }

// end tells who waits that nothing more comes.
func (s *sample) end(err error) {
	s.err = err
	close(s.progress)
}
