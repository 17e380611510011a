package store

import (
	"slices"
	"testing"
	"time"

	"likeness/encoder/concept"
)

func TestNewID(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var ids []string
	seen := map[string]bool{}
	for i := range 2000 {
		id := NewID(start.Add(time.Duration(i) * time.Millisecond))
		if err := concept.ValidWord(id); err != nil || len(id) != 22 || seen[id] {
			t.Fatal(id, err)
		}
		seen[id] = true
		ids = append(ids, id)
	}
	if !slices.IsSorted(ids) {
		t.Error("ids do not sort by time")
	}
	for range 1000 {
		if id := NewID(start); seen[id] {
			t.Fatal("the same id twice within a millisecond")
		} else {
			seen[id] = true
		}
	}
	if early, late := NewID(time.UnixMilli(0)), NewID(time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)); early >= late {
		t.Error(early, late)
	}
}
