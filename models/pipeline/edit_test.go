package pipeline_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"likeness/models/pipeline"
)

// edited is somebody made up with gated changes; states of the tiny text encoder are of some units.
func edited(e *pipeline.Engine, word string, seed int) pipeline.Subject {
	u := e.Model().UNet
	return pipeline.Subject{Word: word, Class: "cat", Scale: 1, WordEmbeddings: noise(e.Model().Text.HiddenSize, 1, seed),
		Edit: &pipeline.Edit{Probe: noise(u.TextWidth(), 0.3, seed), Input: noise(u.EditSize(), 0.5, seed+1), Output: noise(u.EditSize(), 1, seed+2)}}
}

// Gated changes act on their own picture alone, in one batch with others, by the request's gate; with text that differs between
// cross-attentions the picture is the same.
func TestGatedChanges(t *testing.T) {
	plain := open(t, pipeline.EngineConfig{})
	with, both := backend, backend
	with.Reach.Edits, both.Reach.Edits, both.Reach.LayeredText = true, true, true
	e, layered := openFolder(t, tinySD, with, pipeline.EngineConfig{}), openFolder(t, tinySD, both, pipeline.EngineConfig{})
	me, ann := edited(e, "me", 1), edited(e, "ann", 5)
	request := func(prompt string, s ...pipeline.Subject) pipeline.Request {
		return pipeline.Request{Prompt: prompt, NegativePrompt: "a red hat", Subjects: s, Seed: 1, Steps: 3}
	}
	wide := request("a drawing of <me>", me)
	wide.GateBias, wide.GateTemperature = 0.2, 1
	requests := []pipeline.Request{request("a drawing of <me>", me), request("a drawing of a cat"), request("<me> and <ann> hi", me, ann), request("<ann> hi", ann), wide}
	together := generateTogether(t, e, requests)
	for i, r := range requests {
		if d := furthest(t, together[i].Latents.F32, generate(t, layered, r).Latents.F32); d > 1e-4 {
			t.Errorf("request %d: layered text is %g away", i, d)
		}
		r.Subjects = slices.Clone(r.Subjects)
		for j := range r.Subjects {
			r.Subjects[j].Edit = nil
		}
		d := furthest(t, together[i].Latents.F32, generate(t, plain, r).Latents.F32)
		if changes := len(r.Subjects) > 0; changes && d < 1e-2 || !changes && d > 1e-4 {
			t.Errorf("request %d is %g from the picture without gated changes", i, d)
		}
	}
	if furthest(t, together[0].Latents.F32, together[4].Latents.F32) < 1e-3 {
		t.Error("the request's gate makes no difference")
	}
	r := request("a drawing of a cat")
	if d := furthest(t, generate(t, e, r).Latents.F32, generate(t, plain, r).Latents.F32); d != 0 {
		t.Errorf("closed gates are %g from the base model", d)
	}
}

func TestGatedChangesThatDoNotFit(t *testing.T) {
	with := backend
	with.Reach.Edits = true
	e, plain := openFolder(t, tinySD, with, pipeline.EngineConfig{}), open(t, pipeline.EngineConfig{})
	for want, c := range map[string]struct {
		e      *pipeline.Engine
		change func(*pipeline.Request)
	}{
		"was not opened with":      {plain, func(*pipeline.Request) {}},
		"made for another model":   {e, func(r *pipeline.Request) { r.Subjects[0].Edit.Input = r.Subjects[0].Edit.Input[1:] }},
		"gate_bias 2: must be":     {e, func(r *pipeline.Request) { r.GateBias = 2 }},
		"gate_temperature -1: mus": {e, func(r *pipeline.Request) { r.GateTemperature = -1 }},
	} {
		r := pipeline.Request{Prompt: "<me>", Subjects: []pipeline.Subject{edited(e, "me", 1)}}
		c.change(&r)
		_, err := c.e.Generate(t.Context(), r, nil)
		var invalid *pipeline.InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
