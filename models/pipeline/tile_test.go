package pipeline

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/safetensors"
	"likeness/models/vae"
)

// mirror is a network that gives back what it reads.
func mirror(p plane) (plane, error) { return p, nil }

// TestCutCovers: tiles that change nothing put together what was cut, whatever its size.
func TestCutCovers(t *testing.T) {
	for h := 1; h < 40; h += 3 {
		for w := 1; w < 40; w += 5 {
			in := plane{make([]float32, 2*h*w), 2, h, w}
			for i := range in.values {
				in.values[i] = float32(i)
			}
			out, err := cut{size: 8, step: 6, blend: 2, keep: 6}.run(in, mirror)
			if err != nil || out.h != h || out.w != w || !close32(out.values, in.values, 1e-3) {
				t.Fatalf("%d×%d: %v", h, w, err)
			}
		}
	}
}

func close32(a, b []float32, tolerance float64) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Abs(float64(x-y)) <= tolerance })
}

// TestTilesByDiffusers holds decoder and encoder on tiles against AutoencoderKL's (scripts/golden/shortcuts.py).
func TestTilesByDiffusers(t *testing.T) {
	dir := filepath.Join("testdata", "tiny-sd")
	file, err := safetensors.Open(filepath.Join(dir, "shortcuts.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	read := func(name string) plane {
		values, dims, err := file.Float32("tiled_" + name)
		if err != nil {
			t.Fatal(err)
		}
		return plane{values, dims[0], dims[1], dims[2]}
	}
	e := vaeEngine(t, filepath.Join(dir, "vae"), TilingOn)
	image, err := e.decodeLatents(t.Context(), read("latents"))
	if err != nil || !close32(image.values, read("image").values, 1e-3) {
		t.Errorf("the decoder's picture is another: %v", err)
	}
	both, err := e.encodePixels(t.Context(), read("pixel_values"))
	if err != nil {
		t.Fatal(err)
	}
	half := len(both.values) / 2
	for i, v := range both.values[half:] {
		both.values[half+i] = float32(math.Exp(float64(v) / 2))
	}
	if !close32(both.values[:half], read("latent_mean").values, 1e-3) || !close32(both.values[half:], read("latent_std").values, 1e-3) {
		t.Error("the encoder's latents are others")
	}
}

// TestTilesWhereNeeded: what fits one tile is exactly what it is without tiles; larger pictures take as many runs as there are tiles, or one.
func TestTilesWhereNeeded(t *testing.T) {
	dir := filepath.Join("testdata", "tiny-sd", "vae")
	for _, c := range []struct {
		tiling Tiling
		h, w   int
		runs   int
	}{{TilingOn, 8, 8, 1}, {TilingOn, 8, 9, 4}, {TilingOn, 12, 12, 4}, {TilingOff, 12, 12, 1}, {TilingAuto, 12, 12, 1}} {
		e := vaeEngine(t, dir, c.tiling)
		counter := &counted{Runner: e.model.decoder.runner}
		e.model.decoder.runner = counter
		latents := plane{make([]float32, 4*c.h*c.w), 4, c.h, c.w}
		for i := range latents.values {
			latents.values[i] = float32(math.Sin(float64(i)))
		}
		got, err := e.decodeLatents(t.Context(), latents)
		if err != nil || counter.runs != c.runs || got.h != 8*c.h || got.w != 8*c.w {
			t.Errorf("%+v: %d runs, %d×%d pixels, %v", c, counter.runs, got.w, got.h, err)
		}
		e.cfg.Tiling = TilingOff
		whole, err := e.decodeLatents(t.Context(), latents)
		if same := slices.Equal(got.values, whole.values); err != nil || same != (c.runs == 1) {
			t.Errorf("%+v: equal to the whole is %v (%v)", c, same, err)
		}
	}
	e := vaeEngine(t, dir, TilingAuto)
	if e.tiled(128, 128) || !e.tiled(128, 136) {
		t.Error("more than 1024×1024 pixels is where tiles begin")
	}
}

// counted counts runs.
type counted struct {
	Runner
	runs int
}

func (c *counted) Run(ctx context.Context, in map[string]op.Array) (map[string]op.Array, error) {
	c.runs++
	return c.Runner.Run(ctx, in)
}

// vaeEngine is an engine of nothing but a VAE.
func vaeEngine(t *testing.T, folder string, tiling Tiling) *Engine {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := vae.ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	n := newNetworks(Backend{Network: func(name string, model op.Model, weights *checkpoint.Component) (Runner, error) {
		graph, err := onnx.Emit(model, onnx.FromFiles(weights.Info), onnx.Options{Name: name, OwnOps: true})
		if err != nil {
			return nil, err
		}
		return ort.Open(graph, ort.Options{Threads: 1})
	}})
	m := &Model{VAE: cfg, networks: n, decoder: n.newGroup().add("vae", folder, vae.Decoder(cfg)), encoder: n.newGroup().add("vae", folder, vae.Encoder(cfg))}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := m.decoder.prepare(); err != nil {
		t.Fatal(err)
	}
	return &Engine{model: m, cfg: EngineConfig{Tiling: tiling}}
}
