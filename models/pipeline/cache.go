package pipeline

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"sync"
)

// cache keeps what an encoder made of the inputs used last: pictures of one request, and guidance, share it.
type cache struct {
	mu      sync.Mutex
	order   *list.List // of *cached, the last used in front
	entries map[[32]byte]*list.Element
	room    int
}

type cached struct {
	key [32]byte
	row []float32
}

func newCache(room int) *cache {
	return &cache{order: list.New(), entries: map[[32]byte]*list.Element{}, room: room}
}

func (c *cache) get(key [32]byte) ([]float32, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.entries[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(at)
	return at.Value.(*cached).row, true
}

func (c *cache) put(key [32]byte, row []float32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[key]; ok {
		return
	}
	c.entries[key] = c.order.PushFront(&cached{key, row})
	if c.order.Len() > c.room {
		last := c.order.Back()
		delete(c.entries, c.order.Remove(last).(*cached).key)
	}
}

// cacheKey identifies what encoders read.
func cacheKey(whole []int64, lists ...[]float32) [32]byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(whole)))
	for _, v := range whole {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	for _, list := range lists {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(list)))
		for _, v := range list {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	}
	return sha256.Sum256(b)
}
