package main

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/models/pipeline"
	"likeness/models/safetensors"
	"likeness/server/config"
)

// changed is a copy of tinySD in which change has been at the tensors of a component.
func changed(t *testing.T, component string, change func(tensors map[string]safetensors.Tensor)) (folder, file string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(folder, os.DirFS(tinySD)); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(folder, component, "*.safetensors"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	rewrite(t, found[0], change)
	return folder, found[0]
}

func rewrite(t *testing.T, path string, change func(tensors map[string]safetensors.Tensor)) {
	t.Helper()
	f, err := safetensors.Parse(mustRead(t, path))
	if err != nil {
		t.Fatal(err)
	}
	tensors := map[string]safetensors.Tensor{}
	for _, name := range f.Names() {
		if tensors[name], err = f.Tensor(name); err != nil {
			t.Fatal(err)
		}
	}
	change(tensors)
	if err := safetensors.Write(path, tensors, f.Metadata()); err != nil {
		t.Fatal(err)
	}
}

// What cannot be opened is refused with its path and all that is wrong with it, and nothing stays open.
func TestDamagedModels(t *testing.T) {
	const norm, resnet = "conv_norm_out.weight", "mid_block.resnets.0.norm1.weight"
	nan := float32(math.NaN())
	refused := func(name, folder string, says ...string) {
		t.Helper()
		m, err := openModel(config.Model{Model: folder, Threads: 1}, 1)
		if err == nil {
			m.Close()
			t.Errorf("%s: it was opened", name)
		}
		wantError(t, err, says...)
	}
	folder, _ := changed(t, "unet", func(tensors map[string]safetensors.Tensor) {
		delete(tensors, norm)
		delete(tensors, resnet)
		tensors["conv_in.bias"] = safetensors.F32([]float32{1, 2, 3}, 3)
	})
	refused("lacks", folder, norm, resnet, "conv_in.bias", "F32 [3]")
	folder, _ = changed(t, "unet", func(tensors map[string]safetensors.Tensor) {
		for _, name := range []string{norm, resnet} {
			tensors[name] = safetensors.F32(slices.Repeat([]float32{nan}, tensors[name].Shape[0]), tensors[name].Shape[0])
		}
	})
	refused("no numbers", folder, "2 weights", norm, resnet, "finite")
	folder, file := changed(t, "text_encoder", func(map[string]safetensors.Tensor) {})
	whole := mustRead(t, file)
	for name, data := range map[string][]byte{
		"cut in the numbers": whole[:len(whole)-100], "cut in the header": whole[:200], "longer": append(bytes.Clone(whole), 0),
		"pickle": []byte("PK\x03\x04 and more of a zip that python wrote"),
	} {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		refused(name, folder, file)
	}
	// A flipped bit of the header: a name, a shape, a type or a place that is not there, overlaps, or leaves bytes over.
	for at := 0; at < int(whole[0])+int(whole[1])<<8; at += 97 {
		data := bytes.Clone(whole)
		data[at] ^= 0x10
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := openModel(config.Model{Model: folder, Threads: 1}, 1)
		if err == nil { // in the metadata, or a blank
			m.Close()
		} else if !strings.Contains(err.Error(), folder) {
			t.Errorf("a flipped bit at %d: %v", at, err)
		}
	}
}

// Numbers that go wrong on the way are an error that names the step, never a black picture, and end the server.
func TestModelsThatComputeNoNumbers(t *testing.T) {
	folder, _ := changed(t, "vae", func(tensors map[string]safetensors.Tensor) {
		w := tensors["decoder.conv_out.bias"]
		tensors["decoder.conv_out.bias"] = safetensors.F32(slices.Repeat([]float32{float32(math.Inf(1))}, w.Shape[0]), w.Shape...)
	})
	err := run(t, "generate", "--model", folder, "--prompt", "hi", "--steps", "1", "-o", filepath.Join(t.TempDir(), "x.png"))
	if !errors.Is(err, pipeline.ErrNotNumbers) || !strings.Contains(err.Error(), "vae") {
		t.Error(err)
	}
	err = run(t, "serve", "--model", folder, "--addr", "127.0.0.1:0", "--log", "error", "--store", "bolt:"+filepath.Join(t.TempDir(), "c.db"))
	wantError(t, err, folder, "no numbers", "inspect --values "+folder)
}

// Tensors that nothing reads are told in a line, and do no harm.
func TestTensorsThatNobodyReads(t *testing.T) {
	folder, _ := changed(t, "unet", func(tensors map[string]safetensors.Tensor) {
		for _, name := range []string{"more.a", "more.b"} {
			tensors[name] = safetensors.F32([]float32{1}, 1)
		}
	})
	m, err := openModel(config.Model{Model: folder, Threads: 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	var text bytes.Buffer
	logUnread(slog.New(slog.NewTextHandler(&text, nil)), folder)
	for _, want := range []string{"component=unet", "count=2", "more.a [1]", "more.b [1]"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q does not say %q", text.String(), want)
		}
	}
	text.Reset()
	if logUnread(slog.New(slog.NewTextHandler(&text, nil)), tinySD); text.Len() > 0 {
		t.Errorf("of a whole model it says %s", text.String())
	}
}
