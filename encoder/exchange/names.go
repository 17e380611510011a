package exchange

import (
	"strings"

	"likeness/models/checkpoint"
)

// part is the tensor's place in a layer's change.
type part int

const (
	down part = iota
	up
	alpha
)

// endings are the spellings of a layer's tensors: sd-scripts, PEFT, diffusers' training scripts, diffusers' old attention processors.
var endings = []struct {
	end  string
	part part
}{
	{".lora_down.weight", down}, {".lora_up.weight", up}, {".alpha", alpha},
	{".lora_A.weight", down}, {".lora_B.weight", up}, {".lora_A.default.weight", down}, {".lora_B.default.weight", up},
	{".lora.down.weight", down}, {".lora.up.weight", up},
	{".lora_linear_layer.down.weight", down}, {".lora_linear_layer.up.weight", up},
	{"_lora.down.weight", down}, {"_lora.up.weight", up},
}

// Why tensors of other methods cannot be read.
const (
	noLoHa        = "LyCORIS LoHa is a product of low-rank matrices, not a LoRA: convert it to a LoRA first"
	noLoKr        = "LyCORIS LoKr is a Kronecker product, not a LoRA: convert it to a LoRA first"
	noOFT         = "OFT rotates weights, which is no low-rank sum"
	noTucker      = "a Tucker decomposition (LoCon) acts on convolutions larger than 1×1, which offsets do not reach"
	noDoRA        = "DoRA scales the base's weights, which is no low-rank sum"
	noGLoRA       = "GLoRA multiplies the base's weights, which is no low-rank sum"
	noIA3         = "(IA)³ scales activations, which is no low-rank sum"
	noDifference  = "full-rank differences are no LoRA"
	noBias        = "changes of biases are not read"
	noIPAdapter   = "this is an IP-Adapter, which reads pictures: it is no LoRA"
	noNumbers     = "the names of cloneofsimo/lora number the layers: convert the file to kohya's or diffusers' names"
	noTransformer = "the layer belongs to a diffusion transformer (SD 3, Flux), not to Stable Diffusion"
)

// A mark in a key that does not end as a LoRA's, or at the start of any key, tells another method.
var (
	marks = []struct{ mark, reason string }{
		{"hada_w", noLoHa}, {"hada_t", noLoHa}, {"lokr_", noLoKr}, {".oft_", noOFT}, {"oft_blocks", noOFT}, {"oft_diag", noOFT},
		{".lora_mid.", noTucker}, {"dora_scale", noDoRA}, {"lora_magnitude_vector", noDoRA}, {".b1.weight", noGLoRA}, {".on_input", noIA3},
		{".diff", noDifference}, {".w_norm", noDifference}, {".b_norm", noDifference}, {".lora_B.bias", noBias},
	}
	starts = []struct{ mark, reason string }{
		{"image_proj.", noIPAdapter}, {"ip_adapter.", noIPAdapter}, {"text_encoder:", noNumbers}, {"unet:", noNumbers},
		{"transformer.", noTransformer}, {"lora_unet_double_blocks_", noTransformer}, {"lora_unet_single_blocks_", noTransformer},
		{"lora_unet_joint_blocks_", noTransformer},
	}
)

// refusal is why no tensor of this name is read, or empty.
func refusal(key string) string {
	if _, _, ok := split(key); !ok {
		for _, f := range marks {
			if strings.Contains(key, f.mark) {
				return f.reason
			}
		}
	}
	for _, f := range starts {
		if strings.HasPrefix(key, f.mark) {
			return f.reason
		}
	}
	return ""
}

// isNetwork tells whether the key is a weight of a whole network.
func isNetwork(key string) bool {
	if _, _, ok := split(key); ok {
		return false
	}
	for _, start := range []string{"model.diffusion_model.", "conv_in.", "down_blocks.", "text_model.", "first_stage_model.", "encoder."} {
		if strings.HasPrefix(key, start) && !strings.Contains(key, "lora") {
			return true
		}
	}
	return false
}

// isSDXL tells whether the key names a part that only the SDXL family has.
func isSDXL(key string) bool {
	for _, start := range []string{"lora_te1_", "lora_te2_", "text_encoder_2.", "lora_unet_input_blocks_", "lora_unet_output_blocks_",
		"lora_unet_middle_block_"} {
		if strings.HasPrefix(key, start) {
			return true
		}
	}
	return false
}

// names resolves the keys of LoRA files against a base.
type names struct {
	base  *Base
	kohya map[string]place // by kohya's name
}

// place is a layer of the base.
type place struct {
	component, path string
}

// newNames knows both of kohya's names of an SDXL layer: some trainers keep diffusers' there too.
func newNames(b *Base) names {
	n := names{b, map[string]place{}}
	for path := range b.Shapes[checkpoint.UNet] {
		n.kohya["lora_unet_"+strings.ReplaceAll(path, ".", "_")] = place{checkpoint.UNet, path}
	}
	for component, shapes := range b.Shapes {
		for path := range shapes {
			n.kohya[b.kohyaName(component, path)] = place{component, path}
		}
	}
	return n
}

// split takes a key apart into the layer's name as it is spelled and the part; ok is false where it is no LoRA's.
func split(key string) (layer string, p part, ok bool) {
	for _, e := range endings {
		if layer, ok := strings.CutSuffix(key, e.end); ok {
			return layer, e.part, true
		}
	}
	return "", 0, false
}

// resolve finds the layer that the name means; the path is empty where the base has none.
func (n names) resolve(layer string) place {
	if strings.HasPrefix(layer, "lora_") {
		return n.kohya[layer]
	}
	layer = strings.TrimPrefix(layer, "base_model.model.")
	if i := strings.Index(layer, ".processor."); i >= 0 {
		layer = layer[:i] + layer[i+len(".processor"):]
	}
	if strings.HasSuffix(layer, ".to_out") {
		layer += ".0"
	}
	for _, prefixed := range []bool{true, false} { // without a prefix it is the first text encoder's
		for _, network := range networks {
			rest, ok := layer, true
			if prefixed {
				rest, ok = strings.CutPrefix(layer, network.component+".")
			}
			if !ok {
				continue
			}
			for _, start := range []string{"", "text_model."} { // which transformers 5 leaves out
				if path := start + rest; n.base.Shapes[network.component][path] != nil {
					return place{network.component, path}
				}
			}
		}
	}
	return place{}
}
