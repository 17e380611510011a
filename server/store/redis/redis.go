// Package redis keeps concepts in Redis.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"likeness/encoder/concept"
	"likeness/server/store"
)

// Keys in Redis. A concept is a hash: its safetensors form, and the value of each store.Key it is indexed under.
// Every index is a sorted set of ids with equal scores, which Redis orders by their bytes.
const idsKey = "likeness:concepts"

func conceptKey(id string) string { return "likeness:concept:" + id }

// earlierKey is a hash of earlier versions. It is only ever changed together with the concept, which is watched.
func earlierKey(id string) string { return "likeness:earlier:" + id }

func indexKey(key store.Key, value string) string { return "likeness:" + string(key) + ":" + value }

const valueField = "value"

// pingTimeout bounds Open.
const pingTimeout = 5 * time.Second

// Store is a store.Store in Redis. What it promises is what the server's persistence settings promise: with
// "appendfsync always" nothing acknowledged is lost.
type Store struct{ client *redis.Client }

var _ store.Store = (*Store)(nil)

// Open connects to the Redis at a redis:// or rediss:// URL.
func Open(url string) (*Store, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("concept store: %w; write redis://[user:password@]host:port/number", err)
	}
	options.ContextTimeoutEnabled = true
	client := redis.NewClient(options)
	ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
	defer cancel()
	if err := client.Ping(ctx).Err(); err != nil {
		client.Close()
		return nil, fmt.Errorf("concept store: Redis at %s does not answer: %w", options.Addr, err)
	}
	return &Store{client}, nil
}

// LogTo has the client library, whose logger is one for all its clients, write to log. Its lines are warnings.
func LogTo(log *slog.Logger) { redis.SetLogger(logger{log}) }

type logger struct{ *slog.Logger }

// Printf implements the library's interface.
func (l logger) Printf(ctx context.Context, format string, v ...any) {
	l.WarnContext(ctx, "redis: "+strings.TrimSpace(fmt.Sprintf(format, v...)))
}

// Close closes the connections.
func (s *Store) Close() error { return s.client.Close() }

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, c *concept.Concept) error {
	value, err := c.Marshal()
	if err != nil {
		return err
	}
	return s.transact(ctx, c.ID, func(tx *redis.Tx, pipe redis.Pipeliner) error {
		old, err := tx.HGetAll(ctx, conceptKey(c.ID)).Result()
		if err != nil {
			return err
		}
		put(ctx, pipe, old, c, value)
		return nil
	})
}

// transact runs f, whose reads happen before and whose queued writes happen together, again while another client
// changes the concept in between.
func (s *Store) transact(ctx context.Context, id string, f func(*redis.Tx, redis.Pipeliner) error) error {
	for {
		err := s.client.Watch(ctx, func(tx *redis.Tx) error {
			pipe := tx.TxPipeline()
			if err := f(tx, pipe); err != nil {
				return err
			}
			_, err := pipe.Exec(ctx)
			return err
		}, conceptKey(id))
		if !errors.Is(err, redis.TxFailedErr) {
			return store.Unavailable(err)
		}
	}
}

func put(ctx context.Context, pipe redis.Pipeliner, old map[string]string, c *concept.Concept, value []byte) {
	remove(ctx, pipe, c.ID, old)
	fields := []any{valueField, value}
	for key, v := range store.Keys(c) {
		fields = append(fields, string(key), v)
		pipe.ZAdd(ctx, indexKey(key, v), redis.Z{Member: c.ID})
	}
	pipe.HSet(ctx, conceptKey(c.ID), fields...)
	pipe.ZAdd(ctx, idsKey, redis.Z{Member: c.ID})
}

// remove queues the deletion of a concept whose stored fields are old.
func remove(ctx context.Context, pipe redis.Pipeliner, id string, old map[string]string) {
	for field, v := range old {
		if field != valueField {
			pipe.ZRem(ctx, indexKey(store.Key(field), v), id)
		}
	}
	pipe.Del(ctx, conceptKey(id))
	pipe.ZRem(ctx, idsKey, id)
}

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, id string) (*concept.Concept, error) {
	value, err := s.client.HGet(ctx, conceptKey(id), valueField).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, store.NotFound(id)
	}
	if err != nil {
		return nil, store.Unavailable(err)
	}
	return store.Decode(id, value)
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, limit int, after string) (store.Page, error) {
	below := "+"
	if after != "" {
		below = "(" + after
	}
	query := &redis.ZRangeBy{Min: "-", Max: below, Count: int64(limit) + 1}
	ids, err := s.client.ZRevRangeByLex(ctx, idsKey, query).Result()
	if err != nil {
		return store.Page{}, store.Unavailable(err)
	}
	next := ""
	if len(ids) > limit {
		ids = ids[:limit]
		next = ids[limit-1]
	}
	page, err := s.load(ctx, ids)
	page.Next = next
	return page, err
}

