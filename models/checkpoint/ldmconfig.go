package checkpoint

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"likeness/models/safetensors"
)

// ldmFile derives, from the names and shapes of a single file, the configurations that a diffusers folder spells out.
type ldmFile struct {
	*safetensors.File
	kind    ldmKind
	missing []string // tensors that the configurations are derived from and that are not there
}

// shape is a tensor's; where it is missing it is noted and zeros are returned.
func (l *ldmFile) shape(name string, rank int) []int {
	info, ok := l.Info(name)
	if !ok || len(info.Shape) < rank {
		l.missing = append(l.missing, name)
		return make([]int, rank)
	}
	return info.Shape
}

func (l *ldmFile) has(name string) bool {
	_, ok := l.Info(name)
	return ok
}

// count is one more than the largest number that stands between prefix and a dot.
func (l *ldmFile) count(prefix string) int {
	number := regexp.MustCompile("^" + regexp.QuoteMeta(prefix) + `(\d{1,4})\.`)
	n := 0
	for _, name := range l.Names() {
		if m := number.FindStringSubmatch(name); m != nil {
			i, _ := strconv.Atoi(m[1])
			n = max(n, i+1)
		}
	}
	return n
}

// layers is the UNet's layers_per_block: the first level ends with a downsampler.
func (l *ldmFile) layers() int {
	blocks := l.count(ldmUNet + "input_blocks.")
	for i := 1; i < blocks; i++ {
		if l.has(fmt.Sprintf("%sinput_blocks.%d.0.op.weight", ldmUNet, i)) {
			return i - 1
		}
	}
	return max(blocks-1, 0)
}

// level is what is seen of one resolution of the UNet.
type level struct{ channels, depth int } // depth of the transformers, 0: no attention

func (l *ldmFile) levels() []level {
	layers := l.layers()
	var levels []level
	for i := 1; i < l.count(ldmUNet+"input_blocks."); i += layers + 1 {
		block := fmt.Sprintf("%sinput_blocks.%d.", ldmUNet, i)
		levels = append(levels, level{l.shape(block+"0.out_layers.3.weight", 4)[0], l.count(block + "1.transformer_blocks.")})
	}
	return levels
}

// headWidth is the width of an attention head in every network that does not have a fixed count of them.
const headWidth = 64

func (l *ldmFile) unetConfig() map[string]any {
	const attention = "middle_block.1."
	in := l.shape(ldmUNet+"input_blocks.0.0.weight", 4)
	linear := len(l.shape(ldmUNet+attention+"proj_in.weight", 2)) == 2
	context := l.shape(ldmUNet+attention+"transformer_blocks.0.attn2.to_k.weight", 2)[1]
	levels := l.levels()
	var channels, heads, depths []int
	down, up := []string{}, make([]string, len(levels))
	for i, v := range levels {
		cross := ""
		if v.depth > 0 {
			cross = "CrossAttn"
		}
		down, up[len(levels)-1-i] = append(down, cross+"DownBlock2D"), cross+"UpBlock2D"
		if i == len(levels)-1 {
			v.depth = l.count(ldmUNet + attention + "transformer_blocks.")
		}
		channels, depths = append(channels, v.channels), append(depths, max(v.depth, 1))
		if linear {
			heads = append(heads, max(v.channels/headWidth, 1))
		} else {
			heads = append(heads, 8)
		}
	}
	config := map[string]any{
		"_class_name": "UNet2DConditionModel", "sample_size": l.size() / 8, "in_channels": in[1],
		"out_channels": l.shape(ldmUNet+"out.2.weight", 4)[0], "down_block_types": down, "up_block_types": up, "block_out_channels": channels,
		"layers_per_block": l.layers(), "cross_attention_dim": context, "attention_head_dim": heads, "use_linear_projection": linear,
		"transformer_layers_per_block": depths,
	}
	if name := ldmUNet + "label_emb.0.0.weight"; l.has(name) {
		config["addition_embed_type"], config["addition_time_embed_dim"] = "text_time", 256
		config["projection_class_embeddings_input_dim"] = l.shape(name, 2)[1]
	}
	if name := ldmUNet + "time_embed.cond_proj.weight"; l.has(name) {
		config["time_cond_proj_dim"] = l.shape(name, 2)[1]
	}
	return config
}

