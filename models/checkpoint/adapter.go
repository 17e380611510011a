package checkpoint

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"likeness/models/safetensors"
)

// Adapter is an open IP-Adapter: one safetensors file, as it is published.
type Adapter struct {
	ImageProj *Component // "image_proj.": what makes image tokens of an image encoder's states
	Attention *Component // "ip_adapter.": keys and values of the UNet's attention

	file *safetensors.File
}

// OpenAdapter opens the IP-Adapter at path. A file of another kind is a *KindError. The caller closes the Adapter.
func OpenAdapter(path string) (*Adapter, error) {
	file, err := safetensors.Open(path)
	if err != nil {
		if isPickle(path) {
			err = &KindError{path, pickleReason + "; the .safetensors of the same name is published beside most of them"}
		}
		return nil, err
	}
	a := &Adapter{file: file}
	if a.ImageProj, err = below(file, "image_proj."); err == nil {
		a.Attention, err = below(file, "ip_adapter.")
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return a, nil
}

// below is the component of the tensors whose names begin with prefix, which is taken off.
func below(file *safetensors.File, prefix string) (*Component, error) {
	c := &Component{path: file.Path(), sources: map[string]source{}}
	for _, name := range file.Names() {
		if inner, ok := strings.CutPrefix(name, prefix); ok {
			info, _ := file.Info(name)
			c.sources[inner] = source{file, info}
		}
	}
	if len(c.sources) > 0 {
		return c, nil
	}
	for _, other := range others {
		is := func(name string) bool { return strings.HasPrefix(name, other.prefix) }
		if other.what != adapterKind && slices.ContainsFunc(file.Names(), is) {
			return nil, &KindError{file.Path(), "this is no IP-Adapter but " + other.what}
		}
	}
	return nil, &KindError{file.Path(), fmt.Sprintf("this is no whole IP-Adapter: no tensor's name begins with %q", prefix)}
}

// Close releases the file.
func (a *Adapter) Close() error { return a.file.Close() }

// With is the component with the weights of others too, below their names: those of others["x"] are "x/…". It is whole while c and the
// others are open, and need not be closed.
func (c *Component) With(others map[string]*Component) *Component {
	joined := &Component{path: c.path, config: c.config, sources: maps.Clone(c.sources)}
	for name, other := range others {
		for weight, s := range other.sources {
			joined.sources[name+"/"+weight] = s
		}
	}
	return joined
}
