package checkpoint

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"likeness/models/safetensors"
)

// A single-file checkpoint holds all networks of a Stable Diffusion in one safetensors file, under the names of the original latent
// diffusion code (LDM). Each network is the part below a prefix, and the text encoder's prefix says which Stable Diffusion it is.
const (
	ldmUNet       = "model.diffusion_model."
	ldmVAE        = "first_stage_model."
	ldmText       = "cond_stage_model.transformer." // Stable Diffusion 1: CLIP in transformers' names
	ldmOpenText   = "cond_stage_model.model."       // Stable Diffusion 2: OpenCLIP
	ldmXLText     = "conditioner.embedders.0.transformer."
	ldmXLOpenText = "conditioner.embedders.1.model."
)

// ldmKind is a recognised kind of single file.
type ldmKind struct {
	name   string // for people
	class  string // the diffusers pipeline
	texts  []string
	openAt int // which of texts is OpenCLIP, -1: none
	size   int // of the pictures it was trained on, in pixels
}

var (
	kindSD1  = ldmKind{"Stable Diffusion 1", "StableDiffusionPipeline", []string{ldmText}, -1, 512}
	kindSD2  = ldmKind{"Stable Diffusion 2", "StableDiffusionPipeline", []string{ldmOpenText}, 0, 768}
	kindSDXL = ldmKind{"Stable Diffusion XL", "StableDiffusionXLPipeline", []string{ldmXLText, ldmXLOpenText}, 1, 1024}
)

const adapterKind = "an IP-Adapter: give it to --ip-adapter, beside the model it was made for"

// others are name prefixes that tell what a file is if it is no checkpoint of a supported kind.
var others = []struct{ prefix, what string }{
	{"conditioner.embedders.0.model.", "an SDXL refiner, which is no text-to-image model by itself"},
	{"model.diffusion_model.joint_blocks.", "a Stable Diffusion 3, which is not supported"},
	{"joint_blocks.", "a Stable Diffusion 3, which is not supported"},
	{"model.diffusion_model.double_blocks.", "a Flux, which is not supported"},
	{"double_blocks.", "a Flux, which is not supported"},
	{"control_model.", "a ControlNet, which is not supported"},
	{"lora_", "a LoRA: give it to --concept, beside the model it was made for"},
	{"unet.", "a LoRA: give it to --concept, beside the model it was made for"},
	{"down_blocks.", "a UNet in diffusers' names: put it into the unet folder of a model folder"},
	{"decoder.", "a VAE alone: convert it, and put it into the vae folder of a model folder"},
	{"text_model.", "a text encoder alone: put it into the text_encoder folder of a model folder"},
	{"vision_model.", "an image encoder alone: name its folder with --image-encoder, beside an IP-Adapter"},
	{"ip_adapter.", adapterKind},
	{"image_proj.", adapterKind},
	{"emb_params", "a textual-inversion embedding: give it to --concept, beside the model it was made for"},
}

// KindError says why a single file is not a checkpoint that can be opened.
type KindError struct {
	Path   string
	Reason string
}

func (e *KindError) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.Reason) }

// recognise tells a file's kind by its names.
func recognise(file *safetensors.File) (ldmKind, error) {
	names := file.Names()
	has := func(prefix string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, prefix) })
	}
	if has(ldmUNet + "input_blocks.") {
		for _, kind := range []ldmKind{kindSDXL, kindSD2, kindSD1} {
			if has(kind.texts[len(kind.texts)-1]) {
				return kind, nil
			}
		}
	}
	for _, other := range others {
		if has(other.prefix) {
			return ldmKind{}, &KindError{file.Path(), "this is " + other.what}
		}
	}
	if has(ldmUNet + "input_blocks.") {
		return ldmKind{}, &KindError{file.Path(), fmt.Sprintf("there is a UNet, but no text encoder: no tensor begins with %s, %s or %s",
			ldmText, ldmOpenText, ldmXLOpenText)}
	}
	return ldmKind{}, &KindError{file.Path(), fmt.Sprintf(
		"no checkpoint of Stable Diffusion 1, 2 or XL: none of its %d tensors begins with %sinput_blocks", len(names), ldmUNet)}
}

