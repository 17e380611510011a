//go:build torch

package evaluate

import (
	"maps"
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

// lossAndOutputs runs a loss and what it is computed from on first weights and a batch.
func lossAndOutputs(t *testing.T, loss op.Model, inputs map[string]op.Array) (losses, seen map[string]op.Array) {
	t.Helper()
	engine := newEngine(t)
	all, err := initial()
	if err != nil {
		t.Fatal(err)
	}
	params, err := engine.NewParams(all, false)
	if err != nil {
		t.Fatal(err)
	}
	defer params.Free()
	if losses, err = engine.Run(loss, inputs, params); err != nil {
		t.Fatal(err)
	}
	if seen, err = engine.Run(judgeNetwork, map[string]op.Array{"pictures": inputs["pictures"]}, params); err != nil {
		t.Fatal(err)
	}
	return losses, seen
}

// initial are first weights of all that is trained.
func initial() (map[string]op.Array, error) {
	weights, err := loop.Init(recogniserLoss(2), 1)
	if err != nil {
		return nil, err
	}
	more, err := loop.Init(classifierLoss, 1)
	maps.Copy(weights, more)
	return weights, err
}

func TestRecogniserLoss(t *testing.T) {
	const batch = 6
	inputs := recogniserInputs(portraits.NewRenderer(), batch, rand.New(rand.NewPCG(3, 4)))
	loss, seen := lossAndOutputs(t, recogniserLoss(batch), inputs)
	embedding := func(i int) []float32 { return seen["embedding"].F32[i*embeddingSize:][:embeddingSize] }
	identity := 0.0
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
	}
	if got := float64(loss["identity"].F32[0]); math.Abs(got-identity) > 1e-4 {
		t.Errorf("identity loss %g, want %g", got, identity)
	}
}

func TestClassifierLoss(t *testing.T) {
	const batch = 5
	inputs := classifierInputs(portraits.NewRenderer(), batch, rand.New(rand.NewPCG(3, 4)))
	loss, seen := lossAndOutputs(t, classifierLoss, inputs)
	want := 0.0
	for i := range batch {
		logits, truth := seen["logits"].F32[i*labels():][:labels()], inputs["truth"].F32[i*labels():][:labels()]
		for _, facet := range portraits.LabelNames {
			n := len(facet.Values)
			sum, right := 0.0, 0.0
			for v := range n {
				sum += math.Exp(float64(logits[v]))
				right += float64(logits[v] * truth[v])
			}
			want += (math.Log(sum) - right) / batch
			logits, truth = logits[n:], truth[n:]
		}
	}
	if got := float64(loss["loss"].F32[0]); math.Abs(got-want) > 1e-4 {
		t.Errorf("loss %g, want %g", got, want)
	}
}

func TestJudgeReadsBackWhatWasWritten(t *testing.T) {
	weights, err := initial()
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
	if row.Editability.Mean < 0.93 {
		t.Errorf("editability of real renders is %.2f", row.Editability.Mean)
	}
	for f, share := range row.Facets {
		if share < 0.75 { // the hardest, expression, is one of seven
			t.Errorf("%s is seen in %.2f of the pictures", portraits.LabelNames[f].Name, share)
		}
	}
	if size := grid.Bounds().Size(); size.X != 2*portraits.Size || size.Y != gridPersons*gridContexts*portraits.Size {
		t.Errorf("the grid is %v", size)
	}
}
