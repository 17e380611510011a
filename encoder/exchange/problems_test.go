package exchange

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/safetensors"
)

const query = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"

var flatQuery = "lora_unet_" + strings.ReplaceAll(query, ".", "_")

// tensors are a file's, by name.
type tensors = map[string]safetensors.Tensor

func zeros(shape ...int) safetensors.Tensor {
	return safetensors.F32(make([]float32, op.Size(shape)), shape...)
}

// pair is a whole change of rank 2 of a layer [8, 8].
func pair(layer, down, up string) map[string]safetensors.Tensor {
	return map[string]safetensors.Tensor{layer + down: zeros(2, 8), layer + up: zeros(8, 2)}
}

// with adds tensors to those of a good layer.
func with(more map[string]safetensors.Tensor) map[string]safetensors.Tensor {
	all := pair(flatQuery, ".lora_down.weight", ".lora_up.weight")
	for key, t := range more {
		all[key] = t
	}
	return all
}

// Whatever is wrong with a file is said with its path, the tensor's name and the reason, and nothing is read.
func TestProblems(t *testing.T) {
	base := openBase(t)
	for name, c := range map[string]struct {
		tensors tensors
		says    []string
	}{
		"loha": {with(tensors{"lora_unet_x.hada_w1_a": zeros(2, 2), "lora_unet_y.hada_w1_a": zeros(2, 2)}),
			[]string{"LoHa", "2 places", "lora_unet_x.hada_w1_a", "lora_unet_y.hada_w1_a"}},
		"lokr":              {tensors{flatQuery + ".lokr_w1": zeros(2, 2)}, []string{"LoKr", flatQuery + ".lokr_w1"}},
		"dora":              {with(tensors{flatQuery + ".dora_scale": zeros(8, 1)}), []string{"DoRA", flatQuery + ".dora_scale"}},
		"tucker":            {with(tensors{flatQuery + ".lora_mid.weight": zeros(2, 2, 3, 3)}), []string{"Tucker", "lora_mid"}},
		"difference":        {tensors{flatQuery + ".diff": zeros(8, 8)}, []string{"full-rank", flatQuery}},
		"sdxl text":         {with(pair("lora_te2_text_model_encoder_layers_0_mlp_fc1", ".lora_down.weight", ".lora_up.weight")), []string{"SDXL", "lora_te2_"}},
		"sdxl blocks":       {with(pair("lora_unet_input_blocks_4_1_proj_in", ".lora_down.weight", ".lora_up.weight")), []string{"SDXL", "lora_unet_input_blocks_4_1"}},
		"sdxl width":        {tensors{"unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": zeros(2, 2048)}, []string{"SDXL", "attn2.to_k"}},
		"flux":              {tensors{"transformer.single_blocks.0.attn.to_q.lora_A.weight": zeros(2, 8)}, []string{"Flux", "transformer.single"}},
		"numbered":          {tensors{"unet:0:up": zeros(8, 2)}, []string{"cloneofsimo", "unet:0:up"}},
		"ip-adapter":        {tensors{"ip_adapter.1.to_k_ip.weight": zeros(8, 2)}, []string{"IP-Adapter", "ip_adapter.1"}},
		"layers it has not": {with(pair("lora_unet_x", ".lora_down.weight", ".lora_up.weight")), []string{"no such layer", "lora_unet_x.lora_down.weight", "lora_unet_x.lora_up.weight"}},
		"token table":       {pair("lora_te_text_model_embeddings_token_embedding", ".lora_down.weight", ".lora_up.weight"), []string{"no such layer", "token_embedding"}},
		"another name":      {with(tensors{flatQuery + ".magic": zeros(1)}), []string{"no LoRA has", flatQuery + ".magic"}},
		"another convolution": {pair("lora_unet_down_blocks_0_resnets_0_conv1", ".lora_down.weight", ".lora_up.weight"),
			[]string{"[8 8 3 3]", "1×1", "lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight"}},
		"half":             {tensors{flatQuery + ".lora_down.weight": zeros(2, 8), flatQuery + ".alpha": zeros()}, []string{"other half", flatQuery}},
		"another base":     {tensors{flatQuery + ".lora_down.weight": zeros(2, 9), flatQuery + ".lora_up.weight": zeros(8, 2)}, []string{"another base", "[8, 9]", "[8, 8]", flatQuery}},
		"another rank":     {tensors{flatQuery + ".lora_down.weight": zeros(3, 8), flatQuery + ".lora_up.weight": zeros(8, 2)}, []string{"[3 8]", "[8 2]", flatQuery}},
		"no rank":          {tensors{flatQuery + ".lora_down.weight": zeros(0, 8), flatQuery + ".lora_up.weight": zeros(8, 0)}, []string{"rank", flatQuery}},
		"alphas":           {with(tensors{flatQuery + ".alpha": zeros(2)}), []string{"alpha", "one number", flatQuery}},
		"integers":         {with(tensors{flatQuery + ".lora_up.weight": safetensors.I64(make([]int64, 16), 8, 2)}), []string{"I64", flatQuery + ".lora_up"}},
		"not a number":     {with(tensors{flatQuery + ".alpha": safetensors.F32([]float32{float32(math.NaN())})}), []string{"finite", flatQuery + ".alpha"}},
		"infinite":         {with(tensors{flatQuery + ".lora_up.weight": safetensors.F16(append(make([]float32, 15), 1e9), 8, 2)}), []string{"finite", flatQuery + ".lora_up"}},
		"twice":            {with(pair("unet."+query, ".lora_A.weight", ".lora_B.weight")), []string{"another spelling", "unet." + query + ".lora_A.weight"}},
		"peft alone":       {pair("base_model.model."+query, ".lora_A.weight", ".lora_B.weight"), []string{"adapter_config.json"}},
		"network":          {tensors{"model.diffusion_model.input_blocks.0.0.weight": zeros(8, 4, 3, 3)}, []string{"whole network", "--model"}},
		"unet":             {tensors{"conv_in.weight": zeros(8, 4, 3, 3), "conv_in.bias": zeros(8)}, []string{"whole network", "--model"}},
		"nothing":          {tensors{}, []string{"no tensors"}},
		"sdxl word":        {tensors{"clip_l": zeros(2, 16), "clip_g": zeros(2, 32)}, []string{"SDXL", "clip_l", "clip_g"}},
		"word per layer":   {tensors{"IN01": zeros(2, 16), "MID": zeros(2, 16)}, []string{"layer", "IN01", "MID"}},
		"two words":        {tensors{"<a>": zeros(16), "<b>": zeros(16)}, []string{"one word", "<a>", "<b>"}},
		"narrow word":      {tensors{"<a>": zeros(2, 8)}, []string{"<a>", "width 8", "16"}},
		"cubic word":       {tensors{"<a>": zeros(1, 1, 16)}, []string{"<a>", "[1 1 16]"}},
		"long word":        {tensors{"<a>": zeros(100, 16)}, []string{"<a>", "100 vectors"}},
		"half a word":      {tensors{"clip_g": zeros(2, 32)}, []string{"SDXL", "clip_g"}},
		"bundled for sdxl": {with(tensors{"bundle_emb.ann.clip_g": zeros(16)}), []string{"bundle_emb.ann.clip_g"}},
		"several": {with(tensors{"lora_unet_x.alpha": zeros(), "junk": zeros(1), "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": zeros(2, 16)}),
			[]string{"no such layer in its blocks: lora_unet_x.alpha", "junk", "other half", "mlp_fc1"}},
	} {
		path := filepath.Join(t.TempDir(), "bad.safetensors")
		if err := safetensors.Write(path, c.tensors, nil); err != nil {
			t.Fatal(err)
		}
		a, err := Read(path, base)
		var wrong *Error
		if a != nil || !errors.As(err, &wrong) {
			t.Errorf("%s: %v, %v", name, a, err)
			continue
		}
		for _, want := range append(c.says, path) {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
	}
}

// Pickles are told by what is in them, not by their names, and are never run.
func TestPickle(t *testing.T) {
	base := openBase(t)
	for _, head := range []string{"PK\x03\x04\x00\x00\x08\x08 and more of a zip", "\x80\x02}q\x00(X\x06\x00\x00", "\x80\x04\x95\x10\x00\x00\x00\x00"} {
		for _, name := range []string{"word.pt", "lora.safetensors"} {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(head), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Read(path, base)
			var wrong *Error
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), "pickle") || !strings.Contains(err.Error(), path) {
				t.Errorf("%q as %s: %v", head, name, err)
			}
		}
	}
	// A safetensors file whose header happens to be 640 bytes long begins as a pickle does.
	good := with(nil)
	for n := range 800 {
		path := filepath.Join(t.TempDir(), "long.safetensors")
		if err := safetensors.Write(path, good, map[string]string{"note": strings.Repeat("x", n)}); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if data[0] != 0x80 || data[1] != 2 {
			continue
		}
		if _, err := Read(path, base); err != nil {
			t.Error(err)
		}
		return
	}
	t.Error("no header of 640 bytes was made")
}

