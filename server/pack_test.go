package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"likeness/encoder"
	"likeness/encoder/encodertest"
	"likeness/models/backend/ort"
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
	cfg := encoder.Default(16)
	cfg.BlockOutChannels, cfg.NormNumGroups, cfg.PlaceChannels, cfg.HiddenSize = []int{8, 8, 8, 16}, 4, 4, 32
	return encodertest.Folder(t, filepath.Join("..", "models", "pipeline", "testdata", "tiny-sd"), cfg)
}

// serve serves a model folder and returns the address.
func serve(t *testing.T, folder string) string {
	t.Helper()
	url, _ := serveModel(t, config.Model{Model: folder, Threads: 2})
	return url
}

// serveModel serves a model as the command does, but for changes, with a store of its own.
func serveModel(t *testing.T, cfg config.Model, changes ...func(*api.Config, *model)) (string, *served) {
	t.Helper()
	m, err := openServed(cfg, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	concepts, err := bolt.Open(filepath.Join(t.TempDir(), "concepts.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { concepts.Close() })
	info, err := m.current.describe(cfg.Model)
	if err != nil {
		t.Fatal(err)
	}
	made := api.Config{Store: concepts, Photos: m, Encoder: m, Generator: m, Exchange: m, Model: info, Page: web.Handler(), Samples: web.Samples(),
		Log: config.Serve{Log: "error"}.Logger()}
	for _, change := range changes {
		change(&made, m.current)
	}
	server := httptest.NewServer(api.New(made))
	t.Cleanup(server.Close)
	return server.URL, m
}
