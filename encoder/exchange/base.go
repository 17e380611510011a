package exchange

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/tokenizer"
)

const tokenTable = "text_model.embeddings.token_embedding.weight"

// networks are those that a LoRA may change.
var networks = []struct {
	component, name string
	blocks          []string // of the layers that it reaches
}{
	{checkpoint.UNet, "UNet", []string{"down_blocks.", "mid_block.", "up_blocks."}},
	{checkpoint.TextEncoder, "text encoder", []string{"text_model.encoder.layers."}},
	{checkpoint.TextEncoder2, "second text encoder", []string{"text_model.encoder.layers."}},
}

// Base is the model that files are read and written for: the shapes of its layers, and its words. Many goroutines may use it until Close.
type Base struct {
	Fingerprint string
	TextWidth   int                         // of a word embedding: the text encoders' widths, summed
	Shapes      map[string]map[string][]int // weights of the blocks' layers, by component and dotted path

	isSDXL bool // which adds picture size and pooled text to the time embedding
	folder *checkpoint.Folder
	words  []*words // of each text encoder
	names  func() names
}

// words are what a text encoder knows of words.
type words struct {
	encoder   *checkpoint.Component
	width     int
	tokenizer *tokenizer.Tokenizer
}

// OpenBase opens the model folder dir. It reads headers only. The caller closes the Base.
func OpenBase(dir string) (*Base, error) {
	folder, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	b := &Base{folder: folder}
	b.names = sync.OnceValue(func() names { return newNames(b) })
	if err := b.read(); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return b, nil
}

func (b *Base) read() (err error) {
	b.Shapes = map[string]map[string][]int{}
	for _, n := range networks {
		if n.component == checkpoint.TextEncoder2 && !b.folder.Has(n.component) {
			continue
		}
		if b.Shapes[n.component], err = b.shapes(n.component, n.blocks...); err != nil {
			return err
		}
	}
	denoiser, err := b.folder.Component(checkpoint.UNet)
	if err != nil {
		return err
	}
	_, b.isSDXL = denoiser.Info("add_embedding.linear_1.weight")
	for _, names := range [][2]string{{checkpoint.TextEncoder, checkpoint.Tokenizer}, {checkpoint.TextEncoder2, checkpoint.Tokenizer2}} {
		if names[0] == checkpoint.TextEncoder2 && !b.folder.Has(names[0]) {
			continue
		}
		if err := b.readWords(names[0], names[1]); err != nil {
			return err
		}
	}
	b.Fingerprint, err = b.folder.Fingerprint()
	return err
}

func (b *Base) readWords(encoder, tokens string) error {
	text, err := b.folder.Component(encoder)
	if err != nil {
		return err
	}
	table, ok := text.Info(tokenTable)
	if !ok || len(table.Shape) != 2 {
		return fmt.Errorf("%s: no table %s", text.Path(), tokenTable)
	}
	vocabulary, err := b.folder.Component(tokens)
	if err != nil {
		return err
	}
	w := &words{encoder: text, width: table.Shape[1]}
	if w.tokenizer, err = tokenizer.Open(vocabulary.Path()); err != nil {
		return err
	}
	b.words, b.TextWidth = append(b.words, w), b.TextWidth+w.width
	return nil
}

// shapes are those of the weights in a component's blocks. Offsets reach no others: those of time and words read no sequence.
func (b *Base) shapes(name string, blocks ...string) (map[string][]int, error) {
	c, err := b.folder.Component(name)
	if err != nil {
		return nil, err
	}
	shapes := map[string][]int{}
	for _, weight := range c.Names() {
		path, ok := strings.CutSuffix(weight, ".weight")
		if ok && slices.ContainsFunc(blocks, func(block string) bool { return strings.HasPrefix(path, block) }) {
			info, _ := c.Info(weight)
			shapes[path] = info.Shape
		}
	}
	return shapes, nil
}

// Targets are the layers that a file may change, by component: all linear layers and 1×1 convolutions of the blocks.
func (b *Base) Targets() map[string][]op.Target {
	targets := map[string][]op.Target{}
	for component, shapes := range b.Shapes {
		for _, path := range slices.Sorted(maps.Keys(shapes)) {
			if in, out, ok := width(shapes[path]); ok {
				targets[component] = append(targets[component], op.Target{Path: path, In: in, Out: out})
			}
		}
	}
	return targets
}

// classEmbeddings are the token embeddings of the noun at a concept's n slots, [n, TextWidth], as the text encoders read them there.
func (b *Base) classEmbeddings(word, class string, n int) ([]float32, error) {
	rows := make([]float32, n*b.TextWidth)
	first := 0 // column at which the text encoder's begin
	for _, w := range b.words {
		encoding, err := w.tokenizer.Encode("<"+word+">", []tokenizer.Placeholder{{Word: word, Class: class, Vectors: n}})
		if err != nil {
			return nil, fmt.Errorf("<%s>, %q: %w", word, class, err)
		}
		for _, slot := range encoding.Slots {
			row, err := w.encoder.Row(tokenTable, int(encoding.IDs[slot.Position]))
			if err != nil {
				return nil, fmt.Errorf("<%s>, %q: %w", word, class, err)
			}
			copy(rows[slot.Vector*b.TextWidth+first:], row)
		}
		first += w.width
	}
	return rows, nil
}

// Close releases the folder.
func (b *Base) Close() error { return b.folder.Close() }

// width is what a layer of the weight shape reads and writes; ok is false for anything but a linear layer and a 1×1 convolution.
func width(shape []int) (in, out int, ok bool) {
	if len(shape) != 2 && !(len(shape) == 4 && slices.Equal(shape[2:], []int{1, 1})) {
		return 0, 0, false
	}
	return shape[1], shape[0], true
}