// What is no safetensors file, or is cut short, is an error with the path.
func TestDamage(t *testing.T) {
	base := openBase(t)
	whole, err := os.ReadFile(filepath.Join("testdata", "processor_a.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cut.safetensors")
	for _, n := range []int{0, 7, 100, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, base); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none"), base); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// PEFT's own file takes its strength from adapter_config.json; a LoRA may bring a word along.
func TestBesides(t *testing.T) {
	base, dir := openBase(t), t.TempDir()
	layer := pair("base_model.model."+query, ".lora_A.weight", ".lora_B.weight")
	ones := make([]float32, 16)
	for i := range ones {
		ones[i] = 1
	}
	layer["base_model.model."+query+".lora_B.weight"] = safetensors.F32(ones, 8, 2)
	layer["bundle_emb.Ann.string_to_param.*"] = safetensors.F32(ones, 1, 16)
	path := filepath.Join(dir, "adapter_model.safetensors")
	if err := safetensors.Write(path, layer, nil); err != nil {
		t.Fatal(err)
	}
	for config, scale := range map[string]float32{
		`{"r": 2, "lora_alpha": 6}`:                                                                3,
		`{"r": 2, "lora_alpha": 6, "alpha_pattern": {"attn1.to_q": 8}}`:                            4,
		`{"r": 2, "lora_alpha": 6, "alpha_pattern": {"attn.\\.to_q": 8, "to_k": 1}}`:               4,
		`{"r": 2, "lora_alpha": 6, "alpha_pattern": {"to_q": 8, "attn1.to_q": 10, "to_.": 12}}`:    4,
		`{"r": 2, "lora_alpha": 6, "alpha_pattern": {"attn1.to_q": 10, "to_q": 8}}`:                5,
		`{"r": 2, "lora_alpha": 6, "use_rslora": true}`:                                            float32(6 / math.Sqrt2),
		`{"r": 2, "lora_alpha": 6, "alpha_pattern": {"mid_block.attentions.0": 8, "nn1.to_q": 8}}`: 3,
	} {
		if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := Read(path, base)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.LoRA[checkpoint.UNet][query].Up[0]; got != scale {
			t.Errorf("%s: scale %v, want %v", config, got, scale)
		}
		if a.Word != "ann" || len(a.Embeddings) != 16 {
			t.Errorf("the bundled word is <%s> of %d values", a.Word, len(a.Embeddings))
		}
	}
}

// Alpha is a number of any type.
func TestAlpha(t *testing.T) {
	base := openBase(t)
	for _, alpha := range []safetensors.Tensor{safetensors.F32([]float32{6}), safetensors.BF16([]float32{6}, 1), safetensors.I64([]int64{6})} {
		path := filepath.Join(t.TempDir(), "lora.safetensors")
		up := safetensors.F32(append([]float32{2}, make([]float32, 15)...), 8, 2)
		if err := safetensors.Write(path, with(map[string]safetensors.Tensor{flatQuery + ".alpha": alpha, flatQuery + ".lora_up.weight": up}), nil); err != nil {
			t.Fatal(err)
		}
		if a, err := Read(path, base); err != nil || a.LoRA[checkpoint.UNet][query].Up[0] != 6 {
			t.Errorf("%s: %v, %v", alpha.DType, a, err)
		}
	}
}

// SDXL's layers are found by the names of kohya's files as diffusers finds them, on a base of that family alone.
func TestSDXLNames(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "sdxl_names.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	layers := map[string][]int{"down_blocks.0.resnets.0.conv1": {4, 4, 3, 3}, "down_blocks.0.resnets.1.conv1": {4, 4, 3, 3}}
	text := map[string][]int{"text_model.encoder.layers.0.mlp.fc1": {8, 4}}
	base := &Base{isSDXL: true, Shapes: map[string]map[string][]int{checkpoint.UNet: layers, checkpoint.TextEncoder: text, checkpoint.TextEncoder2: text}}
	for _, path := range want {
		layers[path] = []int{4, 4}
	}
	if len(layers) != len(want)+2 {
		t.Fatalf("%d names of %d layers", len(want), len(layers)-2)
	}
	n := newNames(base)
	for name, path := range want {
		if got := n.resolve(name); got != (place{checkpoint.UNet, path}) {
			t.Errorf("%s is %v, want %s", name, got, path)
		}
		if got := base.kohyaName(checkpoint.UNet, path); got != name {
			t.Errorf("%s is written as %s, want %s", path, got, name)
		}
	}
	for prefix, component := range map[string]string{"lora_te1_text_model_": checkpoint.TextEncoder, "lora_te2_text_model_": checkpoint.TextEncoder2,
		"text_encoder.text_model.": checkpoint.TextEncoder, "text_encoder_2.": checkpoint.TextEncoder2, "": checkpoint.TextEncoder} {
		name := prefix + "encoder.layers.0.mlp.fc1"
		if strings.HasPrefix(prefix, "lora") {
			name = strings.ReplaceAll(name, ".", "_")
		}
		if got := n.resolve(name); got != (place{component, "text_model.encoder.layers.0.mlp.fc1"}) {
			t.Errorf("%s is %v", name, got)
		}
	}
}

func FuzzRead(f *testing.F) {
	base, err := OpenBase(tinySD)
	if err != nil {
		f.Fatal(err)
	}
	defer base.Close()
	for _, tensors := range []map[string]safetensors.Tensor{with(map[string]safetensors.Tensor{flatQuery + ".alpha": zeros()}),
		pair("unet."+query, ".lora_A.weight", ".lora_B.weight"), {"<a>": zeros(2, 16)}, {"bundle_emb.a.clip_l": zeros(16), "x.lora_A.weight": zeros(2, 2)}} {
		data, err := safetensors.Marshal(tensors, map[string]string{"lora_adapter_metadata": `{"unet.r": 2, "unet.lora_alpha": 3, "unet.alpha_pattern": {"to_q": 4}}`})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "x.safetensors")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := Read(path, base)
		if err != nil {
			return
		}
		for _, d := range a.LoRA[checkpoint.UNet] {
			if d.Rank < 1 || len(d.Down) != d.Rank*d.In || len(d.Up) != d.Rank*d.Out {
				t.Errorf("a delta [%d, %d] of rank %d has halves of %d and %d values", d.Out, d.In, d.Rank, len(d.Down), len(d.Up))
			}
		}
	})
}

