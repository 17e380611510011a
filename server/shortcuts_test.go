package main

import (
	"bytes"
	"image"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"likeness/models/op"
	"likeness/models/pipeline"
)

// printed is what f writes to the standard output.
func printed(t *testing.T, f func()) string {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdout
	os.Stdout = write
	f()
	os.Stdout = before
	write.Close()
	text, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCompare counts differences by hand.
func TestCompare(t *testing.T) {
	result := func(latents []float32, pixel uint8, took time.Duration) *pipeline.Result {
		picture := image.NewNRGBA(image.Rect(0, 0, 1, 1))
		copy(picture.Pix, []uint8{pixel, 10, 20, 255})
		return &pipeline.Result{Latents: op.Floats(latents, 1, 1, 2), Image: picture, Timings: pipeline.Timings{Denoise: took}}
	}
	exact := []*pipeline.Result{result([]float32{1, -1}, 100, 4*time.Second), result([]float32{3, -3}, 50, 3*time.Second)}
	got := compare([]*pipeline.Result{result([]float32{1.5, -1}, 106, 2*time.Second), result([]float32{3, -2.5}, 50, time.Second)}, exact)
	want := difference{0.25, math.Sqrt(5), 10 * math.Log10(255*255/6.), 2 * time.Second, 4 * time.Second} // 36 over 6 values
	if math.Abs(got.latents-want.latents)+math.Abs(got.deviation-want.deviation)+math.Abs(got.psnr-want.psnr) > 1e-6 || got.time != want.time || got.exactTime != want.exactTime {
		t.Errorf("%+v, want %+v", got, want)
	}
	var b strings.Builder
	if err := got.write(&b); err != nil || !strings.Contains(b.String(), "2.00 times as long") || !strings.Contains(b.String(), "40.3 dB") {
		t.Errorf("%s (%v)", b.String(), err)
	}
	if same := compare(exact, exact); !math.IsInf(same.psnr, 1) || same.latents != 0 {
		t.Errorf("%+v of the same", same)
	}
}

// TestShortcutsOnTheCommandLine: shortcuts change the picture, --compare prints by how much, and spelled-out defaults do not change it.
func TestShortcutsOnTheCommandLine(t *testing.T) {
	pack, dir := tinyPack(t), t.TempDir()
	draw := func(name string, args ...string) (picture []byte, says string) {
		t.Helper()
		path := filepath.Join(dir, name)
		args = append([]string{"generate", "--model", pack, "--threads", "1", "--prompt", "a cat", "--steps", "6", "--seed", "1", "-o", path}, args...)
		says = printed(t, func() {
			if err := run(t, args...); err != nil {
				t.Fatal(args, err)
			}
		})
		picture, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return picture, says
	}
	exact, says := draw("exact.png")
	if says != "" {
		t.Error(says)
	}
	if same, says := draw("same.png", "--guidance-start", "0", "--guidance-end", "1", "--cache-interval", "1", "--guidance-rescale", "0", "--compare"); !bytes.Equal(same, exact) ||
		!strings.Contains(says, "latents 0.0000 in the mean") || !strings.Contains(says, "+Inf dB") {
		t.Errorf("the default is not exact: %s", says)
	}
	for _, args := range [][]string{{"--cache-interval", "2"}, {"--guidance-end", "0.5"}, {"--guidance-start", "0.5"}, {"--guidance-rescale", "0.7"}} {
		other, says := draw("other.png", append(args, "--compare")...)
		if bytes.Equal(other, exact) || args[0] != "--guidance-rescale" && (!strings.Contains(says, "dB PSNR") || strings.Contains(says, "Inf")) {
			t.Errorf("%v: %s", args, says)
		}
	}
	for _, c := range [][]string{
		{"guidance_end 0.2: must be over guidance_start", "--guidance-start", "0.5", "--guidance-end", "0.2"},
		{"cache_interval 201", "--cache-interval", "201"},
		{"guidance_rescale 2", "--guidance-rescale", "2"},
		{"width 100: must be a multiple of 16, at most 128", "--size", "100x64"},
		{"height 8: must be a multiple of 16", "--size", "64x8"},
		{"width 4096", "--size", "4096x64"},
		{"strength", "--strength", "0.5"},
		{"its weights need", "--memory-limit", "0.001"},
		{"its largest network needs", "--memory-limit", "0.001", "--memory", "low"},
	} {
		err := run(t, append([]string{"generate", "--model", pack, "--prompt", "a cat", "-o", filepath.Join(dir, "none.png")}, c[1:]...)...)
		wantError(t, err, c[0])
	}
	if _, err := os.Stat(filepath.Join(dir, "none.png")); err == nil {
		t.Error("a refused request left a picture")
	}
}

// TestMemoryOnTheCommandLine: in low memory and by tiles that are not needed the picture is the same; tiles that are change it a little.
func TestMemoryOnTheCommandLine(t *testing.T) {
	pack, dir := tinyPack(t), t.TempDir()
	draw := func(args ...string) []byte {
		t.Helper()
		path := filepath.Join(dir, "out.png")
		args = append([]string{"generate", "--model", pack, "--threads", "1", "--prompt", "a cat", "--steps", "2", "--seed", "1", "-o", path}, args...)
		if err := run(t, args...); err != nil {
			t.Fatal(args, err)
		}
		picture, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return picture
	}
	usual, large := draw(), draw("--size", "128x96")
	for _, args := range [][]string{{"--memory", "low"}, {"--vae-tiling", "on"}, {"--memory", "low", "--memory-limit", "1000"}} {
		if !bytes.Equal(draw(args...), usual) {
			t.Errorf("%v changes the picture", args)
		}
	}
	if tiled := draw("--size", "128x96", "--vae-tiling", "on", "--memory", "low"); bytes.Equal(tiled, large) {
		t.Error("--vae-tiling on makes no tiles")
	}
}
