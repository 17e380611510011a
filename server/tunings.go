package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"likeness/encoder/concept"
	"likeness/server/jobs"
	"likeness/server/store"
)

// workerName is the worker's program, which scripts/build puts beside the server's.
const workerName = "training"

// tunings makes the queue of jobs that refine concepts. The caller closes it.
func (c *serveCommand) tunings(concepts store.Store, m *served, log *slog.Logger) (*jobs.Queue, error) {
	worker := c.Worker
	if worker == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("looking for the worker: %w; name it with --worker", err)
		}
		worker = filepath.Join(filepath.Dir(self), workerName)
	}
	queue := jobs.New(jobs.Config{
		Store: concepts, Worker: worker, Args: []string{"worker", "--model", c.Serve.Model.Model, "--threads", strconv.Itoa(c.Threads)},
		Idle: c.WorkerIdle, Log: log,
		Check: func(learned *concept.Concept) error {
			_, err := m.Subject(learned, 1)
			return err
		},
	})
	if err := queue.Available(); err != nil {
		log.Info("no refining", "reason", err)
	}
	return queue, nil
}
