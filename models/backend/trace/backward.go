package trace

import (
	"maps"
	"slices"

	"likeness/models/op"
)

// Training says how a model is trained.
type Training struct {
	Trained func(weight string) bool // gradients of which weights are wanted; nil: the model is only run
	Half    bool                     // products are computed in two bytes
}

// Backward estimates the bytes that a forward and backward pass on libtorch takes up at most at a time, weights and their gradients not
// included, where inputs have the given dims; those not named are as in Peak. Blocks keep of what they make what their gradients read.
func Backward(model op.Model, inputs map[string][]int, training Training) (int64, error) {
	t := &tape{meter: &meter{builder: newBuilder(), sizes: inputs, bytes: map[int]int64{}, declared: map[string]op.Value{}}, Training: training,
		values: map[int]value{}, held: map[int]int{}, size: map[int]int64{}, recording: training.Trained != nil}
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		if len(inputs[name]) > 0 {
			t.batch = inputs[name][0]
		}
	}
	if _, err := op.Build(t, model); err != nil {
		return 0, err
	}
	t.leave(nil)
	t.unwind()
	return t.most, nil
}

// tape is the Builder that plays what libtorch does in memory: what is alive, what gradients will read, and the way back.
type tape struct {
	*meter
	Training
	values    map[int]value
	held      map[int]int   // how often a storage is held; it is free at none
	size      map[int]int64 // of a storage
	arena     []int         // storages that the present block holds
	nodes     []node
	recording bool
	now, most int64
}

// value is what is known of an id.
type value struct {
	storage  int  // 0: a weight's or a constant's
	gradient bool // one is wanted
	half     bool // elements of two bytes
	turned   bool // its axes are in another order than in memory
}

// node is an operation on the way back.
type node struct {
	makes int   // the storage whose gradient it reads
	reads []int // storages whose gradients it makes
	saves []int // storages that it holds until then
	work  int64 // bytes that are there meanwhile
	block bool  // the work makes the gradients, too
}

// effect is what an operation does beside making its result.
type effect struct {
	result   bool       // its gradient reads the result
	operands []op.Value // and these of its operands
	view     bool       // the result lies where the first operand does
	half     bool       // the result has elements of two bytes
	full     bool       // the result has elements of four, whatever is read
	extra    int64      // bytes that the gradient reads beside
	work     int64      // bytes that are there while it runs, and on the way back
}

func (t *tape) hold(storage int) {
	if t.held[storage]++; t.held[storage] == 1 {
		t.now += t.size[storage]
		t.most = max(t.most, t.now)
	}
}

func (t *tape) drop(storage int) {
	if t.held[storage]--; t.held[storage] == 0 {
		t.now -= t.size[storage]
	}
}

// fresh is a storage that the present block holds.
func (t *tape) fresh(bytes int64) int {
	storage := len(t.size) + 1
	t.size[storage] = bytes
	t.hold(storage)
	t.arena = append(t.arena, storage)
	return storage
}

// during is memory that is there for a moment.
func (t *tape) during(bytes int64) { t.most = max(t.most, t.now+bytes) }

func (t *tape) of(v op.Value) value {
	s, _ := v.(shape)
	return t.values[s.id]
}

func (t *tape) bytesOf(v op.Value) int64 {
	s, ok := v.(shape)
	if !ok {
		return 0
	}
	if t.of(v).half {
		return size(s) / 2
	}
	return size(s)
}

// add notes an operation.
func (t *tape) add(made op.Value, err error, e effect, reads ...op.Value) (op.Value, error) {
	if err != nil {
		return nil, err
	}
	s := made.(shape)
	result := value{half: s.dt == op.Float32 && !e.full}
	n := node{work: e.work}
	floats := 0
	for _, x := range reads {
		in, ok := x.(shape)
		if !ok {
			continue
		}
		from := t.of(x)
		if in.dt == op.Float32 && len(in.dims) > 0 {
			floats++
			result.half = result.half && from.half
		}
		if from.gradient {
			result.gradient = true
			if from.storage > 0 {
				n.reads = append(n.reads, from.storage)
			}
		}
	}
	result.half = result.half && floats > 0 || e.half
	if first := t.of(reads[0]); e.view {
		result.storage = first.storage
	} else {
		t.values[s.id] = result
		result.storage = t.fresh(t.bytesOf(made))
	}
	t.values[s.id] = result
	t.during(e.work)
	if t.recording && result.gradient && !e.view {
		t.save(&n, made, e)
	}
	return made, nil
}