// What is wrong with a word for SDXL is said, whichever way it does not fit the two text encoders.
func TestWordsThatSDXLCannotRead(t *testing.T) {
	base, err := OpenBase(filepath.Join("..", "..", "models", "pipeline", "testdata", "tiny-sdxl_a"))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	first, second := base.words[0].width, base.words[1].width
	if first+second != base.TextWidth {
		t.Fatal(first, second, base.TextWidth)
	}
	for name, c := range map[string]struct {
		tensors tensors
		says    []string
	}{
		"one encoder's": {tensors{"<a>": zeros(2, first)}, []string{"<a>", "clip_l and clip_g"}},
		"half":          {tensors{"clip_l": zeros(2, first)}, []string{"clip_l", "other half"}},
		"uneven":        {tensors{"clip_l": zeros(2, first), "clip_g": zeros(3, second)}, []string{"clip_g", "3 vectors here and 2 in clip_l"}},
		"wide":          {tensors{"clip_l": zeros(2, first), "clip_g": zeros(2, second+1)}, []string{"clip_g", "another base model"}},
		"more":          {tensors{"clip_l": zeros(2, first), "clip_g": zeros(2, second), "clip_h": zeros(2, 4)}, []string{"clip_h"}},
	} {
		path := filepath.Join(t.TempDir(), "bad.safetensors")
		if err := safetensors.Write(path, c.tensors, nil); err != nil {
			t.Fatal(err)
		}
		_, err := Read(path, base)
		for _, word := range c.says {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %v, want %q in it", name, err, word)
			}
		}
	}
}

