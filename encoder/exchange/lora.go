package exchange

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"likeness/encoder/concept"
	"likeness/models/op"
)

// layer is the change of one layer, and the tensors' names of it.
type layer struct {
	place
	keys     [3]string // by part; empty: not there
	delta    concept.Delta
	problems []Problem
}

func (l *layer) problem(key, format string, args ...any) {
	l.problems = append(l.problems, Problem{key, fmt.Sprintf(format, args...)})
}

// readLoRA reads the changes of all layers.
func (r *reader) readLoRA() {
	if r.isForAnother() {
		return
	}
	layers := r.layers()
	alphas := r.readAlphas()
	total := 0
	for _, l := range layers {
		r.measure(l)
		total += l.delta.Rank * (l.delta.In + l.delta.Out)
	}
	switch {
	case total > maxValues:
		r.problem("", "the file holds more than %d numbers", maxValues)
		return
	case len(layers) == 0 && len(r.problems) == 0:
		r.problem("", "the file holds no LoRA")
		return
	}
	r.fill(layers, total, alphas)
	r.adapter.LoRA = concept.LoRA{}
	for _, l := range layers {
		r.problems = append(r.problems, l.problems...)
		if r.adapter.LoRA[l.component] == nil {
			r.adapter.LoRA[l.component] = map[string]concept.Delta{}
		}
		r.adapter.LoRA[l.component][l.path] = l.delta
	}
}

// isForAnother reports a file of the SDXL family for a base that is not of it.
func (r *reader) isForAnother() bool {
	if r.base.isSDXL {
		return false
	}
	const reason = "this is a LoRA for SDXL, and the base model is not"
	for _, key := range r.file.Names() {
		if isSDXL(key) || r.isWide(key) {
			r.problem(key, reason)
			return true
		}
	}
	return false
}

// isWide tells whether the key is of a layer that reads text as wide as SDXL's.
func (r *reader) isWide(key string) bool {
	layer, p, _ := split(key)
	if p != down || !strings.HasSuffix(layer, "attn2.to_k") && !strings.HasSuffix(layer, "attn2_to_k") {
		return false
	}
	shape := r.shape(key)
	return len(shape) > 1 && shape[1] == 2048
}

// layers sorts the keys by the layer they belong to, and the layers by their place.
func (r *reader) layers() []*layer {
	names := r.base.names()
	var layers []*layer
	var bundled []string
	at := map[place]*layer{}
	for _, key := range r.file.Names() {
		if reason := refusal(key); reason != "" {
			r.problem(key, "%s", reason)
			continue
		}
		if strings.HasPrefix(key, bundle) {
			bundled = append(bundled, key)
			continue
		}
		name, p, ok := split(key)
		if !ok {
			r.problem(key, "no LoRA has a tensor of this name")
			continue
		}
		where := names.resolve(name)
		if where.path == "" {
			r.problem(key, "the base model has no such layer in its blocks")
			continue
		}
		l := at[where]
		if l == nil {
			l = &layer{place: where}
			at[where], layers = l, append(layers, l)
		}
		if other := l.keys[p]; other != "" {
			r.problem(key, "the same layer is in the file under another spelling, %s", other)
			continue
		}
		l.keys[p] = key
	}
	r.readBundled(bundled)
	slices.SortFunc(layers, func(a, b *layer) int {
		return cmp.Or(strings.Compare(a.component, b.component), strings.Compare(a.path, b.path))
	})
	return layers
}

// measure finds the sizes of a layer's change, or reports why it has none.
func (r *reader) measure(l *layer) {
	if l.keys[down] == "" || l.keys[up] == "" {
		l.problem(cmp.Or(l.keys[down], l.keys[up], l.keys[alpha]), "the layer lacks its other half: the file is not whole")
		return
	}
	shape := r.base.Shapes[l.component][l.path]
	in, out, linear := width(shape)
	if !linear {
		l.problem(l.keys[down], "the layer's weight is %v: offsets act on linear layers and 1×1 convolutions", shape)
		return
	}
	downShape, upShape := r.shape(l.keys[down]), r.shape(l.keys[up])
	if len(downShape) != 2 || len(upShape) != 2 || downShape[0] != upShape[1] || downShape[0] < 1 || downShape[0] > maxRank {
		l.problem(l.keys[down], "the halves %v and %v are not [rank, in] and [out, rank] of a rank up to %d", downShape, upShape, maxRank)
		return
	}
	if downShape[1] != in || upShape[0] != out {
		l.problem(l.keys[down], "the change is [%d, %d] and the base model's layer [%d, %d]: it was made for another base model",
			upShape[0], downShape[1], out, in)
		return
	}
	l.delta = concept.Delta{In: in, Out: out, Rank: downShape[0]}
}

// fill reads the numbers of the layers that have been measured, total of them. They lie end to end, those of a network as Pack would put them.
func (r *reader) fill(layers []*layer, total int, alphas alphas) {
	numbers := make([]float32, total)
	for _, l := range layers {
		d := &l.delta
		d.Down, numbers = numbers[:d.Rank*d.In], numbers[d.Rank*d.In:]
		d.Up, numbers = numbers[:d.Rank*d.Out], numbers[d.Rank*d.Out:]
	}
	var workers sync.WaitGroup
	n := runtime.GOMAXPROCS(0)
	for first := range n {
		workers.Go(func() {
			for i := first; i < len(layers); i += n {
				r.fillLayer(layers[i], alphas)
			}
		})
	}
	workers.Wait()
}

