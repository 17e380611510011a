//go:build torch

package main

import (
	"bytes"
	"context"
	"image/png"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"likeness/encoder/concept"
	"likeness/training/portraits"
)

// tuning is a short run of the command on a tiny model.
func tuning(t *testing.T, out string) *tuneCommand {
	t.Helper()
	photo := filepath.Join(t.TempDir(), "me.png")
	f, err := os.Create(photo)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, portraits.Sheet(1, 1, portraits.Test, 1)); err != nil {
		t.Fatal(err)
	}
	return &tuneCommand{Method: "lora", Photos: photo, Out: out, Model: "../models/pipeline/testdata/tiny-sd", Word: "me", Class: "face", Steps: 2, LR: 0.01,
		Accumulate: 1, Seed: 1, Rank: 2, Caption: []string{"a photo of {}"}, Crop: "centre", Sample: 1, device: device{Threads: 1, Precision: "float32"}}
}

// The command writes a concept and its sample pictures; what cannot be written is found before the work, and leaves an earlier file alone.
func TestTuneCommand(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "me.safetensors")
	if err := tuning(t, out).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := concept.Read(out)
	if err != nil || c.Word != "me" || c.Method != "lora" || c.Photos != 1 || len(c.LoRA["unet"]) == 0 {
		t.Fatal(c, err)
	}
	if samples, err := filepath.Glob(filepath.Join(dir, "me.run", "sample-*.png")); err != nil || len(samples) != 2 {
		t.Errorf("sample pictures %v, %v", samples, err)
	}
	for _, place := range []string{dir, filepath.Join(dir, "gone", "me.safetensors")} {
		if err := tuning(t, place).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--out "+place) {
			t.Errorf("--out %s: error %v", place, err)
		}
	}
}

// A disk that is full when the concept is written costs nothing of the earlier one.
func TestTuneOnAFullDisk(t *testing.T) {
	out := filepath.Join(t.TempDir(), "me.safetensors")
	before := []byte("the earlier concept")
	if err := os.WriteFile(out, before, 0o644); err != nil {
		t.Fatal(err)
	}
	command := tuning(t, out)
	command.Sample = 0
	onAFullDisk(t, 12_000, func() {
		if err := command.Run(t.Context()); err == nil || !strings.Contains(err.Error(), out) {
			t.Errorf("error %v, want one that names %s", err, out)
		}
	})
	after, err := os.ReadFile(out)
	if err != nil || string(after) != string(before) {
		t.Errorf("the earlier concept is %q now, %v", after, err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(out), ".*safetensors*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// With --save-model, the weights as they were learned are a model folder that concepts are tuned on in turn. A disk that is full costs
// nothing of an earlier one, and a method that moves no weights is refused before the work.
func TestTuneSavesTheModel(t *testing.T) {
	dir := t.TempDir()
	command := tuning(t, filepath.Join(dir, "me.safetensors"))
	command.Method, command.Sample, command.Save = "svdiff", 0, filepath.Join(dir, "model")
	if err := command.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, err := concept.Read(filepath.Join(command.Save, "me.safetensors")); err != nil || c.Method != "svdiff" || len(c.WordEmbeddings.Data) == 0 {
		t.Error(c, err)
	}
	again := tuning(t, filepath.Join(dir, "again.safetensors"))
	again.Model = command.Save
	if err := again.Run(t.Context()); err != nil {
		t.Error(err)
	}
	weights := filepath.Join(command.Save, "unet", "diffusion_pytorch_model.safetensors")
	before, err := os.ReadFile(weights)
	if err != nil {
		t.Fatal(err)
	}
	command.Seed, command.Out = 2, filepath.Join(dir, "other.safetensors")
	onAFullDisk(t, 200_000, func() {
		if err := command.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--save-model: "+command.Save) {
			t.Errorf("error %v, want one that names %s", err, command.Save)
		}
	})
	if after, err := os.ReadFile(weights); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the earlier model has changed: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".model*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	command.Method = "lora"
	if err := command.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "lora moves no weights") {
		t.Errorf("lora: %v", err)
	}
}

// onAFullDisk does something while no file may become longer than some bytes: more than go test's own log of the files that are read.
func onAFullDisk(t *testing.T, bytes uint64, do func()) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	full := limit
	full.Cur = bytes
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
	do()
}

// A tuning that is interrupted writes the best so far.
func TestTuneInterrupted(t *testing.T) {
	out := filepath.Join(t.TempDir(), "me.safetensors")
	ctx, cancel := context.WithCancel(t.Context())
	command := tuning(t, out)
	command.Steps = 1 << 20
	go func() {
		defer cancel()
		for t.Context().Err() == nil {
			if _, err := os.Stat(filepath.Join(filepath.Dir(out), "me.run", "sample-000001.png")); err == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if err := command.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := concept.Read(out); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(strings.TrimSuffix(out, ".safetensors")+".run", "checkpoint.safetensors")); err != nil {
		t.Error(err)
	}
}
