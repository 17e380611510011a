package ort

import (
	"context"
	"errors"
	"fmt"
	"maps"
	goruntime "runtime"
	"slices"
	"sync"

	runtime "github.com/yalue/onnxruntime_go"

	"likeness/models/backend/onnx"
	"likeness/models/op"
)

// Session is an open graph. It may be run by many goroutines at once.
type Session struct {
	name    string
	inputs  []onnx.Port
	outputs []onnx.Port
	trim    bool
	mu      sync.RWMutex // held for reading by runs, for writing by Close
	session *runtime.DynamicAdvancedSession
}

// Open makes a session of the graph, reading its weights. Init must have loaded the library. The caller closes the Session.
func Open(g *onnx.Graph, o Options) (*Session, error) {
	s, err := open(g, o)
	if err != nil {
		return nil, fmt.Errorf("graph %s: %w", g.Name, err)
	}
	return &Session{name: g.Name, inputs: g.Inputs, outputs: g.Outputs, trim: o.Trim, session: s}, nil
}

func open(g *onnx.Graph, o Options) (*runtime.DynamicAdvancedSession, error) {
	options, err := o.session(g.Folder)
	if err != nil {
		return nil, err
	}
	defer options.Destroy()
	return runtime.NewDynamicAdvancedSessionWithONNXData(g.Model, names(g.Inputs), names(g.Outputs), options)
}

func names(ports []onnx.Port) []string {
	list := make([]string, len(ports))
	for i, p := range ports {
		list[i] = p.Name
	}
	return list
}

// Inputs are the graph's inputs, sorted by name.
func (s *Session) Inputs() []onnx.Port { return slices.Clone(s.inputs) }

// Outputs are the graph's outputs, sorted by name.
func (s *Session) Outputs() []onnx.Port { return slices.Clone(s.outputs) }

// Close waits for running calls and releases the session. A closed Session's runs fail.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		return nil
	}
	err := s.session.Destroy()
	s.session = nil
	return err
}

// InputError says how the inputs of a run do not fit the graph.
type InputError struct {
	Graph, Input string
	Reason       string
}

func (e *InputError) Error() string {
	return fmt.Sprintf("graph %s: input %q: %s", e.Graph, e.Input, e.Reason)
}

// Run computes the outputs of the inputs, which must be exactly the graph's; a mistake in them is an *InputError. The outputs
// belong to the caller. When ctx ends, the run stops between two operations and its error is ctx's.
func (s *Session) Run(ctx context.Context, inputs map[string]op.Array) (map[string]op.Array, error) {
	if err := s.check(inputs); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.session == nil {
		return nil, fmt.Errorf("graph %s: the session is closed", s.name)
	}
	var pinner goruntime.Pinner // ONNX Runtime keeps the arrays' addresses between two calls into it
	defer pinner.Unpin()
	values := make([]runtime.Value, len(s.inputs))
	defer destroy(values)
	for i, p := range s.inputs {
		v, err := newValue(inputs[p.Name], &pinner)
		if err != nil {
			return nil, &InputError{s.name, p.Name, err.Error()}
		}
		values[i] = v
	}
	results := make([]runtime.Value, len(s.outputs))
	defer destroy(results)
	if err := s.run(ctx, values, results); err != nil {
		return nil, err
	}
	outputs := make(map[string]op.Array, len(results))
	for i, p := range s.outputs {
		a, err := array(results[i], len(p.Dims))
		if err != nil {
			return nil, fmt.Errorf("graph %s: output %q: %w", s.name, p.Name, err)
		}
		outputs[p.Name] = a
	}
	return outputs, nil
}

// run calls ONNX Runtime, which ctx may terminate.
func (s *Session) run(ctx context.Context, values, results []runtime.Value) error {
	if s.trim {
		trimHeap()
	}
	options, err := runtime.NewRunOptions()
	if err != nil {
		return fmt.Errorf("graph %s: %w", s.name, err)
	}
	defer options.Destroy()
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(terminated)
		options.Terminate()
	})
	err = s.session.RunWithOptions(values, results, options)
	if !stop() {
		<-terminated
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("graph %s: %w", s.name, err)
	}
	return nil
}

func (s *Session) check(inputs map[string]op.Array) error {
	for _, p := range s.inputs {
		a, ok := inputs[p.Name]
		if !ok {
			return &InputError{s.name, p.Name, "missing"}
		}
		if reason := mismatch(p, a); reason != "" {
			return &InputError{s.name, p.Name, reason}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		if !slices.Contains(names(s.inputs), name) {
			return &InputError{s.name, name, fmt.Sprintf("the graph's inputs are %q", names(s.inputs))}
		}
	}
	return nil
}

// mismatch says why a is no value of p, or nothing.
func mismatch(p onnx.Port, a op.Array) string {
	if err := a.Check(); err != nil {
		return err.Error()
	}
	fits := len(a.Dims) == len(p.Dims)
	for i := 0; fits && i < len(a.Dims); i++ {
		fits = a.Dims[i] > 0 && (p.Dims[i] == -1 || a.Dims[i] == p.Dims[i])
	}
	if !fits {
		return fmt.Sprintf("dims are %v, need %v", a.Dims, p.Dims)
	}
	if (a.I64 != nil) != (p.DType == op.Int64) {
		return fmt.Sprintf("must be %v", p.DType)
	}
	return ""
}

func newValue(a op.Array, pinner *goruntime.Pinner) (runtime.Value, error) {
	shape := make(runtime.Shape, len(a.Dims))
	for i, d := range a.Dims {
		shape[i] = int64(d)
	}
	if a.I64 != nil {
		pinner.Pin(&a.I64[0])
		return runtime.NewTensor(shape, a.I64)
	}
	pinner.Pin(&a.F32[0])
	return runtime.NewTensor(shape, a.F32)
}

// array takes the data of a result, which is Go's memory already. Package onnx has scalars leave the graph as [1].
func array(v runtime.Value, rank int) (op.Array, error) {
	var dims []int
	for _, d := range v.GetShape() {
		dims = append(dims, int(d))
	}
	if rank == 0 && slices.Equal(dims, []int{1}) {
		dims = nil
	}
	switch t := v.(type) {
	case *runtime.Tensor[float32]:
		return op.Floats(t.GetData(), dims...), nil
	case *runtime.Tensor[int64]:
		return op.Ints(t.GetData(), dims...), nil
	}
	return op.Array{}, errors.New("neither float32 nor int64")
}

func destroy(values []runtime.Value) {
	for _, v := range values {
		if v != nil {
			v.Destroy()
		}
	}
}
