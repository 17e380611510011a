package pipeline

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"sync"
)

// textCache keeps the text states of the prompts used last: previews, pictures of one request and guidance share them.
type textCache struct {
	mu      sync.Mutex
	order   *list.List // of *cachedText, the last used in front
	entries map[[32]byte]*list.Element
	room    int
}

type cachedText struct {
	key [32]byte
	row []float32
}

func newTextCache(room int) *textCache {
	return &textCache{order: list.New(), entries: map[[32]byte]*list.Element{}, room: room}
}

func (c *textCache) get(key [32]byte) ([]float32, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.entries[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(at)
	return at.Value.(*cachedText).row, true
}

func (c *textCache) put(key [32]byte, row []float32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[key]; ok {
		return
	}
	c.entries[key] = c.order.PushFront(&cachedText{key, row})
	if c.order.Len() > c.room {
		last := c.order.Back()
		delete(c.entries, c.order.Remove(last).(*cachedText).key)
	}
}

// textKey identifies what text encoders read.
func textKey(lists ...any) [32]byte {
	var b []byte
	for _, list := range lists {
		switch list := list.(type) {
		case []int64:
			b = binary.LittleEndian.AppendUint64(b, uint64(len(list)))
			for _, v := range list {
				b = binary.LittleEndian.AppendUint64(b, uint64(v))
			}
		case []float32:
			b = binary.LittleEndian.AppendUint64(b, uint64(len(list)))
			for _, v := range list {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			}
		}
	}
	return sha256.Sum256(b)
}
