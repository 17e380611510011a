// Package clip holds CLIP's text and vision transformers as Stable Diffusion's checkpoints carry them.
package clip

import (
	"encoding/json"
	"fmt"

	"likeness/models/config"
)

// Config is the config.json of a CLIP text or vision model; keys that one of them lacks stay at their defaults.
type Config struct {
	HiddenSize       int     `json:"hidden_size"`
	IntermediateSize int     `json:"intermediate_size"`
	NumHiddenLayers  int     `json:"num_hidden_layers"`
	NumHeads         int     `json:"num_attention_heads"`
	HiddenAct        string  `json:"hidden_act"`
	LayerNormEps     float64 `json:"layer_norm_eps"`
	ProjectionDim    int     `json:"projection_dim"`

	// Text only.
	VocabSize             int `json:"vocab_size"`
	MaxPositionEmbeddings int `json:"max_position_embeddings"`
	EOSTokenID            int `json:"eos_token_id"`

	// Projection is whether the pooled state is projected to text_embeds: architectures names a CLIPTextModelWithProjection.
	Projection bool `json:"-"`

	// Vision only.
	ImageSize   int `json:"image_size"`
	PatchSize   int `json:"patch_size"`
	NumChannels int `json:"num_channels"`
}

// fixed lists keys of transformers that do not change what these models compute.
var fixed = map[string]string{
	"architectures": config.Any, "attention_dropout": config.Any, "bos_token_id": config.Any, "dropout": config.Any, "dtype": config.Any,
	"initializer_factor": config.Any, "initializer_range": config.Any, "model_type": config.Any, "pad_token_id": config.Any,
	"torch_dtype": config.Any, "transformers_version": config.Any, "gradient_checkpointing": config.Any, "use_cache": config.Any,
	"return_dict": config.Any, "output_attentions": config.Any, "output_hidden_states": config.Any, "tie_word_embeddings": config.Any,
	"is_encoder_decoder": "false", "add_cross_attention": "false", "chunk_size_feed_forward": "0", "problem_type": config.Any,
	"id2label": config.Any, "label2id": config.Any,
}

// TextDefault holds the values that transformers' CLIPTextConfig assumes for absent keys.
func TextDefault() Config {
	return Config{HiddenSize: 512, IntermediateSize: 2048, NumHiddenLayers: 12, NumHeads: 8, HiddenAct: "quick_gelu", LayerNormEps: 1e-5,
		ProjectionDim: 512, VocabSize: 49408, MaxPositionEmbeddings: 77, EOSTokenID: 49407}
}

// VisionDefault holds the values that transformers' CLIPVisionConfig assumes for absent keys.
func VisionDefault() Config {
	return Config{HiddenSize: 768, IntermediateSize: 3072, NumHiddenLayers: 12, NumHeads: 12, HiddenAct: "quick_gelu", LayerNormEps: 1e-5,
		ProjectionDim: 512, ImageSize: 224, PatchSize: 32, NumChannels: 3}
}

// ParseTextConfig reads the config.json of a CLIPTextModel or CLIPTextModelWithProjection, OpenAI's or OpenCLIP's; an unknown or
// contradictory key is an error that names it.
func ParseTextConfig(data []byte) (Config, error) {
	c, err := parse(data, TextDefault())
	if err != nil {
		return Config{}, err
	}
	if c.VocabSize < 1 || c.MaxPositionEmbeddings < 1 {
		return Config{}, fmt.Errorf("vocab_size and max_position_embeddings: %d and %d, must be positive", c.VocabSize, c.MaxPositionEmbeddings)
	}
	var named struct{ Architectures []string }
	if err := json.Unmarshal(data, &named); err != nil {
		return Config{}, fmt.Errorf("architectures: %w", err)
	}
	for _, class := range named.Architectures {
		switch class {
		case textModel:
		case projectedTextModel:
			c.Projection = true
		default:
			return Config{}, fmt.Errorf("architectures: %q, known are %s and %s", class, textModel, projectedTextModel)
		}
	}
	if c.Projection && c.ProjectionDim < 1 {
		return Config{}, fmt.Errorf("projection_dim: %d, must be positive", c.ProjectionDim)
	}
	return c, nil
}

// The classes that transformers writes as a text encoder's architectures.
const (
	textModel          = "CLIPTextModel"
	projectedTextModel = "CLIPTextModelWithProjection"
)

// ParseVisionConfig reads the config.json of a CLIPVisionModelWithProjection.
func ParseVisionConfig(data []byte) (Config, error) {
	c, err := parse(data, VisionDefault())
	if err == nil && (c.PatchSize < 1 || c.ImageSize%c.PatchSize != 0) {
		err = fmt.Errorf("image_size %d is no multiple of patch_size %d", c.ImageSize, c.PatchSize)
	}
	return c, err
}

func parse(data []byte, c Config) (Config, error) {
	if err := config.Parse(data, "CLIP", &c, fixed); err != nil {
		return Config{}, err
	}
	if c.NumHeads < 1 || c.HiddenSize%c.NumHeads != 0 {
		return Config{}, fmt.Errorf("num_attention_heads: %d do not divide hidden_size %d", c.NumHeads, c.HiddenSize)
	}
	if c.HiddenSize < 1 || c.IntermediateSize < 1 || c.NumHiddenLayers < 1 {
		return Config{}, fmt.Errorf("hidden_size, intermediate_size and num_hidden_layers must be positive")
	}
	switch c.HiddenAct {
	case "gelu", "quick_gelu", "silu", "swish":
		return c, nil
	}
	return Config{}, fmt.Errorf("hidden_act: %q, known are gelu, quick_gelu and silu", c.HiddenAct)
}

// TextJSON is the config.json of a text model with this configuration.
func (c Config) TextJSON() ([]byte, error) {
	class := textModel
	if c.Projection {
		class = projectedTextModel
	}
	return json.MarshalIndent(map[string]any{
		"architectures": []string{class}, "model_type": "clip_text_model", "hidden_size": c.HiddenSize,
		"intermediate_size": c.IntermediateSize, "num_hidden_layers": c.NumHiddenLayers, "num_attention_heads": c.NumHeads,
		"hidden_act": c.HiddenAct, "layer_norm_eps": c.LayerNormEps, "projection_dim": c.ProjectionDim, "vocab_size": c.VocabSize,
		"max_position_embeddings": c.MaxPositionEmbeddings, "eos_token_id": c.EOSTokenID,
	}, "", "  ")
}
