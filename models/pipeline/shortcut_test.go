package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"likeness/models/backend/ort"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/models/safetensors"
)

// turn is a run of the UNet.
type turn struct{ in, out map[string]op.Array }

func (t turn) rows() int { return t.in["sample"].Dims[0] }

func (t turn) isShallow() bool { return t.in["deep"].Dims != nil }

// recorder keeps every run of the UNet and counts the networks that are open.
type recorder struct {
	mu    sync.Mutex
	turns []turn
	open  []string // names of the networks that are open
	most  int      // how many of them were at a time, the UNet's taken as one
	opens map[string]int
}

func (r *recorder) backend(b pipeline.Backend) pipeline.Backend {
	network := b.Network
	b.Network = func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error) {
		runner, err := network(name, model, weights)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.opens == nil {
			r.opens = map[string]int{}
		}
		r.opens[name]++
		r.open = append(r.open, name)
		r.most = max(r.most, len(slices.Compact(slices.Sorted(slices.Values(r.open)))))
		return &recorded{runner, r, name}, nil
	}
	return b
}

type recorded struct {
	pipeline.Runner
	*recorder
	name string
}

func (r *recorded) Run(ctx context.Context, in map[string]op.Array) (map[string]op.Array, error) {
	out, err := r.Runner.Run(ctx, in)
	if err == nil && r.name == checkpoint.UNet {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.turns = append(r.turns, turn{kept(in), kept(out)})
	}
	return out, err
}

// kept are arrays as they are now: the engine uses their memory again.
func kept(arrays map[string]op.Array) map[string]op.Array {
	arrays = maps.Clone(arrays)
	for name, a := range arrays {
		a.F32 = slices.Clone(a.F32)
		arrays[name] = a
	}
	return arrays
}

func (r *recorded) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = slices.Delete(r.open, slices.Index(r.open, r.name), slices.Index(r.open, r.name)+1)
	return r.Runner.Close()
}