func (l *ldmFile) vaeConfig() map[string]any {
	var channels []int
	var down, up []string
	for i := range l.count(ldmVAE + "encoder.down.") {
		channels = append(channels, l.shape(fmt.Sprintf("%sencoder.down.%d.block.0.conv1.weight", ldmVAE, i), 4)[0])
		down, up = append(down, "DownEncoderBlock2D"), append(up, "UpDecoderBlock2D")
	}
	scale := 0.18215
	if l.kind.class == kindSDXL.class {
		scale = 0.13025
	}
	return map[string]any{
		"_class_name": "AutoencoderKL", "in_channels": l.shape(ldmVAE+"encoder.conv_in.weight", 4)[1],
		"out_channels":     l.shape(ldmVAE+"decoder.conv_out.weight", 4)[0],
		"latent_channels":  l.shape(ldmVAE+"decoder.conv_in.weight", 4)[1],
		"layers_per_block": l.count(ldmVAE + "encoder.down.0.block."), "block_out_channels": channels,
		"down_block_types": down, "up_block_types": up, "scaling_factor": scale, "sample_size": l.size(),
		"use_quant_conv": l.has(ldmVAE + "quant_conv.weight"), "use_post_quant_conv": l.has(ldmVAE + "post_quant_conv.weight"),
	}
}

// textConfig is of the text encoder at a place in kind.texts. The last layer of Stable Diffusion 2's is never read, and, as in its diffusers
// folder, not there.
func (l *ldmFile) textConfig(at int) map[string]any {
	prefix := l.kind.texts[at]
	config := map[string]any{"architectures": []string{"CLIPTextModel"}, "model_type": "clip_text_model", "eos_token_id": 2}
	table, fc1 := "embeddings.token_embedding.weight", "encoder.layers.0.mlp.fc1.weight"
	positions, layers, act := "embeddings.position_embedding.weight", "encoder.layers.", "quick_gelu"
	if at == l.kind.openAt {
		table, fc1, act = "token_embedding.weight", "transformer.resblocks.0.mlp.c_fc.weight", "gelu"
		positions, layers = "positional_embedding", "transformer.resblocks."
	} else if !l.has(prefix + table) { // some very old files lack it
		prefix += "text_model."
	}
	words := l.shape(prefix+table, 2)
	n := l.count(prefix + layers)
	config["projection_dim"] = words[1]
	if at == l.kind.openAt && len(l.kind.texts) == 1 {
		n--
	} else if at == l.kind.openAt {
		config["architectures"] = []string{"CLIPTextModelWithProjection"}
		config["projection_dim"] = l.shape(prefix+"text_projection", 2)[1]
	}
	config["vocab_size"], config["hidden_size"], config["hidden_act"] = words[0], words[1], act
	config["num_attention_heads"] = max(words[1]/headWidth, 1)
	config["intermediate_size"] = l.shape(prefix+fc1, 2)[0]
	config["max_position_embeddings"] = l.shape(prefix+positions, 2)[0]
	config["num_hidden_layers"] = n
	return config
}

// size is the side in pixels of the pictures that the file was trained on.
func (l *ldmFile) size() int {
	if l.kind.name == kindSD2.name && l.prediction() == "epsilon" {
		return 512
	}
	return l.kind.size
}

// prediction is what the file says about it, or, where it is silent, what most files of its kind predict.
func (l *ldmFile) prediction() string {
	said := l.Metadata()["modelspec.prediction_type"]
	switch {
	case l.has("v_pred") || strings.HasPrefix(said, "v"):
		return "v_prediction"
	case said == "epsilon":
		return said
	case l.kind.name == kindSD2.name && l.shape(ldmUNet+"input_blocks.0.0.weight", 4)[1] == 4:
		return "v_prediction"
	}
	return "epsilon"
}

// schedulerConfig is the file scheduler/scheduler_config.json beside the single file, or else the schedule that its kind is published with.
func (l *ldmFile) schedulerConfig() (json.RawMessage, error) {
	path := filepath.Join(filepath.Dir(l.Path()), Scheduler, "scheduler_config.json")
	data, err := os.ReadFile(path)
	if err == nil && !json.Valid(data) {
		return nil, fmt.Errorf("%s: not valid JSON", path)
	}
	if err == nil || !os.IsNotExist(err) {
		return data, err
	}
	config := map[string]any{
		"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
		"prediction_type": l.prediction(), "timestep_spacing": "leading", "steps_offset": 1,
	}
	switch l.kind.name {
	case kindSDXL.name:
		config["_class_name"], config["interpolation_type"], config["use_karras_sigmas"] = "EulerDiscreteScheduler", "linear", false
	case kindSD2.name:
		config["_class_name"], config["set_alpha_to_one"], config["clip_sample"] = "DDIMScheduler", false, false
	default:
		config["_class_name"], config["set_alpha_to_one"], config["skip_prk_steps"] = "PNDMScheduler", false, true
	}
	if l.has("ztsnr") {
		config["rescale_betas_zero_snr"], config["timestep_spacing"] = true, "trailing"
	}
	return json.Marshal(config)
}
