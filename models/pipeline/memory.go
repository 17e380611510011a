package pipeline

import (
	"fmt"
	"path/filepath"

	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/unet"
	"likeness/models/vae"
)

// Peak estimates the bytes that a run of a model takes beside its weights, where inputs have the given dims.
type Peak func(model op.Model, inputs map[string][]int) (int64, error)

// Bytes is an amount of memory.
type Bytes int64

// String writes it for people, in megabytes or gigabytes.
func (b Bytes) String() string {
	if b < 1e9 {
		return fmt.Sprintf("%.1f MB", float64(b)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(b)/1e9)
}

// textTokens is the length of one chunk of text.
const textTokens = 77

// Picture estimates what one picture of h × w latents under guidance takes beside the weights: the runs of UNet and VAE decoder, whose
// memory a server keeps.
func Picture(peak Peak, denoiser unet.Config, decoder vae.Config, h, w int) (int64, error) {
	steps, err := peak(unet.New(denoiser, nil), unetRun(denoiser, 2, h, w))
	if err != nil {
		return 0, err
	}
	picture, err := peak(vae.Decoder(decoder), decoderRun(decoder, h, w))
	return steps + picture, err
}

func unetRun(cfg unet.Config, rows, h, w int) map[string][]int {
	run := map[string][]int{"sample": {rows, cfg.InChannels, h, w}, "timestep": {rows}, "encoder_hidden_states": cfg.TextDims(rows, textTokens)}
	if cfg.Edited {
		run["gates"], run["edits"] = cfg.GateDims(rows, textTokens, 2), []int{rows, 2, cfg.EditSize()}
	}
	return run
}

func decoderRun(cfg vae.Config, h, w int) map[string][]int {
	return map[string][]int{"latents": {1, cfg.LatentChannels, h, w}}
}

func encoderRun(cfg vae.Config, h, w int) map[string][]int {
	return map[string][]int{"pixel_values": {1, cfg.InChannels, h * cfg.Factor(), w * cfg.Factor()}}
}

// checkWeights refuses a model whose weights cannot be held: all of them or, in low memory, the largest component's.
func (m *Model) checkWeights(dir string) error {
	b := m.networks.backend
	if b.Free == nil || b.Weights == nil {
		return nil
	}
	var all, most int64
	for _, n := range m.networks.all {
		if !m.opens(n) {
			continue
		}
		var bytes int64
		err := n.read(func(weights *checkpoint.Component) (err error) {
			bytes, err = b.Weights(n.name, n.model, weights)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, n.name), err)
		}
		n.group.weights = max(n.group.weights, bytes)
		all, most = all+bytes, max(most, bytes)
	}
	switch free := b.Free(); {
	case b.LowMemory && most > free:
		return fmt.Errorf("%s: its largest network needs %v, %v are free", dir, Bytes(most), Bytes(free))
	case !b.LowMemory && all > free:
		return fmt.Errorf("%s: its weights need %v, %v are free: with --memory low, %v are enough", dir, Bytes(all), Bytes(free), Bytes(most))
	}
	return nil
}

// opens tells whether the network is opened with the model.
func (m *Model) opens(n *network) bool {
	return n != m.unet.whole && n != m.unet.shallow && n != m.encoder
}

// stage is a run that a picture needs.
type stage struct {
	*group
	peak int64
}

// stages are the runs of a completed request that take much memory.
func (e *Engine) stages(r Request) ([]stage, error) {
	m, f := e.model, e.model.VAE.Factor()
	h, w, rows := r.Height/f, r.Width/f, 1
	if m.guides(r.GuidanceScale) {
		rows = 2
	}
	steps, err := e.unetPeak(rows, h, w)
	if err != nil {
		return nil, err
	}
	if e.tiled(h, w) {
		h, w = min(h, m.tileSize()), min(w, m.tileSize())
	}
	decode, err := m.networks.backend.Peak(m.decoder.model, decoderRun(m.VAE, h, w))
	stages := []stage{{m.unet.group, steps}, {m.decoder.group, decode}}
	if err == nil && (r.Image != nil || m.inpaints()) {
		var encode int64
		encode, err = m.networks.backend.Peak(m.encoder.model, encoderRun(m.VAE, h, w))
		stages = append(stages, stage{m.encoder.group, encode})
	}
	return stages, err
}

// unetPeak is what a turn takes.
func (e *Engine) unetPeak(rows, h, w int) (int64, error) {
	key := [3]int{rows, h, w}
	if known, ok := e.peaks.Load(key); ok {
		return known.(int64), nil
	}
	peak, err := e.model.networks.backend.Peak(e.model.unet.plain.model, unetRun(e.model.UNet, rows, h, w))
	if err == nil {
		e.peaks.Store(key, peak)
	}
	return peak, err
}

// admit refuses a completed request whose picture does not fit into the memory that is free, even alone. What it takes is kept for the ones after it.
func (e *Engine) admit(r Request) error {
	n := e.model.networks
	if n.backend.Free == nil || n.backend.Peak == nil {
		return nil
	}
	stages, err := e.stages(r)
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var needs int64
	for _, s := range stages {
		if n.backend.LowMemory {
			needs = max(needs, s.weights+s.peak) // one after the other
		} else {
			needs += max(s.peak-s.held, 0)
		}
	}
	if needs == 0 {
		return nil
	}
	free := n.backend.Free()
	if n.backend.LowMemory && n.users > 0 {
		free += n.here.weights + n.here.held // which is closed before
	}
	if needs > free {
		hint := ""
		if !n.backend.LowMemory {
			hint = ", or start with --memory low"
		}
		return invalid("size", "%dx%d: needs %v, %v are free: ask for a smaller picture%s", r.Width, r.Height, Bytes(needs), Bytes(free), hint)
	}
	if !n.backend.LowMemory {
		for _, s := range stages {
			s.held = max(s.held, s.peak)
		}
	}
	return nil
}

// hasRoom tells whether a turn of these samples, more than one, fits.
func (e *Engine) hasRoom(batch []*sample) bool {
	n, group := e.model.networks, e.model.unet.group
	if n.backend.Free == nil || n.backend.Peak == nil {
		return true
	}
	rows := 0
	for _, s := range batch {
		rows += s.rows()
	}
	peak, err := e.unetPeak(rows, batch[0].h, batch[0].w)
	if err != nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if peak <= group.held {
		return true
	}
	if peak-group.held > n.backend.Free() {
		return false
	}
	group.held = peak
	return true
}
