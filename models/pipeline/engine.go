package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"likeness/models/op"
)

// Errors of Generate that are nobody's fault.
var (
	ErrBusy   = errors.New("too many pictures are being made: try again in a moment")
	ErrClosed = errors.New("the engine is closed")
	// ErrNotNumbers is the model's fault: some of its weights are damaged, or too large for the precision it computes in.
	ErrNotNumbers = errors.New("what the model computes are no numbers any more: weights may be damaged")
)

// EngineConfig bounds an engine's work. A zero field takes its default.
type EngineConfig struct {
	MaxBatch  int    // pictures that one run of the UNet takes a step further; 8
	MaxQueued int    // pictures asked for and not finished, beyond which ErrBusy; 64
	TextCache int    // prompts whose text states are kept; 64
	Tiling    Tiling // of the VAE; TilingAuto
}

// Engine makes pictures. Each turn is one run of the UNet over samples of one size, whoever they belong to and whatever
// step they are at; a sample joins at the next turn and leaves between turns.
type Engine struct {
	model    *Model
	cfg      EngineConfig
	texts    *cache // text states of prompts
	given    *cache // of given pictures: mean and deviation of their latents
	canvases canvases
	queue    *queue
	slots    chan struct{} // one taken by each unfinished picture
	decoding chan struct{} // taken by the one decoding now
	peaks    sync.Map      // of the UNet's turns, by rows, height and width
	offsets  []float32     // memory for those of a turn

	ctx     context.Context // ends at Close
	close   context.CancelFunc
	stopped chan struct{}
}

// NewEngine starts an engine on m. The caller closes it, and m after it.
func NewEngine(m *Model, cfg EngineConfig) *Engine {
	fill(&cfg.MaxBatch, 8)
	fill(&cfg.MaxQueued, 64)
	fill(&cfg.TextCache, 64)
	fill(&cfg.Tiling, TilingAuto)
	e := &Engine{
		model: m, cfg: cfg, texts: newCache(cfg.TextCache), given: newCache(givenCache), queue: newQueue(),
		slots: make(chan struct{}, cfg.MaxQueued), decoding: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	e.queue.room = e.hasRoom
	e.ctx, e.close = context.WithCancel(context.Background())
	go e.loop()
	return e
}

// Close ends every picture with ErrClosed and waits for the turn that runs. Generate fails from then on.
func (e *Engine) Close() error {
	e.close()
	<-e.stopped
	return nil
}

// Model returns the engine's model.
func (e *Engine) Model() *Model { return e.model }

// Generate makes one picture. onEvent, which may be nil, is called after each step, in Generate's own goroutine; a
// preview that would come late is left out. The error is an *InvalidError if the request is at fault, ErrBusy, ErrClosed
// or ctx's own.
func (e *Engine) Generate(ctx context.Context, r Request, onEvent func(Event)) (*Result, error) {
	if err := e.prepare(&r); err != nil {
		return nil, err
	}
	if e.model.networks.backend.LowMemory {
		r.PreviewEvery = 0 // the decoder opens when the UNet is closed
	}
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	default:
		return nil, ErrBusy
	}
	start := time.Now()
	texts, truncated, err := e.conditions(ctx, r)
	if err != nil {
		return nil, err
	}
	shared, done := e.canvases.use(r)
	defer done()
	given, err := e.encodeImage(ctx, r, shared)
	if err != nil {
		return nil, err
	}
	s, err := e.model.newSample(ctx, r, texts, given)
	if err != nil {
		return nil, err
	}
	encoded := time.Now()
	if err := e.denoise(s, onEvent); err != nil {
		return nil, err
	}
	denoised := time.Now()
	picture, err := e.decode(ctx, s.latents, s.h, s.w)
	if err != nil {
		return nil, err
	}
	given.paste(picture)
	return &Result{
		Image: picture, Latents: op.Floats(s.latents, e.model.VAE.LatentChannels, s.h, s.w), Truncated: truncated,
		Steps:   s.counts,
		Timings: Timings{Text: encoded.Sub(start), Denoise: denoised.Sub(encoded), Decode: time.Since(denoised)},
	}, nil
}

// Check is the error that Generate would answer with before it does anything, an *InvalidError where the request is at fault.
func (e *Engine) Check(r Request) error { return e.prepare(&r) }

// prepare completes and checks a request.
func (e *Engine) prepare(r *Request) error {
	if err := r.complete(e.model); err != nil {
		return err
	}
	return e.admit(*r)
}

// texts are those of the rows that a sample takes up, of one length in tokens: of each the states [layers, length, D], with pooled text behind.
type texts struct {
	states [][]float32
	length int
}

