//go:build torch

package evaluate

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"likeness/models/backend/torch"
	"likeness/models/op"
	"likeness/models/safetensors"
	"likeness/training/loop"
	"likeness/training/portraits"
)

func newEngine(t *testing.T) *torch.Engine {
	t.Helper()
	engine, err := torch.New(torch.Config{Threads: 1, Compute: torch.Float32})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	return engine
}

// open runs a judge of the given weights.
func open(t *testing.T, engine *torch.Engine, weights map[string]op.Array) *Judge {
	t.Helper()
	params, err := engine.NewParams(weights, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(params.Free)
	return judgeOn(engine, params)
}

func TestJudgeLossIsThatOfItsOutputs(t *testing.T) {
	const batch = 6
	engine := newEngine(t)
	weights, err := loop.Init(judgeLoss(batch), 1)
	if err != nil {
		t.Fatal(err)
	}
	params, err := engine.NewParams(weights, false)
	if err != nil {
		t.Fatal(err)
	}
	defer params.Free()
	inputs := judgeInputs(portraits.NewRenderer(), batch, rand.New(rand.NewPCG(3, 4)))
	loss, err := engine.Run(judgeLoss(batch), inputs, params)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := engine.Run(judgeNetwork, map[string]op.Array{"pictures": inputs["pictures"]}, params)
	if err != nil {
		t.Fatal(err)
	}
	embedding := func(i int) []float32 { return seen["embedding"].F32[i*embeddingSize:][:embeddingSize] }
	identity, facets := 0.0, 0.0
	for i := range batch {
		if norm := cosine(embedding(i), embedding(i)); math.Abs(norm-1) > 1e-5 {
			t.Errorf("embedding %d has length² %g", i, norm)
		}
		sum := 0.0
		for k := range batch {
			if k != i {
				sum += math.Exp(cosine(embedding(i), embedding(k)) / temperature)
			}
		}
		partner := i - 1 + 2*((i+1)%2)
		identity -= (cosine(embedding(i), embedding(partner))/temperature - math.Log(sum)) / batch
		logits, truth := seen["logits"].F32[i*labels():][:labels()], inputs["truth"].F32[i*labels():][:labels()]
		for _, facet := range portraits.LabelNames {
			n := len(facet.Values)
			sum, right := 0.0, 0.0
			for v := range n {
				sum += math.Exp(float64(logits[v]))
				right += float64(logits[v] * truth[v])
			}
			facets += (math.Log(sum) - right) / batch / float64(len(portraits.LabelNames))
			logits, truth = logits[n:], truth[n:]
		}
	}
	if got := float64(loss["identity"].F32[0]); math.Abs(got-identity) > 1e-4 {
		t.Errorf("identity loss %g, want %g", got, identity)
	}
	if got := float64(loss["context"].F32[0]); math.Abs(got-facets) > 1e-4 {
		t.Errorf("context loss %g, want %g", got, facets)
	}
}

func TestJudgeReadsBackWhatWasWritten(t *testing.T) {
	weights, err := loop.Init(judgeLoss(2), 1)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "judge.safetensors")
	if err := writeJudge(path, weights); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	back, err := readJudge(f)
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range back {
		for i, v := range a.F32 {
			if want := weights[name].F32[i]; math.Abs(float64(v-want)) > 1e-3*math.Abs(float64(want))+1e-6 {
				t.Fatalf("%s[%d] is %g, was %g", name, i, v, want)
			}
		}
	}
	open(t, newEngine(t), back)
	for name := range weights {
		if _, kept := back[name]; kept == strings.HasPrefix(name, "traits.") {
			t.Errorf("%s: kept %v; only what helps in training is left out", name, kept)
		}
	}
}

// A judge that errs on the truth itself cannot measure anything.
func TestBundledJudgeIsAccurate(t *testing.T) {
	weights, err := bundledJudge()
	if err != nil {
		t.Fatal(err)
	}
	report, grid, err := Run(t.Context(), open(t, newEngine(t), weights), nil, nil, Config{Persons: 40, Pictures: 2, Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	row := report.Rows[0]
	if row.Rank1.Mean < 0.75 {
		t.Errorf("rank-1 of 40 is %.2f", row.Rank1.Mean)
	}
	for f, share := range row.Facets {
		if share < 0.9 {
			t.Errorf("%s is seen in %.2f of the pictures", portraits.LabelNames[f].Name, share)
		}
	}
	if size := grid.Bounds().Size(); size.X != 2*portraits.Size || size.Y != gridPersons*gridContexts*portraits.Size {
		t.Errorf("the grid is %v", size)
	}
}
