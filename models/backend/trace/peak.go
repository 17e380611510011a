package trace

import (
	"fmt"
	"maps"
	"slices"

	"likeness/models/op"
)

// Peak estimates the bytes that a run's tensors take up at most at a time, inputs and outputs included and weights not, where inputs have
// the given dims. An input that is not named has the named ones' batch, and ones for its other symbolic dimensions. A tensor is there from
// the operation that makes it to the last that reads it; attention and linear layers are fused, and element-wise operations work in place.
func Peak(model op.Model, inputs map[string][]int) (int64, error) {
	m := &meter{builder: newBuilder(), sizes: inputs, bytes: map[int]int64{}, declared: map[string]op.Value{}}
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		if len(inputs[name]) > 0 {
			m.batch = inputs[name][0]
		}
	}
	outputs, err := op.Build(m, model)
	if err != nil {
		return 0, err
	}
	return m.peak(outputs), nil
}

// meter is the Builder that keeps what each operation reads and makes.
type meter struct {
	*builder
	sizes map[string][]int
	batch int
	steps []step
	bytes map[int]int64 // by id

	declared map[string]op.Value // inputs
}

// step is an operation.
type step struct {
	reads   []int // ids
	makes   int
	extra   int64 // bytes that are there while it runs
	inPlace bool  // what it makes can be where something lay that it reads last
}

func size(s shape) int64 {
	n := int64(4)
	if s.dt == op.Int64 {
		n = 8
	}
	for _, d := range s.dims {
		n *= int64(max(d, 1))
	}
	return n
}

// note keeps an operation whose result is v.
func (m *meter) note(v op.Value, err error, s step, reads ...op.Value) (op.Value, error) {
	if err != nil {
		return nil, err
	}
	for _, x := range reads {
		if read, ok := x.(shape); ok && read.id > 0 {
			s.reads = append(s.reads, read.id)
		}
	}
	s.makes = v.(shape).id
	m.bytes[s.makes] = size(v.(shape))
	m.steps = append(m.steps, s)
	return v, nil
}

// peak goes through the steps.
func (m *meter) peak(outputs map[string]op.Value) int64 {
	last := map[int]int{} // step that reads an id last
	for i, s := range m.steps {
		last[s.makes] = max(last[s.makes], i)
		for _, id := range s.reads {
			last[id] = i
		}
	}
	for _, v := range outputs {
		last[v.(shape).id] = len(m.steps)
	}
	var now, most int64
	for i, s := range m.steps {
		var freed int64
		slices.Sort(s.reads)
		for _, id := range slices.Compact(s.reads) {
			if last[id] == i {
				freed += m.bytes[id]
			}
		}
		made := m.bytes[s.makes]
		if s.inPlace && freed >= made {
			most = max(most, now+s.extra)
		} else {
			most = max(most, now+made+s.extra)
		}
		now += made - freed
		if last[s.makes] == i && len(s.reads) > 0 { // nobody reads it
			now -= made
		}
	}
	return most
}

func (m *meter) Input(name string, dt op.DType, dims ...int) (op.Value, error) {
	if v, ok := m.declared[name]; ok {
		return v, nil
	}
	given, ok := m.sizes[name]
	if !ok {
		given = slices.Clone(dims)
		for i, d := range dims {
			if d == -1 {
				given[i] = 1
				if i == 0 {
					given[i] = max(m.batch, 1)
				}
			}
		}
	}
	if err := want("input "+name, given, dims...); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(given, func(d int) bool { return d < 1 }) {
		return nil, fmt.Errorf("input %s: dims %v", name, given)
	}
	v, err := m.builder.Input(name, dt, given...)
	if err == nil {
		m.declared[name] = v
	}
	return m.note(v, err, step{})
}

// view is a result that lies where x does.
func (m *meter) view(v op.Value, err error, x op.Value) (op.Value, error) {
	if err != nil {
		return nil, err
	}
	s := v.(shape)
	s.id = x.(shape).id
	return s, nil
}
