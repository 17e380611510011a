//go:build torch

// Package worker tunes concepts for a server, as package protocol says.
package worker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"sync"
	"syscall"
	"time"

	"likeness/encoder"
	"likeness/training/protocol"
	"likeness/training/tune"
)

// Worker answers requests one after the other.
type Worker struct {
	// Open opens the model and what reads photos for it, at the first request and again until it succeeds.
	Open func() (*tune.Base, tune.Intake, error)
	// Ended is called when there can be no more requests, in whatever the worker is at; nil: a tuning ends after its step.
	Ended func()

	base   *tune.Base
	intake tune.Intake
	mu     sync.Mutex // of out
	out    *json.Encoder
}

// Serve reads requests until in ends, which ends a tuning too, and writes messages. The error is nil at the end of in.
func (w *Worker) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	w.out = json.NewEncoder(out)
	if err := w.say(protocol.Message{Hello: protocol.Version}); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	requests := make(chan protocol.Request)
	go func() { // also while a concept is tuned, to notice the end
		lines := json.NewDecoder(in)
		for {
			var r protocol.Request
			if err := lines.Decode(&r); err != nil {
				if w.Ended != nil {
					w.Ended()
				}
				stop(err)
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		if w.base != nil {
			w.base.Close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("worker: %w", err)
			}
			return nil
		case r := <-requests:
			if err := w.answer(ctx, r); err != nil {
				return err
			}
		}
	}
}

func (w *Worker) say(m protocol.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Encode(m)
}

// answer tunes one concept. The error is one of writing.
func (w *Worker) answer(ctx context.Context, r protocol.Request) error {
	finished := make(chan struct{})
	var pulse sync.WaitGroup
	pulse.Go(func() { w.pulse(r.Job, finished) })
	done, failed := w.tune(ctx, r)
	close(finished)
	pulse.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return w.say(protocol.Message{Job: r.Job, Done: done, Failed: failed})
}

// pulseTime is between two signs of life, and busy the processor time that a working worker gets in it at least: more than one that waits
// for itself uses up, and less than the share on a machine that does much else.
const (
	pulseTime = 5 * time.Second
	busy      = 20 * time.Millisecond
)

// pulse says that the worker is alive for as long as it uses the processor.
func (w *Worker) pulse(job string, finished <-chan struct{}) {
	ticker := time.NewTicker(pulseTime)
	defer ticker.Stop()
	for before := processorTime(); ; {
		select {
		case <-finished:
			return
		case <-ticker.C:
		}
		now := processorTime()
		if now-before >= busy {
			w.say(protocol.Message{Job: job, Alive: true}) // what cannot be written now cannot be later, where it is noticed
		}
		before = now
	}
}

// processorTime is what this process has used so far.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (w *Worker) tune(ctx context.Context, r protocol.Request) (*protocol.Done, *protocol.Failure) {
	if w.base == nil {
		var err error
		if w.base, w.intake, err = w.Open(); err != nil {
			w.base = nil
			return nil, &protocol.Failure{Code: protocol.FailedModel, Message: "the model cannot be tuned: " + err.Error()}
		}
	}
	base, err := w.base.At(r.Resolution)
	if err != nil {
		return nil, failure(err)
	}
	photos, err := w.read(ctx, base, r.Photos)
	if err != nil {
		return nil, failure(err)
	}
	result, err := tune.Tune(ctx, base, photos, config(r.Settings), func(e tune.Event) { w.report(r.Job, e) })
	if result == nil {
		return nil, failure(err)
	}
	file, problem := result.Concept.Marshal()
	if problem != nil {
		return nil, failure(problem)
	}
	done := &protocol.Done{Concept: file, Best: result.Best, Steps: result.Steps, First: result.First, Last: result.Last, Seconds: result.Elapsed.Seconds(), Note: result.Note()}
	if err != nil {
		done.Note = err.Error()
	}
	return done, nil
}

// read is tune.ReadPhotos of photos that are on no disk.
func (w *Worker) read(ctx context.Context, base *tune.Base, files [][]byte) ([]tune.Photo, error) {
	side, seen := base.Side(), base.Seen()
	pictures, faces := w.intake(side), w.intake(max(seen, 1))
	var photos []tune.Photo
	for i, data := range files {
		var p tune.Photo
		var err error
		if p.Picture, err = pictures.Read(ctx, data); err == nil && seen == side {
			p.Seen = p.Picture
		} else if err == nil && seen > 0 {
			p.Seen, err = faces.Read(ctx, data)
		}
		if err != nil {
			return nil, fmt.Errorf("photo %d: %w", i+1, err)
		}
		photos = append(photos, p)
	}
	return photos, nil
}

func config(s protocol.Settings) tune.Config {
	return tune.Config{Method: s.Method, Word: s.Word, Class: s.Class, Steps: s.Steps, LR: s.LearningRate, Batch: s.Batch,
		Accumulate: s.Accumulate, Rank: s.Rank, Vectors: s.Vectors, TextEncoder: s.TextEncoder, LowMemory: s.LowMemory, Seed: s.Seed, Captions: tune.Captions[cmp.Or(s.Captions, "portrait")], SampleEvery: s.PreviewEvery}
}

func (w *Worker) report(job string, e tune.Event) {
	if e.Doing != "" {
		return
	}
	step := &protocol.Step{Step: e.Step, Steps: e.Steps, Loss: e.Loss, HeldOut: e.HeldOut, Best: e.Best, SecondsLeft: e.Left.Seconds(), PerSecond: e.PerSecond}
	if e.Sample != nil {
		var file bytes.Buffer
		if err := png.Encode(&file, e.Sample); err == nil {
			step.Preview = file.Bytes()
		}
	}
	w.say(protocol.Message{Job: job, Step: step}) // as in pulse
}

func failure(err error) *protocol.Failure {
	f := &protocol.Failure{Code: protocol.FailedTuning, Message: err.Error()}
	var photo *encoder.PhotoError
	if errors.As(err, &photo) {
		f.Code = protocol.FailedImage + photo.Code
	}
	return f
}
