package pipeline

import (
	"context"
	"errors"
	"slices"
	"sync"

	"likeness/models/checkpoint"
	"likeness/models/op"
)

// networks are all networks of a model. In low memory only those of one group are open at a time, and only while they are used.
type networks struct {
	backend Backend

	mu    sync.Mutex
	here  *group        // low memory: the group that is in use
	users int           // of here
	left  chan struct{} // closed when the last user of here leaves
	all   []*network
}

// group is networks that are open together.
type group struct {
	*networks
	beside map[string]*checkpoint.Component // weights that its networks read beside their component's own

	weights, held int64 // bytes of its largest network's weights, and of the largest run there was while it is open
}

// network is one component's network, opened when it is first needed.
type network struct {
	*group
	name, folder string // of the component
	model        op.Model

	opening sync.Mutex
	runner  Runner
}

func newNetworks(b Backend) *networks { return &networks{backend: b, left: make(chan struct{})} }

func (n *networks) newGroup() *group { return &group{networks: n} }

// add makes a network of the component in folder; model reads some or all of its weights.
func (g *group) add(name, folder string, model op.Model) *network {
	n := &network{group: g, name: name, folder: folder, model: model}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, n)
	return n
}

// enter lets the group's networks be used until leave is called as often. In low memory it waits until those of other groups are closed.
func (g *group) enter(ctx context.Context) error {
	for g.backend.LowMemory {
		g.mu.Lock()
		if g.users == 0 || g.here == g {
			g.here = g
			g.users++
			g.mu.Unlock()
			return nil
		}
		left := g.left
		g.mu.Unlock()
		select {
		case <-left:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// leave closes the group's networks in low memory, if nobody else uses them.
func (g *group) leave() error {
	if !g.backend.LowMemory {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.users--; g.users > 0 {
		return nil
	}
	var errs []error
	for _, n := range g.all {
		if n.group == g {
			errs = append(errs, n.close())
		}
	}
	g.held = 0
	close(g.left)
	g.left = make(chan struct{})
	return errors.Join(errs...)
}

// prepare opens the network or, in low memory, only checks that it can be opened.
func (n *network) prepare() error {
	if !n.backend.LowMemory {
		_, err := n.open()
		return err
	}
	if n.backend.Check == nil {
		return nil
	}
	return n.read(func(weights *checkpoint.Component) error { return n.backend.Check(n.name, n.model, weights) })
}

// read has f look at what the network's weights are read from.
func (n *network) read(f func(*checkpoint.Component) error) error {
	weights, err := checkpoint.OpenComponent(n.folder)
	if err != nil {
		return err
	}
	defer weights.Close()
	return f(weights.With(n.beside))
}

func (n *network) open() (Runner, error) {
	n.opening.Lock()
	defer n.opening.Unlock()
	if n.runner != nil {
		return n.runner, nil
	}
	err := n.read(func(weights *checkpoint.Component) error {
		runner, err := n.backend.Network(n.name, n.model, weights)
		if err == nil {
			n.runner = runner
		}
		return err
	})
	return n.runner, err
}

// Run implements Runner.
func (n *network) Run(ctx context.Context, inputs map[string]op.Array) (outputs map[string]op.Array, err error) {
	if err := n.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.leave()) }()
	runner, err := n.open()
	if err != nil {
		return nil, err
	}
	return runner.Run(ctx, inputs)
}

// isOpen tells whether the network takes up memory.
func (n *network) isOpen() bool {
	n.opening.Lock()
	defer n.opening.Unlock()
	return n.runner != nil
}

// close releases what the network holds; a run opens it again.
func (n *network) close() error {
	n.opening.Lock()
	defer n.opening.Unlock()
	if n.runner == nil {
		return nil
	}
	runner := n.runner
	n.runner = nil
	return runner.Close()
}

// remove closes the network for good.
func (n *network) remove() error {
	n.mu.Lock()
	n.all = slices.DeleteFunc(n.all, func(other *network) bool { return other == n })
	n.mu.Unlock()
	return n.close()
}

// Close closes all of them.
func (n *networks) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, network := range n.all {
		errs = append(errs, network.close())
	}
	return errors.Join(errs...)
}
