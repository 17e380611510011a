package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"likeness/models/safetensors"
)

// isSingle tells whether path is a file, not a folder.
func isSingle(path string) bool {
	stat, err := os.Stat(path)
	return err == nil && stat.Mode().IsRegular()
}

// parts are the networks of a single file.
func (k ldmKind) parts() []string {
	parts := []string{UNet, VAE, TextEncoder, TextEncoder2}
	return parts[:2+len(k.texts)]
}

// tokenizers are the folders that must lie beside a single file, which carries no words.
func (k ldmKind) tokenizers() []string { return []string{Tokenizer, Tokenizer2}[:len(k.texts)] }

// openSingle opens a single-file checkpoint as if it were a folder.
func openSingle(path string) (*Folder, error) {
	l, err := openLDM(path)
	if err != nil {
		return nil, err
	}
	l.Close() // each component opens it for itself
	f := &Folder{path: path, class: l.kind.class, components: map[string]*Component{}}
	var errs []error
	for _, name := range slices.Concat(l.kind.parts(), []string{Scheduler}, l.kind.tokenizers()) {
		c, err := openPart(path, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f.components[name] = c
	}
	if len(errs) > 0 {
		f.Close()
		return nil, errors.Join(errs...)
	}
	return f, nil
}

// openLDM opens and recognises a single file.
func openLDM(path string) (*ldmFile, error) {
	file, err := safetensors.Open(path)
	if err != nil {
		if isPickle(path) {
			err = &KindError{path, pickleReason}
		}
		return nil, err
	}
	kind, err := recognise(file)
	if err != nil {
		file.Close()
		return nil, err
	}
	return &ldmFile{File: file, kind: kind}, nil
}

const pickleReason = "this is a pickle, whatever its name, and a pickle can run any program while it is read: convert it to safetensors"

// isPickle tells Python's serialised objects, plain or in a ZIP, by their first bytes.
func isPickle(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 4)
	if _, err := f.Read(head); err != nil {
		return false
	}
	return string(head) == "PK\x03\x04" || head[0] == 0x80 && head[1] >= 2 && head[1] <= 5
}

