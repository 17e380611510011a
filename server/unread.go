package main

import (
	"errors"
	"log/slog"
	"path/filepath"

	"likeness/models/checkpoint"
)

// unread finds the tensors of a model that no network reads, by component: a harmless rest, or a sign that the file is another model's.
func unread(path string) map[string][]string {
	found := map[string][]string{}
	for _, name := range networks {
		c, err := checkpoint.OpenComponent(filepath.Join(path, name))
		if err != nil {
			continue // the model lacks it, and is open without
		}
		var mismatch *checkpoint.MismatchError
		if err := (&inspected{report: &report{}}).read(name, c); errors.As(err, &mismatch) {
			found[name] = mismatch.Unexpected
		}
		c.Close()
	}
	return found
}

// logUnread says in a line for each component what of it nobody reads.
func logUnread(log *slog.Logger, path string) {
	const shown = 5
	for name, tensors := range unread(path) {
		if n := len(tensors); n > 0 {
			log.Warn("tensors that the model does not read", "component", name, "count", n, "first", tensors[:min(n, shown)])
		}
	}
}
