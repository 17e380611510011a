//go:build torch

package torch_test

import (
	"testing"

	"likeness/models/backend/torch"
	"likeness/models/op"
	"likeness/models/op/optest"
)

func engine(t *testing.T, cfg torch.Config) *torch.Engine {
	e, err := torch.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// TestSuite holds libtorch against the reference.
func TestSuite(t *testing.T) {
	e := engine(t, torch.Config{Threads: 1})
	optest.Run(t, 1e-4, func(model op.Model, weights, inputs map[string]op.Array) (map[string]op.Array, error) {
		p, err := e.NewParams(weights, false)
		if err != nil {
			return nil, err
		}
		defer p.Free()
		return e.Run(model, inputs, p)
	})
}
