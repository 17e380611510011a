package config

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

type commands struct {
	Serve Serve `cmd:"" default:"withargs"`
	Other struct {
		Model  `embed:""`
		Prompt string
	} `cmd:""`
}

func parse(t *testing.T, args ...string) (commands, *kong.Kong, error) {
	t.Helper()
	var c commands
	k, err := kong.New(&c, kong.DefaultEnvars(EnvPrefix))
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Parse(args)
	return c, k, err
}

func TestDefaults(t *testing.T) {
	c, _, err := parse(t)
	want := Serve{Model{Model: "models/demo", Device: "auto", DType: "auto", Memory: "full", VAETiling: "auto"}, "127.0.0.1:8080", "bolt:~/.local/share/likeness/concepts.db", "info", 32, 64, "", 5 * time.Minute}
	if err != nil || c.Serve != want {
		t.Errorf("%+v, %v", c.Serve, err)
	}
}

// Every flag has an environment twin, and the flag wins.
func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"ADDR": ":1", "MODEL": "m", "STORE": "redis://r", "DEVICE": "cuda", "DTYPE": "float16", "THREADS": "3", "IP_ADAPTER": "a", "MEMORY": "low", "MEMORY_LIMIT": "2.5", "VAE_TILING": "on", "IMAGE_ENCODER": "e", "LOG": "debug", "MAX_UPLOAD": "5", "MAX_QUEUE": "11",
		"WORKER": "w", "WORKER_IDLE": "7s",
	} {
		t.Setenv("LIKENESS_"+name, value)
	}
	c, k, err := parse(t, "--addr", ":2")
	want := Serve{Model{Model: "m", Device: "cuda", DType: "float16", Threads: 3, IPAdapter: "a", ImageEncoder: "e", Memory: "low", MemoryLimit: 2.5, VAETiling: "on"}, ":2", "redis://r", "debug", 5, 11, "w", 7 * time.Second}
	if err != nil || c.Serve != want {
		t.Errorf("%+v, %v", c.Serve, err)
	}
	environ := []string{"PATH=/bin", "LIKENESS_ADDR=:1", "LIKENESS_NATIVE=/n", "LIKENESS_PROMPT=x", "LIKENESSES=1"}
	if err := CheckEnv(k.Model, environ); err != nil {
		t.Error(err)
	}
	err = CheckEnv(k.Model, append(environ, "LIKENESS_ADR=:1", "LIKENESS_=2"))
	if err == nil || !strings.Contains(err.Error(), "LIKENESS_ADR") || !strings.Contains(err.Error(), "LIKENESS_ADDR") {
		t.Error(err)
	}
}

func TestBadSettings(t *testing.T) {
	for _, args := range []string{
		"--threads -1", "--image-encoder x", "--threads x", "--log loud", "--max-upload 0", "--memory none", "--memory-limit -1", "--vae-tiling maybe", "--max-queue 9", "--max-queue 1e9", "--unknown", "stray", "other --threads 5000",
	} {
		if _, _, err := parse(t, strings.Fields(args)...); err == nil {
			t.Errorf("%s was accepted", args)
		}
	}
}

func TestLogger(t *testing.T) {
	if l := (Serve{Log: "warn"}).Logger(); l.Enabled(t.Context(), slog.LevelInfo) || !l.Enabled(t.Context(), slog.LevelWarn) {
		t.Error("wrong level")
	}
}