// fillLayer reads the numbers of a layer's change.
func (r *reader) fillLayer(l *layer, alphas alphas) {
	d := l.delta
	if d.Rank == 0 {
		return // it was not measured
	}
	var halves [2][]float32 // [rank, in] and [out, rank]
	for part := range halves {
		reason := ""
		if halves[part], reason = numbers(r.file, l.keys[part]); reason != "" {
			l.problem(l.keys[part], "%s", reason)
		}
	}
	scale, upper := r.scale(l, alphas), halves[up]
	if len(l.problems) > 0 {
		return
	}
	copy(d.Down, halves[down])
	for k := range d.Rank {
		row := d.Up[k*d.Out:][:d.Out]
		for o := range row {
			row[o] = scale * upper[o*d.Rank+k]
		}
	}
}

// shape is a tensor's shape without the trailing 1s of a 1×1 convolution.
func (r *reader) shape(key string) []int {
	info, _ := r.file.Info(key)
	if s := info.Shape; len(s) == 4 && s[2] == 1 && s[3] == 1 {
		return s[:2]
	}
	return info.Shape
}

// scale is alpha/rank of a layer: its own tensor's, the metadata's, or 1.
func (r *reader) scale(l *layer, alphas alphas) float32 {
	rank, key := l.delta.Rank, l.keys[alpha]
	if key == "" {
		return alphas.scale(l.component, l.path, rank)
	}
	if info, _ := r.file.Info(key); op.Size(info.Shape) != 1 {
		l.problem(key, "alpha is one number, not %d", op.Size(info.Shape))
		return 0
	}
	if whole, _, err := r.file.Int64(key); err == nil { // some trainers write an integer
		return float32(whole[0]) / float32(rank)
	}
	value, reason := numbers(r.file, key)
	if reason != "" {
		l.problem(key, "%s", reason)
		return 0
	}
	return value[0] / float32(rank)
}

// alphas is PEFT's configuration of each network, as far as it says how strong a LoRA is.
type alphas map[string]settings

type settings struct {
	Alpha     float64  `json:"lora_alpha"`
	Rank      int      `json:"r"`
	ByPattern patterns `json:"alpha_pattern"`
	RankSqrt  bool     `json:"use_rslora"` // alpha over the root of the rank (Kalajdzievski 2023)
}

// patterns are PEFT's, in the order of the file, of which the first that matches the end of a layer's path counts.
type patterns []pattern

type pattern struct {
	path  *regexp.Regexp
	alpha float64
}

// UnmarshalJSON reads an object.
func (p *patterns) UnmarshalJSON(data []byte) error {
	var values map[string]float64
	if err := json.Unmarshal(data, &values); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		key, ok := token.(string)
		if !ok {
			continue // a bracket or a number
		}
		path, err := regexp.Compile(`^(.*\.)?(` + key + `)$`)
		if err != nil {
			return fmt.Errorf("alpha_pattern: %w", err)
		}
		*p = append(*p, pattern{path, values[key]})
	}
}

// readAlphas reads the configuration that diffusers puts into the metadata, and PEFT into adapter_config.json beside its file.
func (r *reader) readAlphas() alphas {
	text := r.file.Metadata()["lora_adapter_metadata"]
	if text == "" && slices.ContainsFunc(r.file.Names(), func(key string) bool { return strings.HasPrefix(key, "base_model.model.") }) {
		data, err := r.beside("adapter_config.json")
		if errors.Is(err, fs.ErrNotExist) {
			r.problem("", "PEFT's file needs adapter_config.json beside it, which says how strong it is")
			return nil
		}
		if err != nil {
			r.problem("", "%v", err)
			return nil
		}
		text = string(data)
	}
	if text == "" {
		return nil
	}
	a, err := parseAlphas(text)
	if err != nil {
		r.problem("", "the LoRA's configuration cannot be read: %v", err)
	}
	return a
}

// parseAlphas reads keys of one network, or of several with prefixes such as "unet.".
func parseAlphas(text string) (alphas, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, err
	}
	a := alphas{}
	for _, n := range networks {
		c := n.component
		own := map[string]json.RawMessage{}
		for key, value := range all {
			if key = strings.TrimPrefix(key, c+"."); !strings.Contains(key, ".") {
				own[key] = value
			}
		}
		data, err := json.Marshal(own)
		if err != nil {
			return nil, err
		}
		s := settings{}
		if err := json.Unmarshal(data, &s); err != nil {
			return nil, fmt.Errorf("%s: %w", c, err)
		}
		if s.Rank > 0 {
			a[c] = s
		}
	}
	return a, nil
}

// scale is what PEFT multiplies the layer's change by.
func (a alphas) scale(component, path string, rank int) float32 {
	s, ok := a[component]
	if !ok {
		return 1
	}
	value := s.Alpha
	if i := slices.IndexFunc(s.ByPattern, func(p pattern) bool { return p.path.MatchString(path) }); i >= 0 {
		value = s.ByPattern[i].alpha
	}
	if s.RankSqrt {
		return float32(value / math.Sqrt(float64(rank)))
	}
	return float32(value / float64(rank))
}
