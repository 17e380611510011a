package exchange

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"likeness/models/checkpoint"
	"likeness/models/tokenizer"
)

const tokenTable = "text_model.embeddings.token_embedding.weight"

// Base is the model that files are read and written for: the shapes of its layers, and its words.
type Base struct {
	Fingerprint string
	TextWidth   int              // of a word embedding
	UNet, Text  map[string][]int // weight shapes by the dotted path of the layer

	folder    *checkpoint.Folder
	tokenizer *tokenizer.Tokenizer
	table     []float32 // [vocabulary, TextWidth], once it has been read
}

// OpenBase opens the model folder dir. It reads headers only. The caller closes the Base.
func OpenBase(dir string) (*Base, error) {
	folder, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	b := &Base{folder: folder}
	if err := b.read(); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return b, nil
}

func (b *Base) read() (err error) {
	if b.UNet, err = b.shapes(checkpoint.UNet); err != nil {
		return err
	}
	if b.Text, err = b.shapes(checkpoint.TextEncoder); err != nil {
		return err
	}
	table := b.Text[strings.TrimSuffix(tokenTable, ".weight")]
	if len(table) != 2 {
		return fmt.Errorf("%s: the text encoder has no %s", b.folder.Path(), tokenTable)
	}
	b.TextWidth = table[1]
	if b.Fingerprint, err = b.folder.Fingerprint(); err != nil {
		return err
	}
	b.tokenizer, err = tokenizer.Open(filepath.Join(b.folder.Path(), checkpoint.Tokenizer))
	return err
}

func (b *Base) shapes(name string) (map[string][]int, error) {
	c, err := b.folder.Component(name)
	if err != nil {
		return nil, err
	}
	shapes := map[string][]int{}
	for _, weight := range c.Names() {
		if path, ok := strings.CutSuffix(weight, ".weight"); ok {
			info, _ := c.Info(weight)
			shapes[path] = info.Shape
		}
	}
	return shapes, nil
}

// isSDXL tells whether the base is of the SDXL family, which adds picture size and pooled text to the time embedding.
func (b *Base) isSDXL() bool { return b.UNet["add_embedding.linear_1"] != nil }

// classEmbeddings are the token embeddings of the noun at a concept's n slots, [n, TextWidth], as the text encoder reads them there.
func (b *Base) classEmbeddings(word, class string, n int) ([]float32, error) {
	if b.table == nil {
		text, err := b.folder.Component(checkpoint.TextEncoder)
		if err != nil {
			return nil, err
		}
		if b.table, _, err = text.Float32(tokenTable); err != nil {
			return nil, err
		}
	}
	encoding, err := b.tokenizer.Encode("<"+word+">", []tokenizer.Placeholder{{Word: word, Class: class, Vectors: n}})
	if err != nil {
		return nil, fmt.Errorf("<%s>, %q: %w", word, class, err)
	}
	rows := make([]float32, n*b.TextWidth)
	for _, slot := range encoding.Slots {
		id := int(encoding.IDs[slot.Position])
		copy(rows[slot.Vector*b.TextWidth:], b.table[id*b.TextWidth:][:b.TextWidth])
	}
	return rows, nil
}

// Close releases the folder.
func (b *Base) Close() error { return b.folder.Close() }

// flattened maps each path with "_" for "." to the path: kohya's names.
func flattened(shapes map[string][]int) map[string]string {
	flat := map[string]string{}
	for path := range shapes {
		flat[strings.ReplaceAll(path, ".", "_")] = path
	}
	return flat
}

// width is what a layer of the weight shape reads and writes; ok is false for anything but a linear layer and a 1×1 convolution.
func width(shape []int) (in, out int, ok bool) {
	if len(shape) != 2 && !(len(shape) == 4 && slices.Equal(shape[2:], []int{1, 1})) {
		return 0, 0, false
	}
	return shape[1], shape[0], true
}
