//go:build torch

package tune

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"likeness/models/backend/torch"
	"likeness/models/memory"
)

// peer is PyTorch with the same tuning in a process of its own (scripts/tunepeers.py).
type peer struct {
	in      io.WriteCloser
	answers *json.Decoder
}

func startPeer(b *testing.B, dir, method string, settings map[string]any) *peer {
	b.Helper()
	text, err := json.Marshal(settings)
	if err != nil {
		b.Fatal(err)
	}
	c := exec.Command(os.Getenv("PYTHON"), filepath.Join("..", "..", "scripts", "tunepeers.py"), dir, method, fmt.Sprint(runtime.NumCPU()), string(text))
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatalf("%v: scripts/bench tune names the Python", err)
	}
	b.Cleanup(func() { in.Close(); c.Wait() })
	return &peer{in, json.NewDecoder(bufio.NewReader(out))}
}

// step is what a step takes, and the most memory so far in megabytes.
func (p *peer) step(b *testing.B) (took time.Duration, peak float64) {
	b.Helper()
	var answer struct {
		Seconds float64
		PeakMB  float64 `json:"peak_mb"`
	}
	_, err := io.WriteString(p.in, "step\n")
	if err == nil {
		err = p.answers.Decode(&answer)
	}
	if err != nil {
		b.Fatalf("scripts/tunepeers.py: %v", err)
	}
	return time.Duration(answer.Seconds * float64(time.Second)), answer.PeakMB
}

// The benchmarks take turns with PyTorch, a step each, on the checkpoint at $LIKENESS_MODEL: batch 1, pictures of $LIKENESS_SIDE, what is
// trained and the optimizer the same. The plan of the memory stands beside the peak. Low is with little memory.

func BenchmarkLoRA(b *testing.B)             { raceSteps(b, lora, false) }
func BenchmarkLoRALow(b *testing.B)          { raceSteps(b, lora, true) }
func BenchmarkTextualInversion(b *testing.B) { raceSteps(b, textualInversion, false) }
func BenchmarkDreamBooth(b *testing.B)       { raceSteps(b, dreamBooth, false) }
func BenchmarkDreamBoothLow(b *testing.B)    { raceSteps(b, dreamBooth, true) }

// side is that of the pictures, 0 for the model's.
func side(b *testing.B) (side int) {
	b.Helper()
	if text := os.Getenv("LIKENESS_SIDE"); text != "" {
		if _, err := fmt.Sscan(text, &side); err != nil {
			b.Fatalf("LIKENESS_SIDE %q: %v", text, err)
		}
	}
	return side
}

func raceSteps(b *testing.B, m Method, low bool) {
	dir := os.Getenv("LIKENESS_MODEL")
	engine, err := torch.New(torch.Config{Threads: runtime.NumCPU()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(engine.Close)
	base := openBase(b, engine, dir)
	if base, err = base.At(side(b)); err != nil {
		b.Fatal(err)
	}
	cfg := Config{Method: m.Name, Word: "me", Class: "face", Batch: 1, LowMemory: low, Seed: 1, Rank: 8, Targets: attention}
	work := &task{base: base, cfg: m.complete(cfg), photos: readPhotos(b, base, 1)}
	if work.learner, err = m.start(b.Context(), base, work.cfg, work.photos); err != nil {
		b.Fatal(err)
	}
	rows := 1
	if work.learner.prior > 0 {
		rows = 2
		work.learner.prior = 1 // pictures of the class: what they show makes no difference here
	}
	plan, err := work.fits()
	if err != nil {
		b.Fatal(err)
	}
	if err := work.prepare(func(string) {}); err != nil {
		b.Fatal(err)
	}
	r, err := newRun(work, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer r.close()
	p := startPeer(b, dir, m.Name, map[string]any{"side": base.Side(), "rows": rows, "rank": work.cfg.Rank, "targets": attention,
		"vectors": max(work.vectors(), 1), "low": low})
	step := func() time.Duration {
		start := time.Now()
		if _, err := r.update(); err != nil {
			b.Fatal(err)
		}
		r.step++
		return time.Since(start)
	}
	step()
	p.step(b)
	var ours, theirs []time.Duration
	var peak float64
	for b.Loop() {
		ours = append(ours, step())
		var took time.Duration
		took, peak = p.step(b)
		theirs = append(theirs, took)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(1/median(ours).Seconds(), "steps/s")
	b.ReportMetric(1/median(theirs).Seconds(), "PyTorch-steps/s")
	b.ReportMetric(float64(memory.Meter{Root: "/"}.Peak())/1e6, "peak-MB")
	b.ReportMetric(float64(plan.Total())/1e6, "plan-MB")
	b.ReportMetric(peak, "PyTorch-MB")
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