var (
	ldmBlock   = regexp.MustCompile(`^(input|output)_blocks\.(\d+)\.(\d+)\.(.+)$`)
	ldmResNet  = strings.NewReplacer("in_layers.0.", "norm1.", "in_layers.2.", "conv1.", "out_layers.0.", "norm2.", "out_layers.3.", "conv2.", "emb_layers.1.", "time_emb_proj.", "skip_connection.", "conv_shortcut.")
	ldmOutside = []struct{ ldm, diffusers string }{
		{"time_embed.0.", "time_embedding.linear_1."}, {"time_embed.2.", "time_embedding.linear_2."},
		{"time_embed.cond_proj.", "time_embedding.cond_proj."},
		{"label_emb.0.0.", "add_embedding.linear_1."}, {"label_emb.0.2.", "add_embedding.linear_2."},
		{"input_blocks.0.0.", "conv_in."}, {"out.0.", "conv_norm_out."}, {"out.2.", "conv_out."},
		{"middle_block.0.", "mid_block.resnets.0."}, {"middle_block.1.", "mid_block.attentions.0."}, {"middle_block.2.", "mid_block.resnets.1."},
	}
)

// unetName is diffusers' name of a UNet's weight; layers is layers_per_block.
func unetName(name string, layers int) string {
	for _, o := range ldmOutside {
		if rest, ok := strings.CutPrefix(name, o.ldm); ok {
			return o.diffusers + ldmResNet.Replace(rest)
		}
	}
	m := ldmBlock.FindStringSubmatch(name)
	if m == nil {
		return name
	}
	i, _ := strconv.Atoi(m[2])
	side := "up"
	if m[1] == "input" {
		side, i = "down", i-1
	}
	block, layer, rest := i/(layers+1), i%(layers+1), m[4]
	switch {
	case strings.HasPrefix(rest, "op."):
		return fmt.Sprintf("down_blocks.%d.downsamplers.0.conv.%s", block, rest[len("op."):])
	case strings.HasPrefix(rest, "conv."):
		return fmt.Sprintf("up_blocks.%d.upsamplers.0.%s", block, rest)
	case m[3] == "0":
		return fmt.Sprintf("%s_blocks.%d.resnets.%d.%s", side, block, layer, ldmResNet.Replace(rest))
	}
	return fmt.Sprintf("%s_blocks.%d.attentions.%d.%s", side, block, layer, rest)
}

var (
	ldmLevel = regexp.MustCompile(`^((?:en|de)coder\.)(down|up)\.(\d+)\.(block|downsample|upsample)\.(.+)$`)
	ldmInner = strings.NewReplacer(".norm_out.", ".conv_norm_out.", "nin_shortcut.", "conv_shortcut.", "mid.block_1.", "mid_block.resnets.0.",
		"mid.block_2.", "mid_block.resnets.1.", "mid.attn_1.norm.", "mid_block.attentions.0.group_norm.",
		"mid.attn_1.q.", "mid_block.attentions.0.to_q.", "mid.attn_1.k.", "mid_block.attentions.0.to_k.",
		"mid.attn_1.v.", "mid_block.attentions.0.to_v.", "mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0.")
)

// vaeName is diffusers' name of a VAE's weight; LDM counts the decoder's levels from the finest, diffusers from the coarsest.
func vaeName(name string, levels int) string {
	name = ldmInner.Replace(name)
	m := ldmLevel.FindStringSubmatch(name)
	if m == nil {
		return name
	}
	level, _ := strconv.Atoi(m[3])
	if m[2] == "up" {
		level = levels - 1 - level
	}
	kind := map[string]string{"block": "resnets.", "downsample": "downsamplers.0.", "upsample": "upsamplers.0."}[m[4]]
	return fmt.Sprintf("%s%s_blocks.%d.%s%s", m[1], m[2], level, kind, m[5])
}

var openText = strings.NewReplacer("transformer.resblocks.", "text_model.encoder.layers.", ".ln_1.", ".layer_norm1.", ".ln_2.", ".layer_norm2.",
	".mlp.c_fc.", ".mlp.fc1.", ".mlp.c_proj.", ".mlp.fc2.", ".attn.", ".self_attn.", "ln_final.", "text_model.final_layer_norm.")

// openTextName is transformers' name of an OpenCLIP text encoder's weight.
func openTextName(name string) string {
	switch name {
	case "positional_embedding":
		return "text_model.embeddings.position_embedding.weight"
	case "token_embedding.weight":
		return "text_model.embeddings.token_embedding.weight"
	case "text_projection":
		return "text_projection.weight"
	}
	return openText.Replace(name)
}