func (t *tape) save(n *node, made op.Value, e effect) {
	n.makes = t.of(made).storage
	for _, x := range e.operands {
		if storage := t.of(x).storage; storage > 0 {
			n.saves = append(n.saves, storage)
		}
	}
	if e.result {
		n.saves = append(n.saves, n.makes)
	}
	for _, storage := range n.saves {
		t.hold(storage)
	}
	if e.extra > 0 {
		n.saves = append(n.saves, t.fresh(e.extra))
		t.hold(n.saves[len(n.saves)-1])
	}
	t.nodes = append(t.nodes, *n)
}

// product is an operand of a product: in two bytes where these are computed so, a copy if it is not already.
func (t *tape) product(v op.Value) op.Value {
	s, ok := v.(shape)
	if !ok || !t.Half || s.dt != op.Float32 || t.of(v).half {
		return v
	}
	from := t.of(v)
	copied := t.make(s.dims, s.dt)
	t.values[copied.id] = value{gradient: from.gradient, half: true, turned: from.turned}
	made := t.values[copied.id]
	made.storage = t.fresh(size(s) / 2)
	t.values[copied.id] = made
	if t.recording && from.gradient && from.storage > 0 {
		t.nodes = append(t.nodes, node{makes: made.storage, reads: []int{from.storage}})
	}
	return copied
}

// leave ends a block: what it made is let go, but for its result.
func (t *tape) leave(result op.Value) {
	kept := t.of(result).storage
	for _, storage := range t.arena {
		if storage != kept {
			t.drop(storage)
		}
	}
	t.arena = nil
}

// Block implements op.Blocks.
func (t *tape) Block(f func([]op.Value) (op.Value, error), xs []op.Value, recompute bool) (op.Value, error) {
	outer, recording := t.arena, t.recording
	again := recompute && recording
	t.arena, t.recording = nil, recording && !again
	made, err := f(xs)
	if err != nil {
		return nil, err
	}
	inside := slices.Contains(t.arena, t.of(made).storage)
	t.leave(made)
	t.arena, t.recording = outer, recording
	if inside {
		t.arena = append(t.arena, t.of(made).storage)
	}
	if !again || !t.of(made).gradient {
		return made, nil
	}
	n := node{makes: t.of(made).storage, block: true}
	for _, x := range xs {
		v := t.of(x)
		if v.storage > 0 {
			n.saves = append(n.saves, v.storage)
			t.hold(v.storage)
		}
		if v.gradient && v.storage > 0 {
			n.reads = append(n.reads, v.storage)
		}
	}
	if n.work, err = t.again(f, xs); err != nil {
		return nil, err
	}
	t.nodes = append(t.nodes, n)
	return made, nil
}

// again is what a block's forward and backward pass takes on the way back.
func (t *tape) again(f func([]op.Value) (op.Value, error), xs []op.Value) (int64, error) {
	arena, nodes, now, most := t.arena, t.nodes, t.now, t.most
	t.arena, t.nodes, t.most = nil, nil, t.now
	made, err := f(xs)
	if err != nil {
		return 0, err
	}
	t.leave(made)
	t.unwind()
	t.drop(t.of(made).storage)
	work := t.most - now
	t.arena, t.nodes, t.now, t.most = arena, nodes, now, most
	return work, nil
}

// unwind plays the backward pass: gradients come, and what they read goes.
func (t *tape) unwind() {
	gradients := map[int]bool{}
	for _, n := range slices.Backward(t.nodes) {
		var fresh, passing int64
		for _, storage := range n.reads {
			if gradients[storage] {
				passing = max(passing, t.size[storage])
			} else {
				gradients[storage] = true
				fresh += t.size[storage]
			}
		}
		if n.block {
			t.during(n.work)
			n.work = 0
		}
		t.now += fresh
		t.during(passing + n.work)
		if gradients[n.makes] {
			delete(gradients, n.makes)
			t.now -= t.size[n.makes]
		}
		for _, storage := range n.saves {
			t.drop(storage)
		}
	}
	for storage := range gradients {
		t.now -= t.size[storage]
	}
	t.nodes = nil
}

// Weight is a leaf.
func (t *tape) Weight(name string, dims ...int) (op.Value, error) {
	v, err := t.meter.Weight(name, dims...)
	if err != nil {
		return nil, err
	}
	s := t.make(v.(shape).dims, op.Float32)
	t.values[s.id] = value{gradient: t.Trained != nil && t.Trained(name)}
	return s, nil
}

// Input takes memory.
func (t *tape) Input(name string, dt op.DType, dims ...int) (op.Value, error) {
	v, err := t.meter.Input(name, dt, dims...)
	if err != nil {
		return nil, err
	}
	if _, ok := t.values[v.(shape).id]; !ok {
		t.values[v.(shape).id] = value{storage: t.fresh(size(v.(shape)))}
	}
	return v, nil
}
