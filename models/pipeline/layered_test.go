package pipeline_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"likeness/models/pipeline"
)

// openLayered is open with words that differ between cross-attentions.
func openLayered(t *testing.T) *pipeline.Engine {
	t.Helper()
	deep := backend
	deep.Reach.LayeredText = true
	return openFolder(t, tinySD, deep, pipeline.EngineConfig{})
}

// A word that is the same for all cross-attentions is that word; one that differs acts on its own picture alone, in one batch with others,
// whatever their texts' weights and lengths.
func TestLayeredWords(t *testing.T) {
	plain, e := open(t, pipeline.EngineConfig{}), openLayered(t)
	layers := e.Model().UNet.TextLayers()
	one := subject(e, "me", 1)
	same, other := one, one
	same.WordLayers, same.WordEmbeddings = layers, slices.Repeat(one.WordEmbeddings, layers)
	other.WordLayers, other.WordEmbeddings = layers, noise(len(same.WordEmbeddings), 1, 9)
	long := strings.Repeat("a red hat, ", 12)
	request := func(prompt string, s ...pipeline.Subject) pipeline.Request {
		return pipeline.Request{Prompt: prompt, Subjects: s, Seed: 1, Steps: 3}
	}
	bob := subject(e, "bob", 4)
	requests := []pipeline.Request{request("a (<me>:1.2) in "+long, same), request("a (<me>:1.2) in "+long, other), request("a drawing of a cat"),
		request("<me> and <bob>", same, bob), request("<me> and <bob>", other, bob)}
	requests[3].NegativePrompt = long
	results := generateTogether(t, e, requests)
	for i, r := range requests {
		var shared []pipeline.Subject
		for _, s := range r.Subjects {
			if s.WordLayers > 1 {
				s = one
			}
			shared = append(shared, s)
		}
		r.Subjects = shared
		d := furthest(t, results[i].Latents.F32, generate(t, plain, r).Latents.F32)
		if differs := i == 1 || i == 4; differs && d < 1e-2 || !differs && d > 1e-4 {
			t.Errorf("request %d is %g from the one with a word that all layers share", i, d)
		}
	}
	other.Scale = 0
	if d := furthest(t, generate(t, e, request("a <me>", other)).Latents.F32, generate(t, plain, request("a cat cat")).Latents.F32); d > 1e-4 {
		t.Errorf("a word of scale 0 is %g from its noun", d)
	}
}

// A word for other layers than the model's is refused with both numbers, and one that the model was not opened for as well.
func TestLayersThatDoNotFit(t *testing.T) {
	for name, c := range map[string]struct {
		e      *pipeline.Engine
		layers int
		want   string
	}{
		"other layers": {openLayered(t), 3, "words for 3 cross-attentions"},
		"not opened":   {open(t, pipeline.EngineConfig{}), 0, "was not opened with"},
	} {
		s := subject(c.e, "me", 1)
		s.WordLayers = c.layers
		if c.layers == 0 {
			s.WordLayers = c.e.Model().UNet.TextLayers()
		}
		s.WordEmbeddings = slices.Repeat(s.WordEmbeddings, s.WordLayers)
		r := pipeline.Request{Prompt: "<me>", Subjects: []pipeline.Subject{s}}
		_, err := c.e.Generate(t.Context(), r, nil)
		var invalid *pipeline.InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if missing := c.e.Model().Lacks(r.Reach()); missing.LayeredText != (name == "not opened") {
			t.Errorf("%s: the model lacks %+v", name, missing)
		}
	}
}
