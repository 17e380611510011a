// Package store keeps concepts. Its sub-packages implement Store; storetest is the suite each of them passes.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"likeness/encoder/concept"
)

// Store keeps concepts under their ID, each as its safetensors form. It is safe for concurrent use. An error that is
// neither ErrNotFound, ErrNoVersion nor a *DamagedError wraps ErrUnavailable, unless it comes from the caller's own function.
type Store interface {
	// Put stores c under c.ID, replacing what was there. It is durable when Put returns.
	Put(ctx context.Context, c *concept.Concept) error
	// Get reads one concept: ErrNotFound if there is none, a *DamagedError if what is there cannot be read.
	Get(ctx context.Context, id string) (*concept.Concept, error)
	// List returns at most limit concepts, newest first; after, if not empty, is the Next of the page before.
	List(ctx context.Context, limit int, after string) (Page, error)
	// Find returns every concept whose key has this value, newest first.
	Find(ctx context.Context, key Key, value string) (Page, error)
	// Update applies change to the stored concept and stores the result, as one step. The ID must stay.
	Update(ctx context.Context, id string, change func(*concept.Concept) error) (*concept.Concept, error)
	// Revise is Update, and keeps the concept as it was as an earlier version, of which the newest MaxEarlier stay.
	Revise(ctx context.Context, id string, change func(*concept.Concept) error) (*concept.Concept, error)
	// Earlier returns the earlier versions of a concept, those of the highest numbers first.
	Earlier(ctx context.Context, id string) ([]*concept.Concept, error)
	// Restore puts an earlier version in the place of the concept, which becomes an earlier one itself. Name and word stay as they are now.
	// It is ErrNoVersion if there is no such version.
	Restore(ctx context.Context, id string, version int) (*concept.Concept, error)
	// Delete removes a concept with its earlier versions, damaged or not: ErrNotFound if there is none.
	Delete(ctx context.Context, id string) error
	// Close releases the store.
	Close() error
}

// Page is a part of the concepts.
type Page struct {
	Concepts []*concept.Concept
	Damaged  []*DamagedError // stored on this page, but unreadable
	Next     string          // where the next page starts; empty on the last one
}

// Key is a field that concepts are found by.
type Key string

// The keys of Find.
const (
	ByWord   Key = "word"
	ByPhotos Key = "photos" // Concept.PhotoHash
)

// Keys are the keys a concept is found by, and their values.
func Keys(c *concept.Concept) map[Key]string {
	return map[Key]string{ByWord: c.Word, ByPhotos: c.PhotoHash}
}

// ErrNotFound says that there is no concept of that id.
var ErrNotFound = errors.New("there is no such concept")

// ErrUnavailable says that the store itself failed.
var ErrUnavailable = errors.New("the concept store is unavailable")

// NotFound is ErrNotFound with the id that was asked for.
func NotFound(id string) error { return fmt.Errorf("%q: %w", id, ErrNotFound) }

// Unavailable wraps ErrUnavailable around the cause, and leaves a cancelled or expired context as it is.
func Unavailable(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// DamagedError reports a stored concept that cannot be read back.
type DamagedError struct {
	ID  string
	Err error
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("stored concept %s is damaged: %v", e.ID, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// Decode reads a stored value; the error is a *DamagedError.
func Decode(id string, value []byte) (*concept.Concept, error) {
	c, err := concept.Unmarshal(value)
	if err == nil && c.ID != id {
		err = fmt.Errorf("it says it is %q", c.ID)
	}
	if err != nil {
		return nil, &DamagedError{ID: id, Err: err}
	}
	return c, nil
}

// Add puts the stored value of id on the page.
func (p *Page) Add(id string, value []byte) {
	c, err := Decode(id, value)
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		p.Damaged = append(p.Damaged, damaged)
		return
	}
	p.Concepts = append(p.Concepts, c)
}

// digits are 32 characters in byte order, none of which is mistaken for another.
const digits = "0123456789abcdefghjkmnpqrstvwxyz"

// NewID makes an id that sorts by time: "c_", 45 bits of milliseconds since 1970 and 55 random bits. It is a valid
// placeholder word.
func NewID(now time.Time) string {
	var id [22]byte
	copy(id[:], "c_")
	ms := uint64(now.UnixMilli())
	for i := 10; i >= 2; i-- {
		id[i] = digits[ms%32]
		ms /= 32
	}
	rand.Read(id[11:])
	for i := 11; i < len(id); i++ {
		id[i] = digits[id[i]%32]
	}
	return string(id[:])
}