// A word that is bundled with a LoRA of SDXL is read as one of a file of its own.
func TestBundledWordOfSDXL(t *testing.T) {
	base, err := OpenBase(filepath.Join("..", "..", "models", "pipeline", "testdata", "tiny-sdxl_a"))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	lora, err := safetensors.Open(filepath.Join("testdata", "sdxl", "peft_a.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer lora.Close()
	all := tensors{}
	for _, name := range lora.Names() {
		values, shape, err := lora.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = safetensors.F32(values, shape...)
	}
	path := filepath.Join(t.TempDir(), "bundle.safetensors")
	write := func() (*Adapter, error) {
		t.Helper()
		if err := safetensors.Write(path, all, nil); err != nil {
			t.Fatal(err)
		}
		return Read(path, base)
	}
	word := func(value float32, width int) safetensors.Tensor {
		return safetensors.F32(slices.Repeat([]float32{value}, width), 1, width)
	}
	all["bundle_emb.ann.clip_l"] = word(1, base.words[0].width)
	if _, err := write(); err == nil || !strings.Contains(err.Error(), "clip_g") {
		t.Error(err)
	}
	all["bundle_emb.ann.clip_g"] = word(2, base.words[1].width)
	a, err := write()
	want := append(slices.Repeat([]float32{1}, base.words[0].width), slices.Repeat([]float32{2}, base.words[1].width)...)
	if err != nil || a.Word != "ann" || !slices.Equal(a.Embeddings, want) || len(a.LoRA) == 0 {
		t.Errorf("%+v, %v", a, err)
	}
}