// conditions returns the texts of r, and how many tokens of the prompt did not fit.
func (e *Engine) conditions(ctx context.Context, r Request) (t texts, truncated int, err error) {
	m := e.model
	prompt, err := m.read("prompt", r.Prompt, r.Subjects)
	if err != nil {
		return t, 0, err
	}
	var negative *wording
	guided, zeros := m.guides(r.GuidanceScale), r.NegativePrompt == "" && m.zeroNegative
	if guided && !zeros {
		if negative, err = m.read("negative_prompt", r.NegativePrompt, r.everywhere()); err != nil {
			return t, 0, err
		}
		m.pad(prompt, m.chunks(negative))
		m.pad(negative, m.chunks(prompt))
	}
	row, err := e.encodeText(ctx, prompt, r.ClipSkip)
	if err != nil {
		return t, 0, err
	}
	t = texts{[][]float32{row}, len(prompt.encodings[0].IDs)}
	if guided {
		other := make([]float32, len(row))
		if !zeros {
			if other, err = e.encodeText(ctx, negative, 0); err != nil {
				return t, 0, err
			}
		}
		t.states = [][]float32{other, row}
	}
	return t, prompt.truncated(), nil
}

// denoise queues s and reports its steps until it is done.
func (e *Engine) denoise(s *sample, onEvent func(Event)) error {
	e.queue.add(s)
	for {
		select {
		case <-s.ctx.Done(): // the loop drops s before its next turn
			return s.ctx.Err()
		case <-e.stopped:
			return ErrClosed
		case p, more := <-s.progress:
			if !more {
				return s.err
			}
			event := Event{Step: p.step, Steps: s.steps()}
			if p.predicted != nil && len(s.progress) == 0 && onEvent != nil {
				preview, err := e.decode(s.ctx, p.predicted, s.h, s.w)
				if err != nil {
					return err
				}
				event.Preview = preview
			}
			if onEvent != nil {
				onEvent(event)
			}
		}
	}
}

// loop takes turns until the engine is closed.
func (e *Engine) loop() {
	defer close(e.stopped)
	for {
		if e.ctx.Err() != nil {
			e.model.unet.release()
			e.queue.clear(ErrClosed)
			return
		}
		batch := e.queue.pick(e.cfg.MaxBatch)
		if len(batch) == 0 {
			e.model.unet.release() // a session that does not close has nobody to tell
			select {
			case <-e.queue.wake:
			case <-e.ctx.Done():
			}
			continue
		}
		errs := e.turn(batch)
		for i, s := range batch {
			if errs[i] != nil || s.done() {
				e.queue.remove(s)
				s.end(errs[i])
			}
		}
	}
}

// turn takes every sample of batch one step further and returns what went wrong with each.
func (e *Engine) turn(batch []*sample) []error {
	errs := make([]error, len(batch))
	noise, inputs, err := e.predict(batch)
	if err != nil && e.ctx.Err() != nil {
		err = ErrClosed
	}
	row := 0
	for i, s := range batch {
		if errs[i] = err; err == nil {
			n, rows := len(s.latents), s.rows()
			errs[i] = s.advance(e.model.Scheduler, inputs[row*n:][:n], noise[row*n:][:rows*n])
			row += rows
		}
	}
	return errs
}

// predict runs the UNet, or its outermost layers, over the rows of batch, which fit into one run: it returns its outputs and inputs [rows,
// C, h, w].
func (e *Engine) predict(batch []*sample) (noise, inputs []float32, err error) {
	rows := 0
	for _, s := range batch {
		rows += s.rows()
	}
	m := e.model
	n := len(batch[0].latents)
	inputs = make([]float32, rows*n)
	timesteps := make([]float32, 0, rows)
	for _, s := range batch {
		for range s.rows() {
			s.scheduler.ScaleInput(inputs[len(timesteps)*n:][:n], s.latents, s.step)
			timesteps = append(timesteps, float32(s.timesteps[s.step]))
		}
	}
	run := map[string]op.Array{
		"sample":   m.besideMask(inputs, batch),
		"timestep": op.Floats(timesteps, rows),
	}
	m.condition(run, batch)
	if m.Layout != nil {
		run["offsets"] = e.packOffsets(batch)
	}
	if batch[0].isShallow() {
		run["deep"] = packDeep(batch, rows, m.UNet.BlockOutChannels[0])
	}
	out, err := m.unet.run(e.ctx, run, slices.ContainsFunc(batch, (*sample).keeps))
	if err != nil {
		return nil, nil, fmt.Errorf("unet: %w", err)
	}
	if noise = out["noise_pred"].F32; len(noise) != rows*n {
		return nil, nil, fmt.Errorf("unet: noise_pred has %d values, needs %d", len(noise), rows*n)
	}
	if !batch[0].isShallow() {
		keepDeep(batch, out["deep"].F32)
	}
	return noise, inputs, nil
}

// packOffsets is the turn's input of offsets: every row of a sample has its shared ones, the last row the others too. It is good for one turn:
// fresh memory costs more than what is copied into it.
func (e *Engine) packOffsets(batch []*sample) op.Array {
	var rows [][]float32
	for _, s := range batch {
		for range s.rows() - 1 {
			rows = append(rows, s.offsets[:s.shared])
		}
		rows = append(rows, s.offsets)
	}
	return e.model.Layout.Input(rows, &e.offsets)
}
