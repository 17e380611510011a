package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"likeness/encoder/concept"
	"likeness/server/jobs"
	"likeness/server/store"
)

// workerName is the worker's program, which scripts/build puts beside the server's.
const workerName = "training"

// workerEnv is what the worker's libraries are told, where the user says nothing else: its threads do not spin while they wait, as the
// server needs the processor too, and memory is not given back and taken again at every step.
var workerEnv = []string{"OMP_WAIT_POLICY=passive", "MALLOC_TRIM_THRESHOLD_=8589934592", "MALLOC_MMAP_THRESHOLD_=4294967296"}

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
		Env: append(slices.Clone(workerEnv), os.Environ()...), Idle: c.WorkerIdle, Log: log,
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
