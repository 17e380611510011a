//go:build torch

package tune

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"likeness/encoder"
	"likeness/models/backend/torch"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/clip"
	"likeness/models/memory"
	"likeness/models/op"
	"likeness/models/tokenizer"
	"likeness/models/unet"
	"likeness/training/base"
	"likeness/training/protocol"
)

// Base is an open model folder that concepts are tuned on. It serves one tuning at a time.
type Base struct {
	*base.Frozen
	engine      *torch.Engine
	dir         string
	fingerprint string
	tokenizer   *tokenizer.Tokenizer
	encoder     *encoder.Encoder  // nil: the folder has none
	basis       *torch.Params     // the encoder's weights, of which tuning reads the basis
	methods     []protocol.Method // as the model has them
	memory      memory.Meter
}

// Open reads a model folder to the engine, where there is memory for its weights. The caller closes the Base.
func Open(engine *torch.Engine, dir string) (*Base, error) {
	return open(engine, dir, memory.Meter{Root: "/"})
}

func open(engine *torch.Engine, dir string, meter memory.Meter) (*Base, error) {
	folder, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	b := &Base{engine: engine, dir: dir, memory: meter}
	if b.methods, err = protocol.For(dir); err != nil {
		return nil, err
	}
	if b.fingerprint, err = folder.Fingerprint(); err != nil {
		return nil, err
	}
	words, err := folder.Component(checkpoint.Tokenizer)
	if err != nil {
		return nil, err
	}
	if b.tokenizer, err = tokenizer.Open(words.Path()); err != nil {
		return nil, err
	}
	if err := b.room(folder); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if b.Frozen, err = base.OpenFrozen(engine, folder); err != nil {
		return nil, err
	}
	if err := errors.Join(b.check(), b.openEncoder()); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), b.Close())
	}
	return b, nil
}

// room is the error of a folder whose weights alone, which are float32 here, do not fit in memory.
func (b *Base) room(folder *checkpoint.Folder) error {
	p := Plan{}
	for _, name := range []string{checkpoint.UNet, checkpoint.TextEncoder, checkpoint.VAE} {
		c, err := folder.Component(name)
		if err != nil {
			return err
		}
		for _, weight := range c.Names() {
			info, _ := c.Info(weight)
			p.Weights += 4 * int64(op.Size(info.Shape))
		}
	}
	if free := b.memory.Free(); p.Weights > free {
		return &MemoryError{Plan: p, Free: free, Advice: "the weights alone do not fit, whatever the settings: use a smaller model or a machine with more"}
	}
	return nil
}

// weights are the bytes of the frozen networks.
func (b *Base) weights() int64 {
	bytes := b.VAE.Bytes()
	for _, p := range b.UNetAndText {
		bytes += p.Bytes()
	}
	return bytes
}

// check refuses what the losses here do not know.
func (b *Base) check() error {
	switch u := b.UNet; {
	case u.PooledWidth() > 0:
		return errors.New("the UNet reads pooled text, as SDXL's does: concepts of it cannot be tuned yet")
	case u.TimeCondProjDim > 0:
		return errors.New("the UNet reads the guidance scale, as a distilled one does: tune on the model that it was distilled from")
	case u.InChannels != u.OutChannels:
		return errors.New("the UNet repaints pictures: tune on the model without inpainting")
	case u.SampleSize[0] != u.SampleSize[1] || u.SampleSize[0] < 1:
		return fmt.Errorf("unet: sample_size %v: must be one positive number", u.SampleSize)
	}
	return nil
}

func (b *Base) openEncoder() error {
	dir := filepath.Join(b.dir, "encoder")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	component, err := checkpoint.OpenComponent(dir)
	if err != nil {
		return err
	}
	defer component.Close()
	cfg, err := encoder.ParseConfig(component.Config())
	if err != nil {
		return fmt.Errorf("%s: %w", component.Path(), err)
	}
	layout, err := trace.Layout(unet.New(b.UNet, nil), cfg.Rank, cfg.IsTarget)
	if err != nil {
		return err
	}
	if b.basis, err = base.Freeze(b.engine, component, ""); err != nil {
		return err
	}
	b.encoder, err = encoder.New(component, network{b.engine, encoder.Network(cfg, layout), b.basis}, layout, b.fingerprint)
	return err
}

