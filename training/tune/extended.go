//go:build torch

package tune

import (
	"context"
	"errors"
	"slices"

	"likeness/training/protocol"
)

// extended learns a word for each of the UNet's cross-attentions (P+, Voynov et al. 2023): the text encoder reads the prompt once with
// each of them. All start as the init noun, and none becomes longer than the longest word there is.
var extended = Method{
	Method: protocol.Extended,
	start: func(_ context.Context, b *Base, cfg Config, _ []Photo) (*learner, error) {
		layers := b.UNet.TextLayers()
		if layers < 2 {
			return nil, errors.New("the UNet has one cross-attention, and a word for it is that of textual-inversion: use that")
		}
		l, err := textualInversion.start(context.Background(), b, cfg, nil)
		if err != nil {
			return nil, err
		}
		l.text, l.vectors, l.nouns = layers, slices.Repeat(l.vectors, layers), slices.Repeat(l.nouns, layers)
		return l, nil
	},
}
