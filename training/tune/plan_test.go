//go:build torch

package tune

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"likeness/models/backend/torch"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/memory"
	"likeness/models/op"
	"likeness/models/safetensors"
	"likeness/models/unet"
)

// machine is a meter of a machine with so many bytes left.
func machine(t *testing.T, free int64) memory.Meter {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "proc", "meminfo"), fmt.Appendf(nil, "MemAvailable: %d kB\n", free>>10), 0o644); err != nil {
		t.Fatal(err)
	}
	return memory.Meter{Root: root}
}

// planned is the plan of a run.
func planned(t *testing.T, b *Base, photos []Photo, cfg Config) Plan {
	t.Helper()
	m, err := b.find(cfg.Method)
	if err != nil {
		t.Fatal(err)
	}
	work := &task{base: b, cfg: m.complete(cfg), photos: photos}
	if work.learner, err = m.start(t.Context(), b, work.cfg, photos); err != nil {
		t.Fatal(err)
	}
	p, err := work.plan()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A run that does not fit is refused before it begins, with the flags that make it fit, and with these it does.
func TestRefusedWithAFlag(t *testing.T) {
	b := openBase(t, newEngine(t), tinySD)
	photos := readPhotos(t, b, 1)
	cfg := config("dreambooth")
	cfg.Batch = 64
	b.memory = machine(t, 1<<40)
	whole := planned(t, b, photos, cfg)
	low := cfg
	low.LowMemory = true
	less := planned(t, b, photos, low)
	if less.Optimizer != 0 || less.Activations >= whole.Activations || less.Total() >= whole.Total() {
		t.Fatalf("plans %+v and, with less memory, %+v", whole, less)
	}
	one := cfg
	one.Batch, one.Accumulate = 1, 64
	least := planned(t, b, photos, one)
	if least.Total() >= less.Total() {
		t.Fatalf("plans %+v and, of one picture, %+v", less, least)
	}
	for _, c := range []struct {
		free int64
		want string
		with Config
	}{
		{(whole.Total() + less.Total()) / 2, "--memory low makes it fit", low},
		{(less.Total() + least.Total()) / 2, "--batch 1 --accumulate 64 makes it fit", one},
		{100 << 10, "no setting makes it fit", Config{}},
	} {
		b.memory = machine(t, c.free)
		events := 0
		_, err := Tune(t.Context(), b, photos, cfg, func(Event) { events++ })
		var refused *MemoryError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "needs about") || events > 0 {
			t.Errorf("%d bytes: %v after %d events, want one with %q", c.free, err, events, c.want)
		}
		if c.with.Method == "" {
			continue
		}
		var plan *Plan
		if _, err := Tune(t.Context(), b, photos, c.with, func(e Event) {
			if e.Plan != nil {
				plan = e.Plan
			}
		}); err != nil || plan == nil || plan.Total() > c.free {
			t.Errorf("%d bytes: as advised: plan %+v, %v", c.free, plan, err)
		}
	}
}

// A model whose weights alone do not fit is refused before they are read; with as much as they take it opens.
func TestWeightsThatDoNotFit(t *testing.T) {
	engine := newEngine(t)
	weights := openBase(t, engine, tinySD).weights()
	var refused *MemoryError
	_, err := open(engine, tinySD, machine(t, weights-1024))
	if !errors.As(err, &refused) || refused.Plan.Weights != weights || !strings.Contains(err.Error(), tinySD) || !strings.Contains(err.Error(), "the weights alone do not fit") {
		t.Errorf("%v, of %d bytes of weights", err, weights)
	}
	b, err := open(engine, tinySD, machine(t, weights+1024))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// planOf is the environment variable with which the test binary measures a case of TestPlanIsMeasured.
const planOf = "LIKENESS_TEST_PLAN"

// Peaks of processes that tune are as planned.
func TestPlanIsMeasured(t *testing.T) {
	if text := os.Getenv(planOf); text != "" {
		measurePlan(t, text)
		return
	}
	pack, large := filepath.Join("..", "..", "models", "demo"), largerUNet(t)
	for c, off := range map[planCase]float64{ // what kernels for bfloat16 take differs between processors
		{pack, "quick", "float32", 8, false}: 0.15, {large, "lora", "float32", 4, false}: 0.15, {large, "lora", "bfloat16", 4, true}: 0.3,
	} {
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPlanIsMeasured$", "-test.v")
		cmd.Env = append(os.Environ(), planOf+"="+string(text))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", text, err, out)
		}
		var plan, peak float64
		for line := range strings.SplitSeq(string(out), "\n") {
			if _, rest, ok := strings.Cut(line, "measured "); ok {
				fmt.Sscanf(rest, "%g of %g", &peak, &plan)
				t.Logf("%s %s", text, line)
			}
		}
		if ratio := peak / plan; !(ratio > 1-off && ratio < 1+off) {
			t.Errorf("%s: the peak is %.2f of what was planned", text, ratio)
		}
	}
}

type planCase struct {
	Dir, Method, Precision string
	Batch                  int
	Low                    bool
}

func measurePlan(t *testing.T, text string) {
	var c planCase
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	compute := torch.Float32
	if c.Precision == "bfloat16" {
		compute = torch.BFloat16
	}
	engine, err := torch.New(torch.Config{Threads: 2, Compute: compute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	b := openBase(t, engine, c.Dir)
	photos := readPhotos(t, b, 1)
	cfg := Config{Method: c.Method, Word: "me", Class: "face", Steps: 1, Batch: c.Batch, LowMemory: c.Low, Seed: 1}
	var plan *Plan
	if _, err := Tune(t.Context(), b, photos, cfg, func(e Event) {
		if e.Plan != nil {
			plan = e.Plan
		}
	}); err != nil {
		t.Fatal(err)
	}
	peak := memory.Meter{Root: "/"}.Peak()
	fmt.Printf("measured %g of %g bytes (%.2f): %s\n", float64(peak), float64(plan.Total()), float64(peak)/float64(plan.Total()), plan)
}

// largerUNet is the tiny folder with a UNet of twelve million random weights, at a larger side.
func largerUNet(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tinySD)); err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, checkpoint.UNet)
	data, err := os.ReadFile(filepath.Join(place, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatal(err)
	}
	var channels []int
	for i := range keys["block_out_channels"].([]any) {
		channels = append(channels, 160<<i)
	}
	keys["block_out_channels"], keys["attention_head_dim"], keys["sample_size"], keys["norm_num_groups"] = channels, 8, 24, 32
	if data, err = json.Marshal(keys); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(place, "config.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := unet.ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	list, err := trace.Weights(unet.New(cfg, nil))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 3))
	tensors := map[string]safetensors.Tensor{}
	for _, w := range list {
		values := make([]float32, op.Size(w.Dims))
		for i := range values {
			values[i] = float32(0.02 * r.NormFloat64())
		}
		tensors[w.Name] = safetensors.F16(values, w.Dims...)
	}
	files, err := filepath.Glob(filepath.Join(place, "*.safetensors"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := safetensors.Write(files[0], tensors, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}
