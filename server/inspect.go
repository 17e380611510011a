package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"likeness/encoder/concept"
	"likeness/encoder/exchange"
	"likeness/models/backend/onnx"
	"likeness/models/checkpoint"
	"likeness/models/pipeline"
	"likeness/models/safetensors"
)

type inspectCommand struct {
	Path   string `arg:"" help:"A model folder, a single-file checkpoint, a concept, a LoRA, an embedding or an IP-Adapter." type:"path"`
	Model  string `help:"Model that a LoRA or an embedding is held against." placeholder:"DIR"`
	Values bool   `help:"Read every number of a model too, and report weights that are not finite."`
	DType  string `name:"dtype" help:"Numbers that the memory is figured for, as --dtype of the other commands: auto is float32, the CPU's." enum:"auto,float32,float16,bfloat16" default:"auto"`
	JSON   bool   `name:"json" help:"Write JSON."`
}

// Help is shown by kong.
func (inspectCommand) Help() string {
	return `Nothing is loaded and nothing runs: headers and configurations say what a file or folder is, what it lacks, and what it will need in
memory. The memory is that of --dtype: four bytes a parameter on the CPU, whatever the file stores, and beside them the tensors that are there at once while
one picture is drawn, at the size that the model was trained on, with guidance. --memory low opens one component at a time. What is missing ends the command with status 1.

  server inspect ~/models/stable-diffusion-v1-5        a diffusers folder
  server inspect ~/models/v1-5-pruned.safetensors      one file, as the web interfaces read it
  server inspect me.safetensors                        a concept
  server inspect style.safetensors --model ~/models/stable-diffusion-v1-5
                                                       a LoRA or an embedding, and whether it fits the model

A single file carries no words: the folder tokenizer (for SDXL tokenizer_2 too) of the same model's diffusers folder must lie beside it. What the
network predicts is rarely written in it either: a file scheduler/scheduler_config.json beside it comes before the guess.`
}

// report is what is found.
type report struct {
	Path         string     `json:"path"`
	Kind         string     `json:"kind"`
	Architecture string     `json:"architecture,omitempty"`
	Pipeline     string     `json:"pipeline,omitempty"`
	Prediction   string     `json:"prediction_type,omitempty"`
	Size         []int      `json:"size,omitempty"` // width and height in pixels
	Parts        []part     `json:"components,omitempty"`
	Details      []string   `json:"details,omitempty"`
	Problems     []string   `json:"problems"`
	Memory       *footprint `json:"memory,omitempty"`
}

// part is a component of a model.
type part struct {
	Name       string   `json:"name"`
	DTypes     []string `json:"dtypes"`
	Weights    int      `json:"weights"`
	Parameters int64    `json:"parameters"`
	Bytes      int64    `json:"bytes"`
	open       int64    // bytes once the CPU has opened it in float32
}

// footprint is the memory that serving needs, in bytes.
type footprint struct {
	Weights int64 `json:"weights"`
	Picture int64 `json:"picture"` // of one, beside the weights
}

// Run is called by kong.
func (c *inspectCommand) Run(context.Context) error {
	r, err := c.inspect()
	if err != nil {
		return err
	}
	if c.DType == "float16" || c.DType == "bfloat16" {
		r.halve()
	}
	if c.JSON {
		if r.Problems == nil {
			r.Problems = []string{}
		}
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		err = out.Encode(r)
	} else {
		err = r.write(os.Stdout)
	}
	if err == nil && len(r.Problems) > 0 {
		err = fmt.Errorf("%s: cannot be used as it is", c.Path)
	}
	return err
}

// halve has those weights in half precision that it is for.
func (r *report) halve() {
	for _, p := range r.Parts {
		if r.Memory != nil && (placement{compute: onnx.Float16}).of(p.Name) == onnx.Float16 {
			r.Memory.Weights += 2*p.Parameters - p.open
		}
	}
}

func (c *inspectCommand) inspect() (*report, error) {
	stat, err := os.Stat(c.Path)
	switch {
	case err != nil:
		return nil, err
	case stat.IsDir() && slices.Contains(networks, filepath.Base(c.Path)):
		return inspectComponent(c.Path, filepath.Base(c.Path), c.Values)
	case stat.IsDir():
		return inspectModel(c.Path, "model folder", c.Values)
	case concept.IsFile(c.Path):
		return inspectConcept(c.Path)
	case c.Model != "":
		return inspectAdapter(c.Path, c.Model)
	}
	if r := inspectImagePrompt(c.Path); r != nil {
		return r, nil
	}
	if r, err := inspectWord(c.Path); r != nil || err != nil {
		return r, err
	}
	return inspectModel(c.Path, "single-file checkpoint", c.Values)
}