// TestShortcutsByDiffusers holds final latents against loops over diffusers' own networks (scripts/golden/shortcuts.py).
func TestShortcutsByDiffusers(t *testing.T) {
	file, err := safetensors.Open(filepath.Join(tinySD, "shortcuts.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var requests map[string]goldenRequest
	if err := json.Unmarshal([]byte(file.Metadata()["requests"]), &requests); err != nil || len(requests) < 3 {
		t.Fatal(requests, err)
	}
	e := open(t, pipeline.EngineConfig{})
	for name, request := range requests {
		compare(t, file, name, generate(t, e, request.request()))
	}
}

// TestExactByDefault: requests without shortcuts are the same to the bit when shortcuts are spelled out as none, after others used them, and by
// Request.Exact.
func TestExactByDefault(t *testing.T) {
	e := open(t, pipeline.EngineConfig{})
	r := pipeline.Request{Prompt: prompt, Seed: 3, Steps: 6}
	want := generate(t, e, r)
	fast := r
	fast.GuidanceStart, fast.GuidanceEnd, fast.CacheInterval = 0.2, 0.8, 3
	if d := furthest(t, generate(t, e, fast).Latents.F32, want.Latents.F32); d < 1e-3 {
		t.Errorf("shortcuts make a difference of %g", d)
	}
	spelled := r
	spelled.GuidanceEnd, spelled.CacheInterval = 1, 1
	for name, r := range map[string]pipeline.Request{"again": r, "spelled out": spelled, "exact": fast.Exact()} {
		got := generate(t, e, r)
		if !slices.Equal(got.Latents.F32, want.Latents.F32) || !slices.Equal(got.Image.Pix, want.Image.Pix) {
			t.Errorf("%s: not the same picture", name)
		}
		if got.Steps != (pipeline.StepCounts{Whole: 6, Guided: 6}) {
			t.Errorf("%s: %v", name, got.Steps)
		}
	}
}

// TestGuidanceInterval: outside of it the UNet sees the prompt's row alone, and a picture without any guided step is one without guidance.
func TestGuidanceInterval(t *testing.T) {
	r := &recorder{}
	e := openFolder(t, tinySD, r.backend(backend), pipeline.EngineConfig{})
	request := pipeline.Request{Prompt: "<me> in a hat", Seed: 3, Steps: 10, Subjects: []pipeline.Subject{subject(e, "me", 1)}, GuidanceStart: 0.2, GuidanceEnd: 0.65}
	result := generate(t, e, request)
	var rows []int
	for _, turn := range r.turns {
		rows = append(rows, turn.rows())
	}
	if want := []int{1, 1, 2, 2, 2, 2, 1, 1, 1, 1}; !slices.Equal(rows, want) {
		t.Errorf("rows are %v, want %v", rows, want)
	}
	if result.Steps != (pipeline.StepCounts{Whole: 10, Guided: 4}) {
		t.Error(result.Steps)
	}
	states := func(turn turn) []float32 {
		a := turn.in["encoder_hidden_states"]
		return a.F32[len(a.F32)-op.Size(a.Dims[1:]):]
	}
	offsets := func(turn turn) []float32 { a := turn.in["offsets"]; return a.F32[len(a.F32)-op.Size(a.Dims[1:]):] }
	if !slices.Equal(states(r.turns[0]), states(r.turns[3])) || !slices.Equal(offsets(r.turns[0]), offsets(r.turns[3])) {
		t.Error("the row without guidance is not the prompt's")
	}
	request.GuidanceStart, request.GuidanceEnd = 0, 0.05
	none := generate(t, e, request)
	request.GuidanceEnd, request.GuidanceScale = 0, 1
	if !slices.Equal(none.Latents.F32, generate(t, e, request).Latents.F32) {
		t.Error("no guided step is not no guidance")
	}
}

// TestDeepFeatures: whole steps come every CacheInterval steps and where guidance begins; the others get the features that the last whole
// one left for the same rows.
func TestDeepFeatures(t *testing.T) {
	r := &recorder{}
	e := openFolder(t, tinySD, r.backend(backend), pipeline.EngineConfig{})
	result := generate(t, e, pipeline.Request{Prompt: prompt, Seed: 3, Steps: 10, CacheInterval: 3, GuidanceStart: 0.2, GuidanceEnd: 0.7})
	var kinds string
	var last turn
	for i, turn := range r.turns {
		kind := "w"
		if turn.isShallow() {
			kind = "s"
			deep, whole := turn.in["deep"].F32, last.out["deep"].F32
			if !slices.Equal(deep, whole[len(whole)-len(deep):]) {
				t.Errorf("step %d does not get what the last whole step left", i)
			}
		} else {
			last = turn
		}
		kinds += fmt.Sprint(kind, turn.rows())
	}
	if want := "w1s1w2s2s2w2s2s1w1s1"; kinds != want {
		t.Errorf("steps are %s, want %s", kinds, want)
	}
	if result.Steps != (pipeline.StepCounts{Whole: 4, Shallow: 6, Guided: 5}) {
		t.Error(result.Steps)
	}
	if r.opens[checkpoint.UNet] != 3 || len(r.open) != 4 { // text encoder, VAE, and of the UNet the whole and the outermost layers
		t.Errorf("opened %v, open %v", r.opens, r.open)
	}
}

// TestShortcutsTogether makes pictures by different shortcuts alone, then at once.
func TestShortcutsTogether(t *testing.T) {
	alone := open(t, pipeline.EngineConfig{MaxBatch: 1})
	crowd := open(t, pipeline.EngineConfig{MaxBatch: 4})
	var requests []pipeline.Request
	for i := range 8 {
		r := pipeline.Request{Prompt: prompt, Seed: uint64(i), Steps: 5 + i, Owner: fmt.Sprint(i % 3), CacheInterval: 1 + i%3}
		if i%2 == 1 {
			r.GuidanceStart, r.GuidanceEnd, r.Scheduler = 0.25, 0.75, "dpmsolver++"
		}
		requests = append(requests, r)
	}
	together := generateTogether(t, crowd, requests)
	for i, r := range requests {
		want := generate(t, alone, r)
		if d := furthest(t, together[i].Latents.F32, want.Latents.F32); d > 1e-4 || together[i].Steps != want.Steps {
			t.Errorf("request %d: latents differ by %g from those made alone, by %v and %v", i, d, together[i].Steps, want.Steps)
		}
	}
}

func TestShortcutsOutOfRange(t *testing.T) {
	e := open(t, pipeline.EngineConfig{})
	for field, requests := range map[string][]pipeline.Request{
		"guidance_start": {{GuidanceStart: 1}, {GuidanceStart: -0.1}, {GuidanceStart: math.NaN()}},
		"guidance_end":   {{GuidanceEnd: 1.1}, {GuidanceEnd: -1}, {GuidanceStart: 0.5, GuidanceEnd: 0.5}, {GuidanceEnd: math.NaN()}},
		"cache_interval": {{CacheInterval: -1}, {CacheInterval: 201}},
	} {
		for _, r := range requests {
			r.Prompt = prompt
			_, err := e.Generate(t.Context(), r, nil)
			var invalid *pipeline.InvalidError
			if !errors.As(err, &invalid) || invalid.Field != field {
				t.Errorf("%+v: error is %v, want one of %s", r, err, field)
			}
		}
	}
}

// TestLowMemory: networks are open one component at a time and none after; pictures are the same, also together, from a picture and after a failure.
func TestLowMemory(t *testing.T) {
	r := &recorder{}
	low := r.backend(backend)
	low.LowMemory = true
	e, usual := openFolder(t, tinySD, low, pipeline.EngineConfig{}), open(t, pipeline.EngineConfig{})
	if len(r.opens) > 0 {
		t.Errorf("opened at the start: %v", r.opens)
	}
	requests := []pipeline.Request{
		{Prompt: prompt, Seed: 1, Steps: 4, PreviewEvery: 1},
		{Prompt: "a hat", Seed: 2, Steps: 3, ClipSkip: 1, CacheInterval: 2},
		{Prompt: "a hat", Seed: 3, Steps: 5, Image: generate(t, usual, pipeline.Request{Prompt: prompt, Steps: 1}).Image},
	}
	for round := range 2 {
		var wait sync.WaitGroup
		for _, request := range requests {
			wait.Go(func() {
				got, err := e.Generate(t.Context(), request, func(ev pipeline.Event) {
					if ev.Preview != nil {
						t.Error("a preview")
					}
				})
				if err != nil {
					t.Error(err)
					return
				}
				want := generate(t, usual, request)
				if d := furthest(t, got.Latents.F32, want.Latents.F32); d > 1e-4 {
					t.Errorf("round %d, seed %d: latents differ by %g", round, request.Seed, d)
				}
			})
		}
		wait.Wait()
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := e.Generate(ctx, pipeline.Request{Prompt: prompt, Steps: 100}, func(pipeline.Event) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	got, want := generate(t, e, requests[0]), generate(t, usual, requests[0])
	if !slices.Equal(got.Image.Pix, want.Image.Pix) {
		t.Error("another picture in low memory")
	}
	e.Close() // and with it the last turn
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.most != 1 || len(r.open) != 0 {
		t.Errorf("%d components were open at a time, and are %v now", r.most, r.open)
	}
}

// TestNetworkThatDoesNotOpen: what comes with an error, here a nil pointer in a Runner, is not taken for a network, which opens when it is asked again.
func TestNetworkThatDoesNotOpen(t *testing.T) {
	failures := 2
	b := pipeline.Backend{LowMemory: true, Network: func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error) {
		if failures--; failures >= 0 {
			return (*ort.Session)(nil), errors.New("no room")
		}
		return backend.Network(name, model, weights)
	}}
	e := openFolder(t, tinySD, b, pipeline.EngineConfig{})
	for range 2 {
		if _, err := e.Generate(t.Context(), pipeline.Request{Prompt: prompt, Steps: 1}, nil); err == nil || !strings.Contains(err.Error(), "no room") {
			t.Errorf("the error is %v", err)
		}
	}
	generate(t, e, pipeline.Request{Prompt: prompt, Steps: 1})
}
