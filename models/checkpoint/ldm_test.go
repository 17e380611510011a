package checkpoint

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"likeness/models/safetensors"
)

// ldmGolden is a file of scripts/golden/ldm.py: the tensors of a single file, and what diffusers makes of them.
type ldmGolden struct {
	LDM        map[string][]int                      `json:"ldm"`
	Configs    map[string]map[string]any             `json:"configs"`
	Components map[string]map[string]json.RawMessage `json:"components"` // weight → [shape, start of its bytes' SHA-256]
	Prediction string                                `json:"prediction_type"`
}

func readGolden(t *testing.T, name string) (g ldmGolden) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "ldm_"+name+".json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err == nil {
		err = json.NewDecoder(unzipped).Decode(&g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// pattern is the half-precision numbers that a tensor's name decides, as scripts/golden/ldm.py makes them.
func pattern(name string, shape []int) safetensors.Tensor {
	n := 1
	for _, d := range shape {
		n *= d
	}
	data := make([]byte, 2*n)
	seed := crc32.ChecksumIEEE([]byte(name))
	for i := range n {
		binary.LittleEndian.PutUint16(data[2*i:], uint16((seed+uint32(i)*2654435761)>>16)&0xBBFF)
	}
	return safetensors.Tensor{DType: safetensors.TypeF16, Shape: shape, Data: data}
}

// single writes the golden's single file into a folder of its own, with the tokenizers beside it unless bare.
func single(t *testing.T, g ldmGolden, meta map[string]string, bare bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.safetensors")
	tensors := map[string]safetensors.Tensor{}
	for name, shape := range g.LDM {
		tensors[name] = pattern(name, shape)
	}
	if err := safetensors.Write(path, tensors, meta); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{Tokenizer, Tokenizer2} {
		if !bare {
			write(t, filepath.Join(filepath.Dir(path), name, "vocab.json"), "{}")
			write(t, filepath.Join(filepath.Dir(path), name, "merges.txt"), "")
		}
	}
	return path
}

// TestSingleFileIsWhatDiffusersConverts: names, shapes and bytes at the given places, and configurations.
func TestSingleFileIsWhatDiffusersConverts(t *testing.T) {
	for name, class := range map[string]string{
		"sd1": "StableDiffusionPipeline", "sd2": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline",
	} {
		t.Run(name, func(t *testing.T) {
			g := readGolden(t, name)
			path := single(t, g, nil, false)
			f, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if f.Class() != class || f.Path() != path {
				t.Errorf("class %s, path %s", f.Class(), f.Path())
			}
			for part, want := range g.Components {
				c, err := f.Component(part)
				if err != nil {
					t.Fatal(err)
				}
				checkWeights(t, part, c, want)
				checkConfig(t, part, c, g.Configs[part])
			}
			if f.Has(TextEncoder2) != (name == "sdxl") || f.Has(Tokenizer2) != (name == "sdxl") {
				t.Error("a second text encoder where there is none, or none where there is one")
			}
			s, err := f.Component(Scheduler)
			if err != nil {
				t.Fatal(err)
			}
			checkConfig(t, Scheduler, s, map[string]any{"prediction_type": g.Prediction, "beta_end": 0.012})
			if _, err := f.Fingerprint(); err != nil {
				t.Error(err)
			}
			temporary := ""
			for _, c := range f.components {
				temporary += c.temporary
			}
			if err := f.Close(); err != nil || temporary != "" && exists(temporary) || (temporary != "") != (name == "sdxl") {
				t.Errorf("copies in %q (%v)", temporary, err)
			}
		})
	}
}

func checkWeights(t *testing.T, part string, c *Component, want map[string]json.RawMessage) {
	t.Helper()
	for name, raw := range want {
		var digest string
		var shape []int
		if err := json.Unmarshal(raw, &[]any{&shape, &digest}); err != nil {
			t.Fatal(err)
		}
		info, ok := c.Info(name)
		if !ok || !slices.Equal(info.Shape, shape) {
			t.Errorf("%s: %s is %v, wants %v", part, name, info.Shape, shape)
			continue
		}
		data := make([]byte, info.Length)
		file, err := os.Open(info.Path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = file.ReadAt(data, info.Offset)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); !strings.HasPrefix(hex.EncodeToString(sum[:]), digest) {
			t.Errorf("%s: %s has other bytes than diffusers gives it", part, name)
		}
		floats, dims, err := c.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		if again := safetensors.F16(floats); !slices.Equal(again.Data, data) || !slices.Equal(dims, shape) {
			t.Errorf("%s: Float32 reads %s from another place", part, name)
		}
		if len(dims) == 2 {
			if row, err := c.Row(name, dims[0]-1); err != nil || !slices.Equal(row, floats[len(floats)-dims[1]:]) {
				t.Errorf("%s: the last row of %s is read from another place: %v", part, name, err)
			}
		}
	}
	for _, name := range c.Names() {
		if want[name] == nil && !strings.HasSuffix(name, "position_ids") {
			t.Errorf("%s: %s is none of diffusers' names", part, name)
		}
	}
}

func checkConfig(t *testing.T, part string, c *Component, want map[string]any) {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal(c.Config(), &got); err != nil {
		t.Fatal(err)
	}
	for key, value := range want {
		if !reflect.DeepEqual(got[key], value) {
			t.Errorf("%s: %s is %v, wants %v", part, key, got[key], value)
		}
	}
}

// TestComponentOfSingleFile: a path below the file is the component, as it is below a folder.
func TestComponentOfSingleFile(t *testing.T) {
	path := single(t, readGolden(t, "sd1"), nil, true)
	if c := component(t, filepath.Join(path, VAE)); len(c.Names()) == 0 || c.Path() != filepath.Join(path, VAE) {
		t.Errorf("%s has %d weights", c.Path(), len(c.Names()))
	}
	var missing *MissingError
	if _, err := OpenComponent(filepath.Join(path, "encoder")); !errors.As(err, &missing) {
		t.Errorf("a component that no single file has: %v", err)
	}
	_, err := Open(path)
	if want := filepath.Join(filepath.Dir(path), "tokenizer", "vocab.json"); !errors.As(err, &missing) || !strings.Contains(err.Error(), want) {
		t.Errorf("without a tokenizer: %v, want the path %s", err, want)
	}
}

func TestPredictionOfSingleFile(t *testing.T) {
	prediction := func(path string) any {
		var config map[string]any
		if err := json.Unmarshal(component(t, filepath.Join(path, Scheduler)).Config(), &config); err != nil {
			t.Fatal(err)
		}
		return config["prediction_type"]
	}
	g := readGolden(t, "sd2")
	path := single(t, g, map[string]string{"modelspec.prediction_type": "epsilon"}, true)
	if got := prediction(path); got != "epsilon" {
		t.Errorf("modelspec says epsilon, read %v", got)
	}
	checkConfig(t, UNet, component(t, filepath.Join(path, UNet)), map[string]any{"sample_size": 64.0})
	write(t, filepath.Join(filepath.Dir(path), Scheduler, "scheduler_config.json"), `{"prediction_type": "sample"}`)
	if got := prediction(path); got != "sample" {
		t.Errorf("the scheduler beside the file says sample, read %v", got)
	}
	g = readGolden(t, "sd1")
	g.LDM["v_pred"] = []int{}
	if got := prediction(single(t, g, nil, true)); got != "v_prediction" {
		t.Errorf("a file marked v_pred: %v", got)
	}
}

func TestBadSingleFiles(t *testing.T) {
	dir := t.TempDir()
	good, err := os.ReadFile(single(t, readGolden(t, "sd1"), nil, true))
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(good)
	flipped[200] ^= 0x80
	for name, data := range map[string][]byte{
		"truncated": good[:len(good)-100], "header": good[:1000], "bad entry": flipped, "tiny": good[:5],
		"pickle": append([]byte("PK\x03\x04"), good...), "pickle, whatever its name": append([]byte("\x80\x02}q\x00"), good...),
	} {
		path := filepath.Join(dir, "model.safetensors")
		write(t, path, string(data))
		says := name
		if name == "tiny" || name == "header" {
			says = "truncated"
		}
		if name == "truncated" {
			says = "data_offsets"
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, says := range map[string]string{
		"conditioner.embedders.0.model.text_projection": "refiner", "double_blocks.0.x": "Flux", "nothing.known": "no checkpoint",
		"lora_unet_x.alpha": "LoRA", ldmUNet + "input_blocks.0.0.weight": "no text encoder", "down_blocks.0.x": "unet folder",
	} {
		path := filepath.Join(dir, "other.safetensors")
		weights(t, path, map[string]safetensors.Tensor{name: f32(1)})
		var kind *KindError
		if _, err := Open(path); !errors.As(err, &kind) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}
}

// TestSingleFileNamesAllThatIsMissing: every part, and every tensor that its configuration needs.
func TestSingleFileNamesAllThatIsMissing(t *testing.T) {
	g := readGolden(t, "sd1")
	lost := []string{ldmUNet + "out.2.weight", ldmUNet + "middle_block.1.proj_in.weight", ldmVAE + "decoder.conv_in.weight",
		ldmText + "text_model.embeddings.position_embedding.weight"}
	for _, name := range lost {
		delete(g.LDM, name)
	}
	_, err := Open(single(t, g, nil, true))
	for _, name := range append(lost, "vocab.json") {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name %s: %v", name, err)
		}
	}
}
