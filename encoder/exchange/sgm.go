package exchange

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"likeness/models/checkpoint"
)

// blockLayer takes apart the path of a layer in a UNet's block: direction, block, kind, place in the block, layer.
var blockLayer = regexp.MustCompile(`^(down|up|mid)_blocks?\.(?:(\d+)\.)?(resnets|attentions)\.(\d+)\.(.+)$`)

// sgmLayers are the layers of a residual block as Stability's generative-models names them, by diffusers' names.
var sgmLayers = map[string]string{"conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}

// sgmName is the name that a layer of SDXL's UNet has in generative-models, on which kohya's trainer stands: blocks are numbered through,
// each of perBlock layers and a change of size. It is empty for a layer outside of the blocks' resnets and transformers.
func sgmName(path string, perBlock int) string {
	m := blockLayer.FindStringSubmatch(path)
	if m == nil {
		return ""
	}
	block, _ := strconv.Atoi(m[2])
	place, _ := strconv.Atoi(m[4])
	layer, inner := m[5], 1
	if m[3] == "resnets" {
		layer, inner = sgmLayers[layer], 0
	}
	if layer == "" {
		return "" // a norm
	}
	switch n := block*(perBlock+1) + place; m[1] {
	case "down":
		return fmt.Sprintf("input_blocks.%d.%d.%s", n+1, inner, layer)
	case "up":
		return fmt.Sprintf("output_blocks.%d.%d.%s", n, inner, layer)
	}
	return fmt.Sprintf("middle_block.%d.%s", 2*place+inner, layer)
}

// kohyaName is the name of a layer in kohya's files for the base.
func (b *Base) kohyaName(component, path string) string {
	prefix, name := map[string]string{checkpoint.UNet: "lora_unet_", checkpoint.TextEncoder: "lora_te_", checkpoint.TextEncoder2: "lora_te2_"}[component], path
	switch {
	case b.isSDXL && component == checkpoint.TextEncoder:
		prefix = "lora_te1_"
	case b.isSDXL && component == checkpoint.UNet:
		if sgm := sgmName(path, b.perBlock()); sgm != "" {
			name = sgm
		}
	}
	return prefix + strings.ReplaceAll(name, ".", "_")
}

// perBlock is the number of layers in each of the UNet's blocks on the way down.
func (b *Base) perBlock() int {
	n := 0
	for b.Shapes[checkpoint.UNet][fmt.Sprintf("down_blocks.0.resnets.%d.conv1", n)] != nil {
		n++
	}
	return n
}