func inspectConcept(path string) (*report, error) {
	c, err := concept.Read(path)
	if err != nil {
		return nil, err
	}
	r := &report{Path: path, Kind: "concept", Details: []string{
		fmt.Sprintf("<%s>, a %s, made by %s of %d photos", c.Word, c.Class, c.Method, c.Photos),
		"for the base model " + c.BaseModel,
	}}
	if e := c.WordEmbeddings; e.Vectors > 0 {
		words := fmt.Sprintf("%d word vectors of width %d", e.Vectors, e.Width)
		if e.Layers > 1 {
			words += fmt.Sprintf(" for each of %d cross-attentions", e.Layers)
		}
		r.Details = append(r.Details, words)
	}
	if n := len(c.Edit.Layers); n > 0 {
		r.Details = append(r.Details, fmt.Sprintf("gated changes of %d layers", n))
	}
	if t := c.ImageTokens; t.Count > 0 {
		r.Details = append(r.Details, fmt.Sprintf("%d image tokens of width %d, for the IP-Adapter %.12s", t.Count, t.Width, c.Encoder))
	}
	if len(c.LoRA) > 0 {
		r.Details = append(r.Details, (&exchange.Adapter{LoRA: c.LoRA}).Describe(1))
	}
	for what, n := range map[string]int{"coefficients": len(c.Coefficients), "offsets": len(c.Offsets)} {
		if n > 0 {
			r.Details = append(r.Details, fmt.Sprintf("%d numbers of %s", n, what))
		}
	}
	slices.Sort(r.Details[2:])
	return r, nil
}

// inspectAdapter holds a LoRA or an embedding against a model.
func inspectAdapter(path, model string) (*report, error) {
	base, err := exchange.OpenBase(model)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	r := &report{Path: path, Kind: "LoRA or embedding"}
	adapter, err := exchange.Read(path, base)
	var wrong *exchange.Error
	if errors.As(err, &wrong) {
		r.Problems = strings.Split(strings.TrimSpace(err.Error()), "\n")
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	r.Details = []string{adapter.Describe(base.TextWidth), "fits the model " + model}
	return r, nil
}

// inspectWord reads of a LoRA or an embedding what can be known without its model; nil for any other file.
func inspectWord(path string) (*report, error) {
	file, err := safetensors.Open(path)
	if err != nil {
		return nil, nil // opening it as a checkpoint says what is wrong
	}
	defer file.Close()
	ranks := map[int]int{}
	for _, name := range file.Names() {
		info, _ := file.Info(name)
		if (strings.Contains(name, "lora_down") || strings.Contains(name, "lora_A") || strings.Contains(name, "lora.down")) && len(info.Shape) > 1 {
			ranks[info.Shape[0]]++
		}
	}
	fits := "give --model DIR to see whether it fits a model"
	if len(ranks) > 0 {
		r := &report{Path: path, Kind: "LoRA"}
		for rank, layers := range ranks {
			r.Details = append(r.Details, fmt.Sprintf("rank %d on %d layers", rank, layers))
		}
		slices.Sort(r.Details)
		r.Details = append(r.Details, fits)
		return r, nil
	}
	names := file.Names()
	if slices.Equal(names, []string{"clip_g", "clip_l"}) {
		first, _ := file.Info("clip_l")
		second, _ := file.Info("clip_g")
		return &report{Path: path, Kind: "textual-inversion embedding", Details: []string{
			fmt.Sprintf("vectors for two text encoders, shapes %v and %v: those of Stable Diffusion XL have widths 768 and 1280", first.Shape, second.Shape), fits}}, nil
	}
	if len(names) == 1 {
		if info, _ := file.Info(names[0]); len(info.Shape) == 1 || len(info.Shape) == 2 && info.Shape[0] <= 75 {
			width := info.Shape[len(info.Shape)-1]
			return &report{Path: path, Kind: "textual-inversion embedding", Details: []string{
				fmt.Sprintf("vectors of width %d, shape %v: those of Stable Diffusion 1 have width 768, of 2 1024", width, info.Shape), fits}}, nil
		}
	}
	return nil, nil
}

// write writes the report for people.
func (r *report) write(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s\n", r.Path, r.Kind)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{{"architecture", r.Architecture}, {"pipeline", r.Pipeline}, {"predicts", r.Prediction}} {
		if line[1] != "" {
			fmt.Fprintf(t, "  %s\t%s\n", line[0], line[1])
		}
	}
	if len(r.Size) == 2 {
		fmt.Fprintf(t, "  trained on\t%d × %d pixels\n", r.Size[0], r.Size[1])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for i, p := range r.Parts {
		if i == 0 {
			fmt.Fprintln(t, "\n  component\tstored as\tweights\tparameters\ton disk\t")
		}
		fmt.Fprintf(t, "  %s\t%s\t%d\t%.1f M\t%s\t\n", p.Name, strings.Join(p.DTypes, "+"), p.Weights, float64(p.Parameters)/1e6, pipeline.Bytes(p.Bytes))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.Memory != nil {
		fmt.Fprintf(w, "\n  memory: about %v, %v for the weights and %v for one picture\n", pipeline.Bytes(r.Memory.Weights+r.Memory.Picture),
			pipeline.Bytes(r.Memory.Weights), pipeline.Bytes(r.Memory.Picture))
	}
	for _, line := range r.Details {
		fmt.Fprintln(w, "  "+line)
	}
	if len(r.Problems) > 0 {
		_, err := fmt.Fprintf(w, "\n  problems:\n    %s\n", strings.Join(r.Problems, "\n    "))
		return err
	}
	return nil
}

// isUnreadable tells errors of a file as a whole, of which no part can be told, from those of parts.
func isUnreadable(path string, err error) bool {
	var kind *checkpoint.KindError
	var damaged *safetensors.Error
	return errors.As(err, &kind) && kind.Path == path || errors.As(err, &damaged) && filepath.Clean(damaged.Path) == filepath.Clean(path)
}
