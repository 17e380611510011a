package main

import (
	"fmt"

	"likeness/encoder/imageprompt"
	"likeness/models/checkpoint"
)

// inspectImagePrompt tells what an IP-Adapter is; nil for any other file, about which others say what is wrong.
func inspectImagePrompt(path string) *report {
	file, err := checkpoint.OpenAdapter(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	cfg, err := imageprompt.ReadConfig(file)
	if err != nil {
		r := &report{Path: path, Kind: "IP-Adapter"}
		r.addProblem(err)
		return r
	}
	return &report{Path: path, Kind: string(cfg.Kind), Details: []string{
		fmt.Sprintf("for a unet that reads text of width %d: that of Stable Diffusion 1 reads 768, of 2 1024, of XL 2048", cfg.TextWidth),
		fmt.Sprintf("reads photos with %s: --image-encoder names it", cfg.Encoder()),
		"give it to --ip-adapter",
	}}
}
