package exchange

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"likeness/models/checkpoint"
	"likeness/models/safetensors"
)

// Write writes the adapter for the base to path, float32, in the format. A word goes into a file of its own, in the format Embedding: the
// formats of LoRA have no place for one that every program reads.
func (a *Adapter) Write(path string, f Format, base *Base) error {
	var tensors map[string]safetensors.Tensor
	var err error
	meta := map[string]string{"format": "pt", metaWord: a.Word, metaClass: a.Class, metaBase: base.Fingerprint}
	if deltas := len(a.UNet) + len(a.Text); f != Embedding && deltas == 0 {
		return fmt.Errorf("<%s> changes no layers: export it as %s", a.Word, Embedding)
	}
	switch f {
	case Kohya:
		tensors = a.kohya(base, meta)
	case Diffusers:
		tensors = a.diffusers(base)
	case Embedding:
		n := len(a.Embeddings) / base.TextWidth
		if base.isSDXL {
			return fmt.Errorf("<%s>: a word for SDXL is one for each of its two text encoders, which concepts do not have", a.Word)
		}
		if n == 0 {
			return fmt.Errorf("<%s> has no word of its own: export it as %s, %s or %s", a.Word, Kohya, Diffusers, Merged)
		}
		tensors = map[string]safetensors.Tensor{"<" + a.Word + ">": safetensors.F32(a.Embeddings, n, base.TextWidth)}
	case Merged:
		meta = map[string]string{"format": "pt"}
		tensors, err = a.merged(base)
	default:
		err = fmt.Errorf("format %q: known are %s, %s, %s and %s", f, Kohya, Diffusers, Embedding, Merged)
	}
	if err != nil {
		return err
	}
	return safetensors.Write(path, tensors, meta)
}

// each calls visit with every delta and the shape of its layer's weight.
func (a *Adapter) each(base *Base, visit func(c component, path string, d Delta, shape []int)) {
	for path, d := range a.UNet {
		visit(inUNet, path, d, base.UNet[path])
	}
	for path, d := range a.Text {
		visit(inText, path, d, base.Text[path])
	}
}

// halves are down [rank, in] and up [out, rank] as published, with two axes more where the layer is a convolution.
func (d Delta) halves(shape []int) (down, up safetensors.Tensor) {
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
	a.each(base, func(_ component, _ string, d Delta, _ []int) { highest = max(highest, d.Rank) })
	a.each(base, func(c component, path string, d Delta, shape []int) {
		name := base.kohyaName(c, path)
		d = d.scaled(float32(d.Rank) / float32(highest))
		tensors[name+".lora_down.weight"], tensors[name+".lora_up.weight"] = d.halves(shape)
		tensors[name+".alpha"] = safetensors.F32([]float32{float32(highest)})
	})
	meta["ss_network_module"] = "networks.lora"
	meta["ss_network_dim"], meta["ss_network_alpha"] = strconv.Itoa(highest), strconv.Itoa(highest)
	return tensors
}

// scaled is the delta times the factor.
func (d Delta) scaled(factor float32) Delta {
	d.Up = slices.Clone(d.Up)
	for i := range d.Up {
		d.Up[i] *= factor
	}
	return d
}

func (a *Adapter) diffusers(base *Base) map[string]safetensors.Tensor {
	tensors := map[string]safetensors.Tensor{}
	a.each(base, func(c component, path string, d Delta, shape []int) {
		name := string(c) + "." + path
		tensors[name+".lora_A.weight"], tensors[name+".lora_B.weight"] = d.halves(shape)
	})
	return tensors
}

// merged are the weights of the base's UNet, in the types of its files, with the deltas added.
func (a *Adapter) merged(base *Base) (map[string]safetensors.Tensor, error) {
	if len(a.Text) > 0 {
		return nil, fmt.Errorf("<%s> changes %d layers of the text encoder, which merged weights of the UNet cannot hold", a.Word, len(a.Text))
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
		if d, ok := a.UNet[path]; ok && path != name {
			d.addTo(values)
		}
		switch info.DType {
		case safetensors.TypeF16:
			tensors[name] = safetensors.F16(values, shape...)
		case safetensors.TypeBF16:
			tensors[name] = safetensors.BF16(values, shape...)
		default:
			tensors[name] = safetensors.F32(values, shape...)
		}
	}
	return tensors, nil
}

// addTo adds up·down to a weight [out, in].
func (d Delta) addTo(weight []float32) {
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
