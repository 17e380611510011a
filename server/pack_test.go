package main

import (
	"encoding/json"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"likeness/encoder"
	"likeness/models/backend/ort"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/safetensors"
	"likeness/models/unet"
	"likeness/server/api"
	"likeness/server/config"
	"likeness/server/jobs/jobstest"
	"likeness/server/store/bolt"
	"likeness/web"
)

// TestMain loads ONNX Runtime: without it no test here means anything. See asCommand.
func TestMain(m *testing.M) {
	jobstest.Main()
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	if err := ort.Init(ort.LibraryPath()); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// tinyPack is a model folder that is real in every part but its weights, which are random: its pictures are noise, made
// in milliseconds.
func tinyPack(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tiny")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "models", "pipeline", "testdata", "tiny-sd"))); err != nil {
		t.Fatal(err)
	}
	folder, err := checkpoint.OpenComponent(filepath.Join(dir, "unet"))
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	base, err := unet.ParseConfig(folder.Config())
	if err != nil {
		t.Fatal(err)
	}
	cfg := encoder.Default(base.TextWidth())
	cfg.BlockOutChannels, cfg.NormNumGroups, cfg.PlaceChannels, cfg.HiddenSize = []int{8, 8, 8, 16}, 4, 4, 32
	writeEncoder(t, filepath.Join(dir, "encoder"), cfg, base)
	return dir
}

func writeEncoder(t *testing.T, dir string, cfg encoder.Config, base unet.Config) {
	t.Helper()
	layout, err := trace.Layout(unet.New(base, nil), cfg.Rank, cfg.IsTarget)
	if err != nil {
		t.Fatal(err)
	}
	weights, err := trace.Weights(func(s op.Scope) map[string]op.Tensor {
		out := encoder.Network(cfg, layout)(s)
		out["offsets"] = encoder.Offsets(s, cfg, layout, out["coefficients"])
		return out
	})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	tensors := map[string]safetensors.Tensor{}
	for _, w := range weights {
		n := 1
		for _, d := range w.Dims {
			n *= d
		}
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(random.NormFloat64() / 8)
		}
		tensors[w.Name] = safetensors.F32(values, w.Dims...)
	}
	settings, err := json.Marshal(cfg)
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), settings, 0o644)
	}
	if err == nil {
		err = safetensors.Write(filepath.Join(dir, "diffusion_pytorch_model.safetensors"), tensors, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// serve serves a model folder as the command does, with a store of its own, and returns the address.
func serve(t *testing.T, folder string) string {
	t.Helper()
	return serveWith(t, folder, func(*api.Config, *model) {})
}

// serveWith is serve with changes.
func serveWith(t *testing.T, folder string, change func(*api.Config, *model)) string {
	t.Helper()
	m, err := openModel(config.Model{Model: folder, Threads: 2}, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	concepts, err := bolt.Open(filepath.Join(t.TempDir(), "concepts.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { concepts.Close() })
	info, err := m.describe(folder)
	if err != nil {
		t.Fatal(err)
	}
	log := config.Serve{Log: "error"}.Logger()
	cfg := api.Config{Store: concepts, Photos: m, Encoder: m, Generator: m, Model: info, Page: web.Handler(), Samples: web.Samples(), Log: log}
	change(&cfg, m)
	server := httptest.NewServer(api.New(cfg))
	t.Cleanup(server.Close)
	return server.URL
}