// network runs a model on libtorch.
type network struct {
	engine  *torch.Engine
	model   op.Model
	weights *torch.Params
}

func (n network) Run(_ context.Context, inputs map[string]op.Array) (map[string]op.Array, error) {
	return n.engine.Run(n.model, inputs, n.weights)
}

func (n network) Close() error {
	n.weights.Free()
	return nil
}

// Side is the side in pixels of the pictures that the model draws.
func (b *Base) Side() int { return b.UNet.SampleSize[0] * b.Architecture.VAE.Factor() }

// Step is what the sides of pictures must be multiples of: the VAE and every level of the UNet halve them.
func (b *Base) Step() int { return b.Architecture.VAE.Factor() << (len(b.UNet.BlockOutChannels) - 1) }

// At is the base for pictures of another side in pixels; 0 is the model's own. It is open as long as b is, which alone is closed.
func (b *Base) At(resolution int) (*Base, error) {
	if resolution == 0 {
		return b, nil
	}
	step := b.Step()
	if resolution < step || resolution%step != 0 || resolution > maxSide {
		return nil, fmt.Errorf("resolution %d: must be a multiple of %d up to %d; the model draws %d", resolution, step, maxSide, b.Side())
	}
	at, frozen := *b, *b.Frozen
	side := resolution / b.Architecture.VAE.Factor()
	frozen.UNet.SampleSize = unet.Size{side, side}
	at.Frozen = &frozen
	return &at, nil
}

// maxSide is the largest side of pictures that are learned.
const maxSide = 2048

// Seen is the side in pixels of the photos that the encoder reads; 0 without one.
func (b *Base) Seen() int {
	if b.encoder == nil {
		return 0
	}
	return b.encoder.Config().ImageSize
}

// attention are the layers of Stable Diffusion's UNet that LoRA changes by default.
var attention = []string{"to_q", "to_k", "to_v", "to_out.0"}

// textAttention are those of CLIP's text encoder.
var textAttention = []string{"q_proj", "k_proj", "v_proj", "out_proj"}

// targets lists the layers in the UNet's blocks whose paths end in one of ends; none are the encoder's or, without one, all of attention.
func (b *Base) targets(ends []string) ([]op.Target, error) {
	if len(ends) == 0 && b.encoder != nil {
		return b.encoder.Layout().Targets(), nil
	}
	if len(ends) == 0 {
		ends = attention
	}
	layout, err := trace.Layout(unet.New(b.UNet, nil), 1, func(path string) bool {
		return isTarget(path, ends)
	})
	if err != nil {
		return nil, fmt.Errorf("targets %q: %w", ends, err)
	}
	return layout.Targets(), nil
}

// textTargets lists the layers of the text encoder that LoRA changes: all of attention.
func (b *Base) textTargets() ([]op.Target, error) {
	layout, err := trace.Layout(clip.Text(b.Text), 1, func(path string) bool {
		return slices.ContainsFunc(textAttention, func(end string) bool { return strings.HasSuffix(path, ".self_attn."+end) })
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", checkpoint.TextEncoder, err)
	}
	return layout.Targets(), nil
}

// isTarget tells whether the layer at path is in a block and its path ends in one of ends.
func isTarget(path string, ends []string) bool {
	return strings.Contains(path, "_block") && slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(path, "."+end) })
}

// Close gives the memory back.
func (b *Base) Close() error {
	for _, p := range append(b.UNetAndText, b.VAE) {
		p.Free()
	}
	if b.encoder != nil {
		return b.encoder.Close()
	}
	return nil
}
