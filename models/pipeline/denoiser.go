package pipeline

import (
	"context"

	"likeness/models/op"
	"likeness/models/unet"
)

// denoiser is the UNet in the forms that steps need. One goroutine uses it.
type denoiser struct {
	*group
	held    bool
	plain   *network // until a first step asks for its deep feature
	whole   *network // plain with the deep feature, in its place from then on: the weights are not there twice
	shallow *network // the outermost layers alone
}

func newDenoiser(n *networks, name, folder string, cfg unet.Config, layout *op.Layout) *denoiser {
	g := n.newGroup()
	return &denoiser{group: g, plain: g.add(name, folder, unet.New(cfg, layout)),
		whole: g.add(name, folder, unet.Whole(cfg, layout)), shallow: g.add(name, folder, unet.Shallow(cfg, layout))}
}

// hold keeps what is open open until release.
func (d *denoiser) hold(ctx context.Context) error {
	if d.held {
		return nil
	}
	err := d.enter(ctx)
	d.held = err == nil
	return err
}

func (d *denoiser) release() error {
	if !d.held {
		return nil
	}
	d.held = false
	return d.leave()
}

// run is one turn: of the outermost layers where inputs have a deep feature, of the whole network otherwise, which gives one if it is to be kept.
func (d *denoiser) run(ctx context.Context, inputs map[string]op.Array, keep bool) (map[string]op.Array, error) {
	if err := d.hold(ctx); err != nil {
		return nil, err
	}
	if _, shallow := inputs["deep"]; shallow {
		return d.shallow.Run(ctx, inputs)
	}
	if keep {
		if err := d.plain.close(); err != nil {
			return nil, err
		}
	}
	if keep || d.whole.isOpen() {
		return d.whole.Run(ctx, inputs)
	}
	return d.plain.Run(ctx, inputs)
}
