package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"likeness/encoder/concept"
	"likeness/server/store"
)

// hour is when a version is made, by which the test tells them apart.
func hour(h int) time.Time { return time.Date(2026, 1, 1, h, 0, 0, 0, time.UTC) }

// numbers are those of versions, and the hours at which they were made.
func numbers(all ...*concept.Concept) string {
	var list []string
	for _, c := range all {
		list = append(list, fmt.Sprintf("%d:%d", c.Version, c.Created.Hour()))
	}
	return strings.Join(list, " ")
}

func versions(t *testing.T, s store.Store, subject Subject) {
	first := Concept("me", "p")
	first.Created = hour(1)
	c := put(t, s, first)
	revise := func(made int) {
		t.Helper()
		got, err := s.Revise(t.Context(), c.ID, func(c *concept.Concept) error { c.Created = hour(made); return nil })
		if err != nil || got.Created != hour(made) {
			t.Fatal(got, err)
		}
	}
	want := func(when, now, earlier string) {
		t.Helper()
		current, err := s.Get(t.Context(), c.ID)
		if err != nil {
			t.Fatal(when, err)
		}
		all, err := s.Earlier(t.Context(), c.ID)
		if err != nil || numbers(current) != now || numbers(all...) != earlier {
			t.Errorf("%s: now %s, earlier %s, %v; want %s and %s", when, numbers(current), numbers(all...), err, now, earlier)
		}
	}
	restore := func(version int) {
		t.Helper()
		if _, err := s.Restore(t.Context(), c.ID, version); err != nil {
			t.Fatal(err)
		}
	}
	want("at first", "0:1", "")
	revise(2)
	want("revised", "1:2", "0:1")
	if _, err := s.Update(t.Context(), c.ID, func(c *concept.Concept) error { c.Word = "ann"; return nil }); err != nil {
		t.Fatal(err)
	}
	restore(0)
	want("restored", "0:1", "1:2")
	if got, err := s.Get(t.Context(), c.ID); err != nil || got.Word != "ann" {
		t.Errorf("the restored one has the word %q, %v", got.Word, err)
	}
	revise(3)
	want("revised again", "2:3", "1:2 0:1")
	for i := range 3 {
		revise(4 + i)
	}
	want("the oldest is forgotten", "5:6", "4:5 3:4 2:3 1:2")
	restore(1)
	want("the oldest is restored", "1:2", "5:6 4:5 3:4 2:3")
	if page, err := s.Find(t.Context(), store.ByWord, "ann"); err != nil || numbers(page.Concepts...) != "1:2" {
		t.Errorf("versions are found as concepts: %s, %v", numbers(page.Concepts...), err)
	}
	refuse := errors.New("no")
	if _, err := s.Revise(t.Context(), c.ID, func(*concept.Concept) error { return refuse }); !errors.Is(err, refuse) {
		t.Errorf("refused: %v", err)
	}
	if _, err := s.Restore(t.Context(), c.ID, 0); !errors.Is(err, store.ErrNoVersion) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a forgotten version: %v", err)
	}
	want("after refusals", "1:2", "5:6 4:5 3:4 2:3")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, subject)
	want("after reopening", "1:2", "5:6 4:5 3:4 2:3")
	if err := s.Delete(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Earlier(t.Context(), c.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of a deleted one: %v", err)
	}
	put(t, s, c)
	want("made again", "0:1", "")
}
