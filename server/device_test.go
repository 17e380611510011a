package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/unet"
	"likeness/server/config"
)

// openNetwork makes a network run in float32.
func openNetwork(name string, model op.Model, weights *checkpoint.Component, options ort.Options) (*ort.Session, error) {
	return placement{Options: options}.open(name, model, weights)
}

func TestPrecision(t *testing.T) {
	for _, c := range []struct {
		dtype string
		cpu   bool
		want  onnx.Precision
	}{
		{"auto", true, onnx.Float32}, {"", true, onnx.Float32}, {"float32", true, onnx.Float32},
		{"auto", false, onnx.Float16}, {"float32", false, onnx.Float32}, {"float16", false, onnx.Float16}, {"bfloat16", false, onnx.BFloat16},
	} {
		if got, err := precision(c.dtype, c.cpu); got != c.want || err != nil {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
	_, err := precision("float16", true)
	wantError(t, err, "float16", "CPU", "float32", "--memory low")
	got, err := precision("bfloat16", true)
	if why := ort.CanBFloat16(); why != nil {
		wantError(t, err, "--dtype bfloat16", why.Error())
	} else if got != onnx.BFloat16 || err != nil {
		t.Error(got, err)
	}
	_, err = precision("int4", false)
	wantError(t, err, "int4", "bfloat16")
}

// Half precision is for the denoiser and the text encoders alone.
func TestPrecisionOfComponents(t *testing.T) {
	p := placement{compute: onnx.Float16}
	for component, want := range map[string]onnx.Precision{checkpoint.UNet: onnx.Float16, checkpoint.TextEncoder: onnx.Float16,
		checkpoint.TextEncoder2: onnx.Float16, checkpoint.VAE: onnx.Float32, "encoder": onnx.Float32} {
		if got := p.of(component); got != want {
			t.Errorf("%s is %v", component, got)
		}
	}
}

// On the CPU the VAE takes bfloat16 too, and encoders of photos do not.
func TestBFloat16OfComponents(t *testing.T) {
	for device, want := range map[string][3]bool{ort.CPU: {true, true, false}, "cuda:0": {}} {
		p := placement{Options: ort.Options{Device: device}, compute: onnx.BFloat16}
		if got := [3]bool{p.compiled(checkpoint.UNet), p.compiled(checkpoint.VAE), p.compiled("encoder")}; got != want {
			t.Errorf("%s: %v", device, got)
		}
	}
}

// Pictures in bfloat16 are near the exact ones, by as much as --compare prints.
func TestBFloat16OnTheCommandLine(t *testing.T) {
	args := []string{"generate", "--model", tinyPack(t), "--device", "cpu", "--dtype", "bfloat16", "--threads", "1", "--prompt", "a cat", "--steps", "3",
		"--seed", "1", "--compare", "-o", t.TempDir() + "/x.png"}
	if why := ort.CanBFloat16(); why != nil {
		wantError(t, run(t, args...), why.Error())
		return
	}
	var err error
	says := printed(t, func() { err = run(t, args...) })
	var latents, deviation float64
	_, after, _ := strings.Cut(says, "from the exact picture: ")
	if _, wrong := fmt.Sscanf(after, "latents %f in the mean (their deviation is %f)", &latents, &deviation); errors.Join(err, wrong) != nil || latents == 0 || latents > 0.1*deviation {
		t.Errorf("%q, %v, %v", says, err, wrong)
	}
}

// A denoiser in half precision is near the one in float32: what a GPU is asked to compute, computed by the CPU.
func TestDenoiserInHalfPrecision(t *testing.T) {
	if err := ort.Init(ort.LibraryPath()); err != nil {
		t.Fatal(err)
	}
	component, err := checkpoint.OpenComponent(tinySD + "/unet")
	if err != nil {
		t.Fatal(err)
	}
	defer component.Close()
	cfg, err := unet.ParseConfig(component.Config())
	if err != nil {
		t.Fatal(err)
	}
	inputs := map[string]op.Array{"sample": op.Floats(ramp(4*8*8), 1, 4, 8, 8), "timestep": op.Floats([]float32{981}, 1),
		"encoder_hidden_states": op.Floats(ramp(16*16), 1, 16, 16)}
	outputs := map[onnx.Precision][]float32{}
	for _, compute := range []onnx.Precision{onnx.Float32, onnx.Float16} {
		session, err := placement{Options: ort.Options{Threads: 1}, compute: compute}.open(checkpoint.UNet, unet.New(cfg, nil), component)
		if err != nil {
			t.Fatal(err)
		}
		out, err := session.Run(t.Context(), inputs)
		if err := errors.Join(err, session.Close()); err != nil {
			t.Fatal(err)
		}
		outputs[compute] = out["noise_pred"].F32
	}
	if d := furthest(outputs[onnx.Float32], outputs[onnx.Float16]); d == 0 || d > 2e-2 {
		t.Errorf("half precision is %g off", d)
	}
}

// ramp is numbers from -1 to 1.
func ramp(n int) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = 2*float32(i)/float32(n) - 1
	}
	return values
}

// The memory that inspect figures is less in half precision, by the weights that take it.
func TestInspectHalfPrecision(t *testing.T) {
	whole, err := (&inspectCommand{Path: tinySD}).inspect()
	if err != nil || whole.Memory == nil {
		t.Fatal(whole, err)
	}
	want := whole.Memory.Weights
	for _, p := range whole.Parts {
		if p.Name == checkpoint.UNet || p.Name == checkpoint.TextEncoder {
			want -= 2 * p.Parameters
		}
	}
	full := whole.Memory.Weights
	if whole.halve(); whole.Memory.Weights != want || want >= full {
		t.Errorf("%d bytes of %d, want %d", whole.Memory.Weights, full, want)
	}
}

// A GPU that is asked for and not there is an error in one line, at once, in every command.
func TestDeviceThatIsNotThere(t *testing.T) {
	if _, _, err := ort.Choose("cuda"); err == nil {
		return // this machine has one
	}
	for _, args := range [][]string{
		{"generate", "--prompt", "hi", "--model", tinySD, "--device", "cuda", "-o", t.TempDir() + "/x.png"},
		{"encode", sample(t, "ada.png"), "--device", "cuda:1", "-o", t.TempDir() + "/x.safetensors"},
	} {
		err := run(t, args...)
		wantError(t, err, "device cuda", "cannot be used")
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%v has several lines", err)
		}
	}
	wantError(t, run(t, "generate", "--prompt", "hi", "--model", tinySD, "--device", "tpu"), "tpu", "cuda:INDEX")
	wantError(t, run(t, "generate", "--prompt", "hi", "--model", tinySD, "--device", "cpu", "--dtype", "float16"), "--dtype float16", "1.7 times")
	p, err := place(config.Model{Device: ort.Auto})
	if err != nil || p.Device != ort.CPU || p.why == nil || p.compute != onnx.Float32 {
		t.Errorf("auto is %+v, %v", p, err)
	}
}
