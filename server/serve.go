package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"likeness/models/pipeline"
	"likeness/server/api"
	"likeness/server/config"
	"likeness/server/store"
	"likeness/server/store/bolt"
	"likeness/server/store/redis"
	"likeness/web"
)

// shutdownTime is what running requests get to finish.
const shutdownTime = 20 * time.Second

type serveCommand struct {
	config.Serve `embed:""`
}

// Help is shown by kong.
func (serveCommand) Help() string {
	return `Examples:

  server --addr :80 --model ~/models/stable-diffusion-v1-5
  server --model ~/models/stable-diffusion-v1-5 --ip-adapter ~/models/ip-adapter-plus_sd15.safetensors
  LIKENESS_STORE=redis://localhost:6379/0 server`
}

// Run is called by kong. It serves until ctx ends.
func (c *serveCommand) Run(ctx context.Context) error {
	log := c.Logger()
	redis.LogTo(log)
	concepts, err := openStore(c.Store)
	if err != nil {
		return err
	}
	defer concepts.Close()
	m, err := openServed(c.Serve.Model, c.MaxQueue+1) // and the warm-up
	if err != nil {
		return err
	}
	defer m.Close()
	info, err := m.current.describe(c.Serve.Model.Model)
	if err != nil {
		return err
	}
	tunings, err := c.tunings(concepts, m, log)
	if err != nil {
		return err
	}
	defer tunings.Close()
	context.AfterFunc(ctx, func() { tunings.Close() }) // whose clients wait for their ends
	var warm atomic.Bool
	server := api.New(api.Config{
		Store: concepts, Photos: m, Encoder: m, Generator: m, Exchange: m, Model: info, Page: web.Handler(), Log: log, Jobs: tunings, Samples: web.Samples(),
		MaxUpload: c.MaxUpload << 20, MaxQueue: c.MaxQueue,
		Ready: func(context.Context) error {
			if !warm.Load() {
				return fmt.Errorf("the networks are being warmed up")
			}
			return nil
		},
	})
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	err = server.Serve(ctx, c.Addr, shutdownTime, func(addr string) {
		fmt.Printf("Likeness is at http://%s\n", addr)
		logParts(log, m.current)
		logUnread(log, c.Serve.Model.Model)
		go func() {
			err := warmUp(ctx, m, log)
			if errors.Is(err, pipeline.ErrNotNumbers) {
				stop(fmt.Errorf("model %s: %w: server inspect --values %[1]s names them", c.Serve.Model.Model, err))
			}
			warm.Store(true)
		}()
	})
	if cause := context.Cause(ctx); errors.Is(cause, pipeline.ErrNotNumbers) {
		err = cause
	}
	return err
}

// logParts says what the model folder and the machine lack.
func logParts(log *slog.Logger, m *model) {
	if m.adapter != nil {
		log.Info("an adapter makes concepts", "kind", m.adapter.Kind())
	} else if m.encoder == nil {
		log.Warn("the model folder has no encoder: no concepts can be made")
	}
	log.Info("networks run", "device", m.placement.Device, "dtype", m.placement.compute)
	if m.placement.why != nil {
		log.Debug("no GPU", "reason", m.placement.why)
	}
	if m.detector == nil {
		log.Warn("no face detector: photos are cropped at their centre; scripts/setup fetches one")
	}
}

// warmUp runs every network once, which makes the first request as fast as the ones after it. Its picture is the smallest there is, which
// reads all weights too.
func warmUp(ctx context.Context, m *served, log *slog.Logger) error {
	start := time.Now()
	current, done := m.use()
	side := current.base.Multiple()
	done()
	r := pipeline.Request{Prompt: "a face", Steps: 1, Width: side, Height: side}
	if _, err := m.Generate(ctx, r, nil); err != nil && ctx.Err() == nil {
		log.Error("warm-up", "error", err)
		return err
	}
	log.Debug("warmed up", "time", time.Since(start))
	return nil
}

// openStore opens a store by its URL.
func openStore(url string) (store.Store, error) {
	if path, isBolt := strings.CutPrefix(url, "bolt:"); isBolt && path != "" {
		if rest, inHome := strings.CutPrefix(path, "~/"); inHome {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, fmt.Errorf("concept store %s: %w", url, err)
			}
			path = filepath.Join(home, rest)
		}
		return bolt.Open(path)
	}
	if strings.HasPrefix(url, "redis://") || strings.HasPrefix(url, "rediss://") {
		return redis.Open(url)
	}
	return nil, fmt.Errorf("concept store %q: write bolt:PATH or redis://host:port/number", url)
}