// Find implements store.Store.
func (s *Store) Find(ctx context.Context, key store.Key, value string) (store.Page, error) {
	ids, err := s.client.ZRange(ctx, indexKey(key, value), 0, -1).Result()
	if err != nil {
		return store.Page{}, store.Unavailable(err)
	}
	slices.Reverse(ids)
	return s.load(ctx, ids)
}

// load reads the concepts of these ids in one round trip; one deleted meanwhile is left out.
func (s *Store) load(ctx context.Context, ids []string) (store.Page, error) {
	var page store.Page
	if len(ids) == 0 {
		return page, nil
	}
	pipe := s.client.Pipeline()
	values := make([]*redis.StringCmd, len(ids))
	for i, id := range ids {
		values[i] = pipe.HGet(ctx, conceptKey(id), valueField)
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return page, store.Unavailable(err)
	}
	for i, id := range ids {
		value, err := values[i].Bytes()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return page, store.Unavailable(err)
		}
		page.Add(id, value)
	}
	return page, nil
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, id string, change func(*concept.Concept) error) (*concept.Concept, error) {
	return s.alter(ctx, id, func(r *store.Record) (*concept.Concept, error) { return r.Update(change) })
}

// Revise implements store.Store.
func (s *Store) Revise(ctx context.Context, id string, change func(*concept.Concept) error) (*concept.Concept, error) {
	return s.alter(ctx, id, func(r *store.Record) (*concept.Concept, error) { return r.Revise(change) })
}

// Restore implements store.Store.
func (s *Store) Restore(ctx context.Context, id string, version int) (*concept.Concept, error) {
	return s.alter(ctx, id, func(r *store.Record) (*concept.Concept, error) { return r.Restore(version) })
}

// alter changes all that is stored of a concept, as one step.
func (s *Store) alter(ctx context.Context, id string, change func(*store.Record) (*concept.Concept, error)) (*concept.Concept, error) {
	var c *concept.Concept
	var wrong error // the answer, where Redis is not to blame
	err := s.transact(ctx, id, func(tx *redis.Tx, pipe redis.Pipeliner) error {
		old, err := tx.HGetAll(ctx, conceptKey(id)).Result()
		if err != nil {
			return err
		}
		r, err := record(ctx, tx, id, old)
		if err != nil {
			return err
		}
		before := r.Earlier
		if c, wrong = change(r); wrong != nil {
			return wrong
		}
		for version := range before {
			if r.Earlier[version] == nil {
				pipe.HDel(ctx, earlierKey(id), strconv.Itoa(version))
			}
		}
		for version, value := range r.Earlier {
			if before[version] == nil {
				pipe.HSet(ctx, earlierKey(id), strconv.Itoa(version), value)
			}
		}
		put(ctx, pipe, old, c, r.Value)
		return nil
	})
	if wrong != nil {
		return nil, wrong
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// record reads all that is stored of a concept, whose own fields are given.
func record(ctx context.Context, client redis.Cmdable, id string, fields map[string]string) (*store.Record, error) {
	r := &store.Record{ID: id, Earlier: map[int][]byte{}}
	if value, found := fields[valueField]; found {
		r.Value = []byte(value)
	}
	earlier, err := client.HGetAll(ctx, earlierKey(id)).Result()
	for field, value := range earlier {
		version, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("%s: version %q: %w", earlierKey(id), field, err)
		}
		r.Earlier[version] = []byte(value)
	}
	return r, err
}

// Earlier implements store.Store.
func (s *Store) Earlier(ctx context.Context, id string) ([]*concept.Concept, error) {
	fields, err := s.client.HGetAll(ctx, conceptKey(id)).Result()
	if err != nil {
		return nil, store.Unavailable(err)
	}
	r, err := record(ctx, s.client, id, fields)
	if err != nil {
		return nil, store.Unavailable(err)
	}
	return r.Versions()
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, id string) error {
	found := false
	err := s.transact(ctx, id, func(tx *redis.Tx, pipe redis.Pipeliner) error {
		old, err := tx.HGetAll(ctx, conceptKey(id)).Result()
		found = len(old) > 0
		remove(ctx, pipe, id, old)
		pipe.Del(ctx, earlierKey(id))
		return err
	})
	if err == nil && !found {
		return store.NotFound(id)
	}
	return err
}
