package pipeline_test

import (
	"errors"
	"strings"
	"testing"

	"likeness/models/pipeline"
	"likeness/models/tokenizer"
)

// draw is the latents after a few steps, which prompts move.
func draw(t *testing.T, e *pipeline.Engine, prompt, negative string, subjects ...pipeline.Subject) []float32 {
	t.Helper()
	return generate(t, e, pipeline.Request{Prompt: prompt, NegativePrompt: negative, Seed: 1, Steps: 3, Subjects: subjects}).Latents.F32
}

// A concept's word survives in a prompt of several chunks; only what lies beyond the last of them is dropped, and never a word.
func TestLongPrompt(t *testing.T) {
	e := open(t, pipeline.EngineConfig{})
	long := strings.Repeat("a cat and a hat ", 5)
	s := []pipeline.Subject{subject(e, "me", 1)}
	far := func(seed int) []float32 { return draw(t, e, long+"<me>", "", subject(e, "me", seed)) }
	if d := furthest(t, far(1), far(2)); d < 1e-2 {
		t.Errorf("in the second chunk one subject is %g from another", d)
	}
	got := generate(t, e, pipeline.Request{Prompt: "<me> " + long, Subjects: s, Steps: 1})
	if got.Truncated != 0 {
		t.Errorf("%d tokens are said to be cut", got.Truncated)
	}
	got = generate(t, e, pipeline.Request{Prompt: "<me> " + strings.Repeat(long, 6), Subjects: s, Steps: 1})
	if got.Truncated == 0 {
		t.Error("the result does not say that the prompt was cut")
	}
	_, err := e.Generate(t.Context(), pipeline.Request{Prompt: strings.Repeat(long, 6) + "<me>", Subjects: s}, nil)
	var tooLong *tokenizer.ErrTooLong
	var invalid *pipeline.InvalidError
	if !errors.As(err, &tooLong) || !errors.As(err, &invalid) || invalid.Field != "prompt" {
		t.Errorf("a subject that does not fit: %v", err)
	}
}

// Prompts of other lengths in one turn change nothing, and either prompt may be the longer one.
func TestLengthsTogether(t *testing.T) {
	e := open(t, pipeline.EngineConfig{})
	long := strings.Repeat("a red hat ", 8)
	alone := map[string][]float32{"a cat": draw(t, e, "a cat", long), long: draw(t, e, long, "")}
	plain := draw(t, e, "a cat", "")
	if furthest(t, alone["a cat"], plain) < 1e-2 || furthest(t, alone[long], plain) < 1e-2 {
		t.Error("a long prompt makes no difference")
	}
	type made struct {
		prompt string
		result *pipeline.Result
		err    error
	}
	all := make(chan made)
	for _, r := range []pipeline.Request{{Prompt: "a cat", NegativePrompt: long}, {Prompt: "a cat"}, {Prompt: long}} {
		r.Seed, r.Steps = 1, 3
		go func() {
			result, err := e.Generate(t.Context(), r, nil)
			all <- made{r.Prompt + r.NegativePrompt, result, err}
		}()
	}
	want := map[string][]float32{"a cat" + long: alone["a cat"], "a cat": plain, long: alone[long]}
	for range want {
		got := <-all
		if got.err != nil {
			t.Fatal(got.err)
		}
		if d := furthest(t, got.result.Latents.F32, want[got.prompt]); d > 1e-4 {
			t.Errorf("%q differs by %g from the one made alone", got.prompt, d)
		}
	}
}

func TestWeights(t *testing.T) {
	e := open(t, pipeline.EngineConfig{})
	plain := draw(t, e, "a cat wearing a hat", "")
	for prompt, same := range map[string]bool{
		"a cat wearing (a hat:1.0)":    true,
		"a cat [(wearing:1.1)] a hat":  true,
		"a cat wearing a (hat:1.5)":    false,
		"a cat wearing a [hat]":        false,
		`a cat wearing a \(hat\)`:      false,
		"a (cat:-1) wearing a (hat:3)": false,
	} {
		d := furthest(t, draw(t, e, prompt, ""), plain)
		if same && d != 0 || !same && d < 1e-4 {
			t.Errorf("%q is %g from the same without weights", prompt, d)
		}
	}
	if furthest(t, draw(t, e, "a cat", "a (hat:2)"), draw(t, e, "a cat", "a hat")) < 1e-4 {
		t.Error("weights in the negative prompt make no difference")
	}
	me := subject(e, "me", 1)
	if furthest(t, draw(t, e, "a (<me>:1.5)", "", me), draw(t, e, "a <me>", "", me)) < 1e-4 {
		t.Error("weights of a concept's word make no difference")
	}
}
