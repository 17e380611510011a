package pipeline

import (
	"fmt"
	"maps"
	"slices"

	"likeness/models/checkpoint"
	"likeness/models/op"
)

// Reach is what subjects do beyond words that all cross-attentions share: what a model has to be opened with.
type Reach struct {
	Offsets     map[string][]op.Target // layers that offsets act on, by component
	LayeredText bool                   // words differ between the UNet's cross-attentions
	Edits       bool                   // keys and values of cross-attention take gated changes
}

// With is the reach of both.
func (r Reach) With(other Reach) Reach {
	all := Reach{Offsets: maps.Clone(r.Offsets), LayeredText: r.LayeredText || other.LayeredText, Edits: r.Edits || other.Edits}
	for component, targets := range other.Offsets {
		for _, t := range targets {
			if slices.Contains(all.Offsets[component], t) {
				continue
			}
			if all.Offsets == nil {
				all.Offsets = map[string][]op.Target{}
			}
			all.Offsets[component] = append(slices.Clip(all.Offsets[component]), t)
		}
	}
	return all
}

// Reach is what the request's subjects do.
func (r Request) Reach() Reach {
	var all Reach
	add := func(component string, layout *op.Layout) {
		if layout != nil {
			all = all.With(Reach{Offsets: map[string][]op.Target{component: layout.Targets()}})
		}
	}
	for _, s := range r.Subjects {
		add(checkpoint.UNet, s.Layout)
		for component, offsets := range s.TextOffsets {
			add(component, offsets.Layout)
		}
		all.LayeredText = all.LayeredText || s.WordLayers > 1
		all.Edits = all.Edits || s.Edit != nil
	}
	return all
}

// Lacks is what of r the model was not opened with.
func (m *Model) Lacks(r Reach) Reach {
	missing := Reach{LayeredText: r.LayeredText && !m.UNet.LayeredText, Edits: r.Edits && !m.UNet.Edited}
	for component, targets := range r.Offsets {
		own := m.TextLayouts[component]
		if component == checkpoint.UNet {
			own = m.Layout
		}
		for _, t := range targets {
			if own != nil {
				if _, _, ok := own.Span(t.Path); ok {
					continue
				}
			}
			missing = missing.With(Reach{Offsets: map[string][]op.Target{component: {t}}})
		}
	}
	return missing
}

// Empty tells whether it is nothing.
func (r Reach) Empty() bool { return len(r.Offsets) == 0 && !r.LayeredText && !r.Edits }

// textLayouts are the layouts of the text encoders' offsets, by component.
func (r Reach) textLayouts() (map[string]*op.Layout, error) {
	layouts := map[string]*op.Layout{}
	for component, targets := range r.Offsets {
		if component == checkpoint.UNet || len(targets) == 0 {
			continue
		}
		var err error
		if layouts[component], err = op.NewLayout(1, targets); err != nil {
			return nil, fmt.Errorf("%s: %w", component, err)
		}
	}
	return layouts, nil
}

// layout is that of the UNet's offsets; nil where they act on no layer.
func (b Backend) layout(unet op.Model) (*op.Layout, error) {
	more := b.Reach.Offsets[checkpoint.UNet]
	if b.Layout != nil {
		own, err := b.Layout(unet)
		if err != nil {
			return nil, err
		}
		return own.With(more...)
	}
	if len(more) == 0 {
		return nil, nil
	}
	return op.NewLayout(1, more)
}