// openPart opens one component of a single file: of a network, the weights' places in the file; of a tokenizer, its folder beside the file.
func openPart(path, name string) (*Component, error) {
	l, err := openLDM(path)
	if err != nil {
		return nil, err
	}
	c := &Component{path: filepath.Join(path, name), sources: map[string]source{}, files: []*safetensors.File{l.File}}
	switch {
	case slices.Contains(l.kind.parts(), name):
		err = c.fromLDM(l, name)
	case name == Scheduler:
		c.config, err = l.schedulerConfig()
	case slices.Contains(l.kind.tokenizers(), name):
		c.Close()
		return tokenizerBeside(path, name)
	default:
		err = &MissingError{Path: path, Parts: []string{name}}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func tokenizerBeside(path, name string) (*Component, error) {
	dir := filepath.Join(filepath.Dir(path), name)
	missing := &MissingError{Path: path}
	for _, file := range []string{"vocab.json", "merges.txt"} {
		if !exists(filepath.Join(dir, file)) {
			missing.Parts = append(missing.Parts, filepath.Join(dir, file))
		}
	}
	if len(missing.Parts) == 0 {
		return OpenComponent(dir)
	}
	return nil, fmt.Errorf("%w: a single file carries no words: copy the folder %s of the same model's diffusers folder beside it", missing, name)
}

// fromLDM fills in a network's configuration and weights.
func (c *Component) fromLDM(l *ldmFile, name string) error {
	var config map[string]any
	var prefix string
	var rename func(string) string
	open := false
	switch name {
	case UNet:
		layers := l.layers()
		prefix, config, rename = ldmUNet, l.unetConfig(), func(s string) string { return unetName(s, layers) }
	case VAE:
		levels := l.count(ldmVAE + "decoder.up.")
		prefix, config, rename = ldmVAE, l.vaeConfig(), func(s string) string { return vaeName(s, levels) }
	default:
		at := slices.Index([]string{TextEncoder, TextEncoder2}, name)
		prefix, config, open = l.kind.texts[at], l.textConfig(at), at == l.kind.openAt
		rename = func(s string) string { return s }
		if !l.has(prefix + "text_model.embeddings.token_embedding.weight") {
			rename = func(s string) string { return "text_model." + s }
		}
	}
	if len(l.missing) > 0 {
		slices.Sort(l.missing)
		return &MissingError{Path: l.Path(), Parts: slices.Compact(l.missing)}
	}
	var err error
	if c.config, err = json.Marshal(config); err != nil {
		return fmt.Errorf("%s: %w", c.path, err)
	}
	for _, full := range l.Names() {
		inner, ok := strings.CutPrefix(full, prefix)
		if !ok {
			continue
		}
		s, err := l.place(full)
		if err != nil {
			return err
		}
		if open {
			err = c.addOpenText(inner, s, config)
		} else {
			s.squeeze(rename(inner))
			err = c.add(rename(inner), s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add notes a weight's place.
func (c *Component) add(name string, s source) error {
	if strings.HasSuffix(name, positionIDs) {
		return nil
	}
	if _, twice := c.sources[name]; twice {
		return fmt.Errorf("%s: weight %q is there twice", s.file.Path(), name)
	}
	c.sources[name] = s
	return nil
}

func (l *ldmFile) place(name string) (source, error) {
	info, ok := l.Info(name)
	if !ok {
		return source{}, fmt.Errorf("%s: no tensor %q", l.Path(), name)
	}
	return source{l.File, info}, nil
}

// squeeze makes a linear layer of a 1×1 convolution, whose bytes are the same: the attention of VAEs is stored as convolutions.
func (s *source) squeeze(name string) {
	shape := s.info.Shape
	if strings.Contains(name, "mid_block.attentions.0.to_") && len(shape) > 2 && !slices.ContainsFunc(shape[2:], func(n int) bool { return n != 1 }) {
		s.info.Shape = shape[:2]
	}
}

// addOpenText adds a weight of an OpenCLIP text encoder, whose query, key and value are rows of one matrix.
func (c *Component) addOpenText(inner string, s source, config map[string]any) error {
	name := openTextName(inner)
	last := fmt.Sprintf("text_model.encoder.layers.%d.", config["num_hidden_layers"])
	projects := config["architectures"].([]string)[0] == "CLIPTextModelWithProjection"
	switch {
	case inner == "logit_scale" || inner == "attn_mask" || strings.HasPrefix(name, last) || inner == "text_projection" && !projects:
		return nil // not read
	case inner == "text_projection":
		return c.addTransposed(name, s)
	}
	path, kind, fused := strings.Cut(name, "in_proj_")
	if !fused {
		return c.add(name, s)
	}
	shape := s.info.Shape
	if len(shape) == 0 || shape[0]%3 != 0 {
		return &KindError{s.file.Path(), fmt.Sprintf("tensor %q of shape %v is no query, key and value", s.info.Name, shape)}
	}
	for i, projection := range []string{"q_proj.", "k_proj.", "v_proj."} {
		third := s
		third.info.Shape = slices.Concat([]int{shape[0] / 3}, shape[1:])
		third.info.Length = s.info.Length / 3
		third.info.Offset += int64(i) * third.info.Length
		if err := c.add(path+projection+kind, third); err != nil {
			return err
		}
	}
	return nil
}

// addTransposed adds a matrix [n, m] as [m, n], which no place in the file is: the one tensor of a single file that is copied, into a
// temporary file that goes with the Component. Who has opened it before then keeps what it read.
func (c *Component) addTransposed(name string, s source) error {
	t, err := s.file.Tensor(s.info.Name)
	if err != nil {
		return err
	}
	if len(t.Shape) != 2 {
		return &KindError{s.file.Path(), fmt.Sprintf("tensor %q has the shape %v, needs two dimensions", s.info.Name, t.Shape)}
	}
	n, m, size := t.Shape[0], t.Shape[1], t.DType.Size()
	turned := make([]byte, len(t.Data))
	for i := range n {
		for j := range m {
			copy(turned[(j*n+i)*size:][:size], t.Data[(i*m+j)*size:])
		}
	}
	if c.temporary, err = os.MkdirTemp("", "likeness-"); err != nil {
		return err
	}
	path := filepath.Join(c.temporary, "transposed.safetensors")
	copied := map[string]safetensors.Tensor{name: {DType: t.DType, Shape: []int{m, n}, Data: turned}}
	if err := safetensors.Write(path, copied, nil); err != nil {
		return err
	}
	file, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	c.files = append(c.files, file)
	info, _ := file.Info(name)
	return c.add(name, source{file, info})
}
