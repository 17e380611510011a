package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"likeness/encoder/concept"
)

// MaxEarlier is how many earlier versions of a concept are kept.
const MaxEarlier = 4

// ErrNoVersion says that a concept has no earlier version of that number.
var ErrNoVersion = errors.New("there is no such version")

// Record is all that is stored of one concept. Its methods change it as those of Store do, or return an error and leave it as it was.
type Record struct {
	ID      string
	Value   []byte         // nil: there is no concept
	Earlier map[int][]byte // by version
}

// Update applies change to the concept.
func (r *Record) Update(change func(*concept.Concept) error) (*concept.Concept, error) {
	c, value, err := r.changed(change)
	if err == nil {
		r.Value = value
	}
	return c, err
}

// Revise is Update that keeps the concept as it was.
func (r *Record) Revise(change func(*concept.Concept) error) (*concept.Concept, error) {
	var before int
	c, value, err := r.changed(func(c *concept.Concept) error {
		before = c.Version
		if err := change(c); err != nil {
			return err
		}
		c.Version = before + 1
		for version := range r.Earlier {
			c.Version = max(c.Version, version+1)
		}
		return nil
	})
	if err == nil {
		r.replace(before, value)
	}
	return c, err
}

// Restore puts an earlier version in the concept's place.
func (r *Record) Restore(version int) (*concept.Concept, error) {
	old, found := r.Earlier[version]
	var before int
	c, value, err := r.changed(func(c *concept.Concept) error {
		if !found {
			return fmt.Errorf("version %d of concept %s: %w", version, r.ID, ErrNoVersion)
		}
		restored, err := Decode(r.ID, old)
		if err != nil {
			return err
		}
		before = c.Version
		restored.Name, restored.Word = c.Name, c.Word
		*c = *restored
		return nil
	})
	if err == nil {
		r.Earlier = maps.Clone(r.Earlier)
		delete(r.Earlier, version)
		r.replace(before, value)
	}
	return c, err
}

// replace makes the value an earlier version, and forgets the oldest beyond MaxEarlier.
func (r *Record) replace(version int, value []byte) {
	earlier := maps.Clone(r.Earlier)
	if earlier == nil {
		earlier = map[int][]byte{}
	}
	earlier[version] = r.Value
	versions := slices.Sorted(maps.Keys(earlier))
	for _, oldest := range versions[:max(0, len(versions)-MaxEarlier)] {
		delete(earlier, oldest)
	}
	r.Value, r.Earlier = value, earlier
}

// changed decodes the concept, applies change and returns what came of it and its stored form.
func (r *Record) changed(change func(*concept.Concept) error) (*concept.Concept, []byte, error) {
	if r.Value == nil {
		return nil, nil, NotFound(r.ID)
	}
	c, err := Decode(r.ID, r.Value)
	if err != nil {
		return nil, nil, err
	}
	if err := change(c); err != nil {
		return nil, nil, err
	}
	if c.ID != r.ID {
		return nil, nil, fmt.Errorf("concept %s: its id cannot change", r.ID)
	}
	value, err := c.Marshal()
	return c, value, err
}

// Versions decodes the earlier versions, the highest number first.
func (r *Record) Versions() ([]*concept.Concept, error) {
	if r.Value == nil {
		return nil, NotFound(r.ID)
	}
	var all []*concept.Concept
	for _, version := range slices.Backward(slices.Sorted(maps.Keys(r.Earlier))) {
		c, err := Decode(r.ID, r.Earlier[version])
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}
