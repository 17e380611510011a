package exchange

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"likeness/encoder/concept"
	"likeness/models/checkpoint"
	"likeness/models/safetensors"
)

// Write writes the adapter for the base to path, float32, in the format. A word goes into a file of its own, in the format Embedding: the
// formats of LoRA have no place for one that every program reads.
func (a *Adapter) Write(path string, f Format, base *Base) error {
	tensors, meta, err := a.encode(f, base)
	if err != nil {
		return err
	}
	return safetensors.Write(path, tensors, meta)
}

// Marshal is the file that Write writes.
func (a *Adapter) Marshal(f Format, base *Base) ([]byte, error) {
	tensors, meta, err := a.encode(f, base)
	if err != nil {
		return nil, err
	}
	return safetensors.Marshal(tensors, meta)
}

func (a *Adapter) encode(f Format, base *Base) (tensors map[string]safetensors.Tensor, meta map[string]string, err error) {
	meta = map[string]string{"format": "pt", metaWord: a.Word, metaClass: a.Class, metaBase: base.Fingerprint}
	if f != Embedding && len(a.LoRA) == 0 {
		return nil, nil, unfit("<%s> changes no layers: export it as %s", a.Word, Embedding)
	}
	switch f {
	case Kohya:
		tensors = a.kohya(base, meta)
	case Diffusers:
		tensors = a.diffusers(base)
	case Embedding:
		n := len(a.Embeddings) / base.TextWidth
		if n == 0 {
			return nil, nil, unfit("<%s> has no word of its own: export it as %s, %s or %s", a.Word, Kohya, Diffusers, Merged)
		}
		tensors = a.word(base, n)
	case Merged:
		meta = map[string]string{"format": "pt"}
		tensors, err = a.merged(base)
	default:
		err = unfit("format %q: known are %s, %s, %s and %s", f, Kohya, Diffusers, Embedding, Merged)
	}
	return tensors, meta, err
}

// word is one tensor [n, width], or for SDXL one for each text encoder.
func (a *Adapter) word(base *Base, n int) map[string]safetensors.Tensor {
	names := []string{"<" + a.Word + ">"}
	if len(base.words) == len(wordKeys) {
		names = wordKeys
	}
	tensors := map[string]safetensors.Tensor{}
	first := 0
	for i, w := range base.words {
		var values []float32
		for row := range n {
			values = append(values, a.Embeddings[row*base.TextWidth+first:][:w.width]...)
		}
		tensors[names[i]] = safetensors.F32(values, n, w.width)
		first += w.width
	}
	return tensors
}

// FormatError says why something cannot be written in a format: the caller's fault.
type FormatError struct{ Reason string }

func (e *FormatError) Error() string { return e.Reason }

func unfit(format string, args ...any) error { return &FormatError{fmt.Sprintf(format, args...)} }

// each calls visit with every delta and the shape of its layer's weight.
func (a *Adapter) each(base *Base, visit func(component, path string, d concept.Delta, shape []int)) {
	for component, deltas := range a.LoRA {
		for path, d := range deltas {
			visit(component, path, d, base.Shapes[component][path])
		}
	}
}

// halves are down [rank, in] and up [out, rank] as published, with two axes more where the layer is a convolution.
func halves(d concept.Delta, shape []int) (down, up safetensors.Tensor) {
	transposed := make([]float32, len(d.Up))
	for k := range d.Rank {
		for o := range d.Out {
			transposed[o*d.Rank+k] = d.Up[k*d.Out+o]
		}
	}
	more := shape[2:]
	return safetensors.F32(d.Down, append([]int{d.Rank, d.In}, more...)...), safetensors.F32(transposed, append([]int{d.Out, d.Rank}, more...)...)
}

// kohya gives every layer the same alpha, the highest rank: diffusers (0.42) mixes up alphas that differ between layers.
func (a *Adapter) kohya(base *Base, meta map[string]string) map[string]safetensors.Tensor {
	tensors := map[string]safetensors.Tensor{}
	highest := 0
	a.each(base, func(_, _ string, d concept.Delta, _ []int) { highest = max(highest, d.Rank) })
	a.each(base, func(c, path string, d concept.Delta, shape []int) {
		name := base.kohyaName(c, path)
		d = scaled(d, float32(d.Rank)/float32(highest))
		tensors[name+".lora_down.weight"], tensors[name+".lora_up.weight"] = halves(d, shape)
		tensors[name+".alpha"] = safetensors.F32([]float32{float32(highest)})
	})
	meta["ss_network_module"] = "networks.lora"
	meta["ss_network_dim"], meta["ss_network_alpha"] = strconv.Itoa(highest), strconv.Itoa(highest)
	return tensors
}

// scaled is the delta times the factor.
func scaled(d concept.Delta, factor float32) concept.Delta {
	d.Up = slices.Clone(d.Up)
	for i := range d.Up {
		d.Up[i] *= factor
	}
	return d
}

func (a *Adapter) diffusers(base *Base) map[string]safetensors.Tensor {
	tensors := map[string]safetensors.Tensor{}
	a.each(base, func(c, path string, d concept.Delta, shape []int) {
		name := c + "." + path
		tensors[name+".lora_A.weight"], tensors[name+".lora_B.weight"] = halves(d, shape)
	})
	return tensors
}

// merged are the weights of the base's UNet, in the types of its files, with the deltas added.
func (a *Adapter) merged(base *Base) (map[string]safetensors.Tensor, error) {
	for _, n := range networks[1:] {
		if layers := len(a.LoRA[n.component]); layers > 0 {
			return nil, unfit("<%s> changes %d layers of the %s, which merged weights of the UNet cannot hold", a.Word, layers, n.name)
		}
	}
	unet, err := base.folder.Component(checkpoint.UNet)
	if err != nil {
		return nil, err
	}
	tensors := map[string]safetensors.Tensor{}
	for _, name := range unet.Names() {
		path, _ := strings.CutSuffix(name, ".weight")
		info, _ := unet.Info(name)
		values, shape, err := unet.Float32(name)
		if err != nil {
			return nil, err
		}
		if d, ok := a.LoRA[checkpoint.UNet][path]; ok && path != name {
			addTo(values, d)
		}
		tensors[name] = safetensors.Float(info.DType, values, shape...)
	}
	return tensors, nil
}

// addTo adds up·down to a weight [out, in].
func addTo(weight []float32, d concept.Delta) {
	for k := range d.Rank {
		down := d.Down[k*d.In:][:d.In]
		for o, scale := range d.Up[k*d.Out:][:d.Out] {
			row := weight[o*d.In:][:d.In]
			for i, v := range down {
				row[i] += scale * v
			}
		}
	}
}
