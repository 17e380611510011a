//go:build torch

package tune

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestResume(t *testing.T) {
	b := openBase(t, newEngine(t), withEncoder(t))
	photos := readPhotos(t, b, 1)
	for _, method := range everyMethod {
		cfg := config(method)
		whole := tune(t, b, photos, cfg)
		cfg.Run = filepath.Join(t.TempDir(), "run")
		ctx, cancel := context.WithCancel(t.Context())
		half, err := Tune(ctx, b, photos, cfg, func(e Event) {
			if e.Step == 3 {
				cancel()
			}
		})
		if err != nil || !half.Interrupted || half.Steps != 3 {
			t.Fatal(half, err)
		}
		saved := filepath.Join(cfg.Run, checkpointFile)
		if _, err := os.Stat(saved); err != nil {
			t.Fatal(err)
		}
		var steps []int
		rest, err := Tune(t.Context(), b, photos, cfg, func(e Event) {
			if e.Doing == "" {
				steps = append(steps, e.Step)
			}
		})
		if err != nil || len(steps) == 0 || steps[0] != 4 {
			t.Fatal(steps, err)
		}
		if !same(rest.Concept, whole.Concept) || rest.Best != whole.Best || rest.Steps != whole.Steps || rest.First != whole.First {
			t.Errorf("%s: a resumed run differs from one that was not stopped", method)
		}
		if _, err := os.Stat(saved); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the checkpoint of a finished run is still there: %v", method, err)
		}
	}
}

func TestOtherCheckpoints(t *testing.T) {
	b := openBase(t, newEngine(t), tinySD)
	photos := readPhotos(t, b, 1)
	cfg := config("lora")
	cfg.Run = t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Tune(ctx, b, photos, cfg, func(Event) { cancel() }); err != nil {
		t.Fatal(err)
	}
	other := cfg
	other.Rank = 2
	first := 0
	if _, err := Tune(t.Context(), b, photos, other, func(e Event) {
		if first == 0 {
			first = e.Step
		}
	}); err != nil || first != 1 {
		t.Errorf("a run of other settings begins at step %d: %v", first, err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Run, checkpointFile), []byte("torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Tune(t.Context(), b, photos, cfg, nil); err == nil || !strings.Contains(err.Error(), checkpointFile) {
		t.Errorf("a damaged checkpoint gave %v", err)
	}
}

func TestFullDiskKeepsTheCheckpoint(t *testing.T) {
	b := openBase(t, newEngine(t), tinySD)
	photos := readPhotos(t, b, 1)
	cfg := config("lora")
	whole := tune(t, b, photos, cfg)
	cfg.Run = t.TempDir()
	until := func(step int, then func()) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, err := Tune(ctx, b, photos, cfg, func(e Event) {
			if e.Step == step {
				then()
				cancel()
			}
		})
		return err
	}
	if err := until(3, func() {}); err != nil {
		t.Fatal(err)
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before) })
	err := until(4, func() {
		const room = 64 << 10 // for go test's own log, not for the checkpoint
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: room, Max: before.Max}); err != nil {
			t.Error(err)
		}
	})
	if err == nil || !strings.Contains(err.Error(), checkpointFile) {
		t.Errorf("on a full disk: %v", err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if rest := tune(t, b, photos, cfg); !same(rest.Concept, whole.Concept) {
		t.Error("the run that goes on from what was saved before differs from one that was not stopped")
	}
	if left, err := os.ReadDir(cfg.Run); err != nil || len(left) > 0 {
		t.Errorf("%v is left: %v", left, err)
	}
}
