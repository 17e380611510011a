package pipeline

import (
	"context"
	"testing"
)

// TestFairness: who asks for one picture is served in every turn beside one who asks for many.
func TestFairness(t *testing.T) {
	q := newQueue()
	add := func(owner string, side int) *sample {
		s := &sample{ctx: context.Background(), owner: owner, h: side, w: side, texts: texts{states: make([][]float32, 2)}, progress: make(chan progress)}
		q.add(s)
		return s
	}
	for range 10 {
		add("many", 8)
	}
	for range 5 {
		q.pick(2)
	}
	one, large := add("one", 8), add("large", 16)
	turns := map[*sample]int{}
	owners := map[string]int{}
	for range 40 {
		batch := q.pick(2)
		for _, s := range batch {
			if s.h != batch[0].h {
				t.Fatal("two sizes in one turn")
			}
			turns[s]++
			owners[s.owner]++
		}
	}
	// The large picture costs four small ones: of the work, each owner gets a third.
	if turns[one] < 25 || turns[large] < 5 || owners["many"] < 25 {
		t.Errorf("turns: one %d, large %d, many %d", turns[one], turns[large], owners["many"])
	}
	q.remove(one)
	q.remove(large)
	if first, second := q.pick(2)[0], q.pick(1)[0]; first != q.samples[0] || second != first {
		t.Error("one owner's pictures are not served in order of arrival")
	}
}

func TestPickDropsTheCancelled(t *testing.T) {
	q := newQueue()
	ctx, cancel := context.WithCancel(context.Background())
	s := &sample{ctx: ctx, owner: "a", h: 1, w: 1, progress: make(chan progress)}
	q.add(s)
	cancel()
	if batch := q.pick(4); len(batch) != 0 || len(q.samples) != 0 || len(q.served) != 0 {
		t.Errorf("picked %d, kept %d of %d owners", len(batch), len(q.samples), len(q.served))
	}
	if _, more := <-s.progress; more || s.err != context.Canceled {
		t.Errorf("ended with %v", s.err)
	}
}

func TestCache(t *testing.T) {
	c := newCache(2)
	key := func(id int64) [32]byte { return cacheKey([]int64{id}, nil) }
	for i := range int64(3) {
		c.put(key(i), []float32{float32(i)})
		c.get(key(0)) // used, so kept
	}
	for i, want := range []bool{true, false, true} {
		if states, ok := c.get(key(int64(i))); ok != want || ok && states[0] != float32(i) {
			t.Errorf("entry %d: %v, %v", i, states, ok)
		}
	}
	if cacheKey([]int64{1}, []float32{0}) == cacheKey([]int64{1}, []float32{1}) {
		t.Error("residuals are not part of the key")
	}
}
