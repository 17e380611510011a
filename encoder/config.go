package encoder

import (
	"fmt"
	"strings"

	"likeness/models/config"
)

const className = "LikenessEncoder"

// Config is the encoder's config.json.
type Config struct {
	Class string `json:"_class_name"`

	ImageSize        int   `json:"image_size"`         // side of the aligned photos, in pixels
	PatchSize        int   `json:"patch_size"`         // of the pieces that the trunk's first convolution cuts a photo into
	BlockOutChannels []int `json:"block_out_channels"` // of the convolutional trunk, each level at half the size of the one before
	NormNumGroups    int   `json:"norm_num_groups"`
	PlaceChannels    int   `json:"place_channels"` // of each place of a photo in the summary
	HiddenSize       int   `json:"hidden_size"`    // of the summary that the heads read

	NumVectors      int      `json:"num_vectors"`         // words that a concept becomes
	TextWidth       int      `json:"cross_attention_dim"` // of a word embedding
	Rank            int      `json:"rank"`
	NumCoefficients int      `json:"num_coefficients"` // for each target
	Targets         []string `json:"target_modules"`   // ends of the paths of the UNet's linear layers that offsets act on
}

// Default is the architecture of the bundled encoder for a text encoder of the given width.
func Default(textWidth int) Config {
	return Config{Class: className, ImageSize: 128, PatchSize: 4, BlockOutChannels: []int{48, 96, 192}, NormNumGroups: 16,
		PlaceChannels: 32, HiddenSize: 512, NumVectors: 2, TextWidth: textWidth, Rank: 4, NumCoefficients: 16,
		Targets: []string{"attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0", "time_emb_proj"}}
}

// ParseConfig reads a config.json; an unknown or contradictory key is an error that names it.
func ParseConfig(data []byte) (Config, error) {
	c := Config{Class: className}
	if err := config.Parse(data, className, &c, nil); err != nil {
		return Config{}, err
	}
	return c, c.check()
}

func (c Config) check() error {
	n := len(c.BlockOutChannels)
	if n == 0 || len(c.Targets) == 0 {
		return fmt.Errorf("block_out_channels and target_modules must not be empty")
	}
	for i, ch := range c.BlockOutChannels {
		if c.NormNumGroups < 1 || ch < 1 || ch%c.NormNumGroups != 0 {
			return fmt.Errorf("block_out_channels[%d]: %d is no multiple of norm_num_groups %d", i, ch, c.NormNumGroups)
		}
	}
	if c.PatchSize < 1 {
		return fmt.Errorf("patch_size: %d is not positive", c.PatchSize)
	}
	if place := c.PatchSize << (n - 1); c.ImageSize < place || c.ImageSize%place != 0 {
		return fmt.Errorf("image_size: %d is no multiple of %d", c.ImageSize, place)
	}
	if min(c.PlaceChannels, c.HiddenSize, c.NumVectors, c.TextWidth, c.Rank, c.NumCoefficients) < 1 {
		return fmt.Errorf("sizes of the encoder must be positive")
	}
	return nil
}

// width is the number of channels that the trunk ends with.
func (c Config) width() int { return c.BlockOutChannels[len(c.BlockOutChannels)-1] }

// places is the number of places of one photo that the trunk ends with.
func (c Config) places() int {
	side := c.ImageSize / (c.PatchSize << (len(c.BlockOutChannels) - 1))
	return side * side
}

// IsTarget tells whether offsets act on the UNet's linear layer of this path.
func (c Config) IsTarget(path string) bool {
	for _, end := range c.Targets {
		if strings.HasSuffix(path, "."+end) {
			return true
		}
	}
	return false
}
