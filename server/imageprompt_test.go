package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"likeness/encoder/concept"
	"likeness/models/backend/onnx"
	"likeness/models/op"
	"likeness/models/safetensors"
	"likeness/server/config"
)

// adapters are tiny IP-Adapters with pictures that diffusers draws with them (scripts/golden/ipadapter.py).
var adapters = filepath.Join("..", "models", "ipadapter", "testdata")

func adapterFile(name string) string { return filepath.Join(adapters, name, "adapter.safetensors") }

func photo(name string) string { return filepath.Join(adapters, name+".png") }

// From photo files to final latents, the command line draws what diffusers' pipeline does with the adapter loaded.
func TestPicturesOfPhotos(t *testing.T) {
	for _, name := range []string{"base_b", "plus_a", "full_face", "plus_sdxl"} {
		t.Run(name, func(t *testing.T) {
			golden, err := safetensors.Open(filepath.Join(adapters, name, "io.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer golden.Close()
			var cases struct {
				Model    string `json:"model"`
				Requests map[string]struct {
					Prompt   string   `json:"prompt"`
					Negative string   `json:"negative_prompt"`
					Photos   []string `json:"photos"`
					Seed     int      `json:"seed"`
					Steps    int      `json:"steps"`
					Width    int      `json:"width"`
					Height   int      `json:"height"`
					Scale    float64  `json:"scale"`
					Guidance float64  `json:"guidance_scale"`
				} `json:"requests"`
			}
			if err := json.Unmarshal([]byte(golden.Metadata()["cases"]), &cases); err != nil || len(cases.Requests) < 4 {
				t.Fatal(err, cases)
			}
			for request, r := range cases.Requests {
				dir := t.TempDir()
				model := []string{"--model", filepath.Join("..", "models", "pipeline", "testdata", cases.Model), "--ip-adapter", adapterFile(name), "--threads", "1"}
				me, latents := filepath.Join(dir, "me.safetensors"), filepath.Join(dir, "latents.safetensors")
				encode := append([]string{"encode", "-o", me}, model...)
				for _, name := range r.Photos {
					encode = append(encode, photo(name))
				}
				if err := run(t, encode...); err != nil {
					t.Fatal(err)
				}
				generate := []string{"generate", "--prompt", r.Prompt, "--concept", fmt.Sprintf("%s:%g", me, r.Scale), "--seed", fmt.Sprint(r.Seed), "--steps", fmt.Sprint(r.Steps),
					"--guidance-scale", fmt.Sprint(r.Guidance), "--size", fmt.Sprintf("%dx%d", r.Width, r.Height), "--latents-out", latents, "-o", filepath.Join(dir, "out.png")}
				if r.Negative != "" {
					generate = append(generate, "--negative-prompt", r.Negative)
				}
				if err := run(t, append(generate, model...)...); err != nil {
					t.Fatal(err)
				}
				if d := meanDifference(t, golden, "latents_"+request, latents); !(d <= 1e-3) {
					t.Errorf("%s: latents are off by %g in the mean", request, d)
				}
			}
		})
	}
}

// meanDifference is that of a golden tensor and the latents in a file.
func meanDifference(t *testing.T, golden *safetensors.File, name, path string) float64 {
	t.Helper()
	want, _, err := golden.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	file, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, _, err := file.Float32("latents")
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d values, want %d: %v", len(got), len(want), err)
	}
	sum := 0.0
	for i := range got {
		sum += math.Abs(float64(got[i]) - float64(want[i]))
	}
	return sum / float64(len(want))
}

// Over HTTP an adapter makes the concepts, in place of the folder's own encoder; what it makes is drawn with it alone.
func TestAdapterServes(t *testing.T) {
	pack := tinyPack(t)
	plain, _ := serveModel(t, config.Model{Model: pack, Threads: 1})
	url, m := serveModel(t, config.Model{Model: pack, Threads: 1, IPAdapter: adapterFile("plus_b")})
	tall, wide := mustRead(t, photo("tall")), mustRead(t, photo("wide"))
	status, made := upload(t, url, "me", tall, wide)
	if status != http.StatusCreated || made["method"] != "ip-adapter" || made["usable"] != true || made["photos"] != 2.0 {
		t.Fatal(status, made)
	}
	if status, again := upload(t, url, "me", wide, tall); status != http.StatusOK || again["id"] != made["id"] {
		t.Error(status, again)
	}
	file := []byte(fetch(t, url+made["file_url"].(string)))
	c, err := concept.Unmarshal(file)
	if err != nil || c.ImageTokens.Count != 10 || c.ImageTokens.Width != 16 || c.Encoder != m.current.adapter.Version() {
		t.Fatalf("%+v, %v", c, err)
	}
	if apartBy(t, draws(t, url, "<me> in a hat"), draws(t, url, "face in a hat")) < 5 {
		t.Error("the photos make no difference")
	}
	if apartBy(t, draws(t, url, "<me:0> in a hat"), draws(t, plain, "face in a hat")) > 0 {
		t.Error("strength 0 differs from the model without an adapter")
	}

	status, foreign := uploadFile(t, plain, "me.safetensors", file)
	if status != http.StatusCreated || foreign["usable"] != false {
		t.Fatal(status, foreign)
	}
	status, answer := post(t, plain+"/v1/images/generations", "application/json", []byte(`{"prompt":"<me>","steps":1}`))
	if message := fmt.Sprint(answer); status != http.StatusUnprocessableEntity || !strings.Contains(message, "IP-Adapter that is not open") || !strings.Contains(message, "concept_of_another_model") {
		t.Error(status, answer)
	}
	status, own := upload(t, plain, "you", mustRead(t, sample(t, "ada.png")))
	if status != http.StatusCreated || own["method"] != "encoder" {
		t.Fatal(status, own)
	}
	if status, answer := uploadFile(t, url, "you.safetensors", []byte(fetch(t, plain+own["file_url"].(string)))); status != http.StatusCreated || answer["usable"] != false {
		t.Error(status, answer)
	}
}

// Adapters that cannot be used say why, and what to do, before anything is served.
func TestAdapterRefused(t *testing.T) {
	dir := t.TempDir()
	lone := filepath.Join(dir, "adapter.safetensors")
	if err := os.WriteFile(lone, mustRead(t, adapterFile("base_a")), 0o600); err != nil {
		t.Fatal(err)
	}
	pickle := filepath.Join(dir, "ip-adapter.bin")
	if err := os.WriteFile(pickle, []byte("PK\x03\x04\x00\x00\x08\x08archive/data.pkl"), 0o600); err != nil {
		t.Fatal(err)
	}
	tiny := filepath.Join("..", "models", "pipeline", "testdata", "tiny-sd")
	for want, args := range map[string][]string{
		"pickle":                         {"--ip-adapter", pickle},
		"fetch the image_encoder folder": {"--ip-adapter", lone},
		"width 10, this model's has 16":  {"--ip-adapter", adapterFile("base_sdxl")},
		"no IP-Adapter":                  {"--ip-adapter", filepath.Join(tiny, "unet", "diffusion_pytorch_model.safetensors")},
		"width 24 of 3 colours":          {"--ip-adapter", adapterFile("plus_a"), "--image-encoder", filepath.Join("..", "models", "clip", "testdata", "vision_gelu")},
		"which --ip-adapter names":       {"--image-encoder", dir},
		"none.safetensors: cannot open":  {"--ip-adapter", "none.safetensors"},
	} {
		wantError(t, run(t, append([]string{"encode", photo("tall"), "--model", tiny, "-o", filepath.Join(dir, "me.safetensors")}, args...)...), want)
	}
	for name, want := range map[string]string{"base_a": "IP-Adapter", "plus_b": "IP-Adapter Plus", "full_face": "IP-Adapter Full Face"} {
		if r := inspectImagePrompt(adapterFile(name)); r == nil || r.Kind != want || len(r.Problems) > 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// faceRecogniser writes an ONNX file that has the shape of a face recogniser, 20 numbers for a face: random projections of the colours of
// 16 × 16 fields.
func faceRecogniser(t *testing.T) string {
	t.Helper()
	random := rand.New(rand.NewPCG(3, 4))
	weight := make([]float32, 20*3*16*16)
	for i := range weight {
		weight[i] = float32(random.NormFloat64())
	}
	patch := make([]float32, 3*3*7*7)
	for i := range patch {
		if i/(3*49) == i/49%3 {
			patch[i] = 1. / 49
		}
	}
	graph, err := onnx.Emit(func(s op.Scope) map[string]op.Tensor {
		fields := s.Input("input.1", op.Float32, -1, 3, 112, 112).Conv2D(s.Weight("patch", 3, 3, 7, 7), op.Tensor{}, 7, 0)
		return map[string]op.Tensor{"683": fields.Reshape(-1, 3*16*16).Linear(s.Weight("weight", 20, 3*16*16), op.Tensor{})}
	}, onnx.FromArrays(map[string]op.Array{"weight": op.Floats(weight, 20, 3*16*16), "patch": op.Floats(patch, 3, 3, 7, 7)}), onnx.Options{Name: "recogniser"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "recogniser.onnx")
	if err := os.WriteFile(path, graph.Model, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A FaceID adapter sees the face of a photo with somebody's recogniser, and brings a LoRA that acts on its own pictures alone.
func TestFaceIDServes(t *testing.T) {
	pack := tinyPack(t)
	url, m := serveModel(t, config.Model{Model: pack, Threads: 1, IPAdapter: adapterFile("faceid_a"), ImageEncoder: faceRecogniser(t)})
	ada := mustRead(t, sample(t, "ada.png"))
	status, made := upload(t, url, "me", ada)
	if status != http.StatusCreated || made["method"] != "ip-adapter" || made["usable"] != true {
		t.Fatal(status, made)
	}
	if status, answer := upload(t, url, "bob", mustRead(t, sample(t, "bruno.png"))); status != http.StatusCreated {
		t.Fatal(status, answer)
	}
	me, bob, nobody := draws(t, url, "<me> in a hat"), draws(t, url, "<bob> in a hat"), draws(t, url, "face in a hat")
	for name, d := range map[string]int{"a face": apartBy(t, me, nobody), "another face": apartBy(t, me, bob)} {
		if d < 3 {
			t.Errorf("%s makes a difference of %d grey levels", name, d)
		}
	}
	plain, _ := serveModel(t, config.Model{Model: pack, Threads: 1})
	if d := apartBy(t, nobody, draws(t, plain, "face in a hat")); d > 0 {
		t.Errorf("a prompt without a face differs by %d from the model without an adapter", d)
	}
	if status, answer := upload(t, url, "grey", mustRead(t, photo("tall"))); status != http.StatusUnprocessableEntity || !strings.Contains(fmt.Sprint(answer), "no_face") {
		t.Error(status, answer)
	}
	if m.current.adapter.Size() != 112 {
		t.Errorf("faces of %d pixels", m.current.adapter.Size())
	}
	_, err := openModel(config.Model{Model: pack, Threads: 1, IPAdapter: adapterFile("faceid_a")}, 1)
	wantError(t, err, "a face recogniser as an ONNX file")
	_, err = openModel(config.Model{Model: pack, Threads: 1, IPAdapter: adapterFile("faceid_a"), ImageEncoder: adapterFile("base_a")}, 1)
	wantError(t, err, "adapter.safetensors")
}
