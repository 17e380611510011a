package main

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"likeness/models/pipeline"
	"likeness/models/safetensors"
	"likeness/server/config"
)

// serveFiles is serve that returns the model too.
func serveFiles(t *testing.T, folder string) (string, *served) {
	t.Helper()
	return serveModel(t, config.Model{Model: folder, Threads: 1})
}

// uploadFile posts a file and returns the status and the answer.
func uploadFile(t *testing.T, url, name string, data []byte, fields ...string) (int, map[string]any) {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		form.WriteField(fields[i], fields[i+1])
	}
	part, err := form.CreateFormFile("file", name)
	if err != nil {
		t.Fatal(err)
	}
	part.Write(data)
	form.Close()
	return post(t, url+"/v1/concepts", form.FormDataContentType(), b.Bytes())
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// draws gives the picture of a prompt, of seed 7 in 4 steps.
func draws(t *testing.T, url, prompt string) image.Image {
	t.Helper()
	status, answer := post(t, url+"/v1/images/generations", "application/json",
		[]byte(fmt.Sprintf(`{"prompt":%q,"seed":7,"steps":4,"response_format":"url"}`, prompt)))
	if status != http.StatusOK {
		t.Fatal(status, answer)
	}
	img, err := png.Decode(strings.NewReader(fetch(t, answer["data"].([]any)[0].(map[string]any)["url"].(string))))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// commanded gives the picture that the command makes of the same.
func commanded(t *testing.T, folder, prompt string, concepts ...string) image.Image {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.png")
	args := []string{"generate", "--model", folder, "--threads", "1", "--prompt", prompt, "--seed", "7", "--steps", "4", "-o", out}
	for _, c := range concepts {
		args = append(args, "--concept", c)
	}
	if err := run(t, args...); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(mustRead(t, out)))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// apartBy is the largest difference of two pictures' channels, in grey levels.
func apartBy(t *testing.T, a, b image.Image) int {
	t.Helper()
	if a.Bounds() != b.Bounds() {
		t.Fatal(a.Bounds(), b.Bounds())
	}
	most := 0
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			r, g, bl, _ := a.At(x, y).RGBA()
			r2, g2, bl2, _ := b.At(x, y).RGBA()
			for _, d := range []int{int(r) - int(r2), int(g) - int(g2), int(bl) - int(bl2)} {
				most = max(most, d>>8, -d>>8)
			}
		}
	}
	return most
}

// A LoRA that is uploaded draws what it draws on the command line, which is what it draws in diffusers; beside a face it shares the
// picture; exported and uploaded again it is the same; the model with offsets on fewer layers ends when nobody uses it any more.
func TestUploadedFiles(t *testing.T) {
	pack := tinyPack(t)
	lora, word := filepath.Join(exchanged, "kohya_a.safetensors"), filepath.Join(exchanged, "word_params.safetensors")
	for name, folder := range map[string]string{"with an encoder": pack, "without": tinySD} {
		t.Run(name, func(t *testing.T) {
			url, m := serveFiles(t, folder)
			first := m.current
			plain := draws(t, url, "a photo of a cat")
			status, made := uploadFile(t, url, "kohya_a.safetensors", mustRead(t, lora), "name", "Kohya")
			if status != http.StatusCreated || made["word"] != "kohya_a" || made["method"] != "lora" || made["usable"] != true {
				t.Fatal(status, made)
			}
			if note := made["notes"].([]any)[0].(string); !strings.Contains(note, "ranks 1 to 5 on 48 layers of the UNet, ranks 1 to 5 on 12 layers of the text encoder") {
				t.Errorf("it found %q", note)
			}
			want := commanded(t, folder, "a photo of a cat", lora)
			if d := apartBy(t, want, draws(t, url, "a photo of a cat <kohya_a>")); d > 2 {
				t.Errorf("server and command differ by %d grey levels", d)
			}
			if d := apartBy(t, want, plain); d < 3 {
				t.Errorf("the LoRA changes the picture by %d", d)
			}
			if d := apartBy(t, plain, draws(t, url, "a photo of a cat")); d > 1 {
				t.Errorf("the model that was opened again draws another picture, by %d", d)
			}
			for _, format := range []string{"kohya", "diffusers", ""} {
				file := fetch(t, url+made["file_url"].(string)+"?format="+format)
				status, again := uploadFile(t, url, "x.safetensors", []byte(file), "word", "again"+format)
				if status != http.StatusCreated {
					t.Fatal(format, status, again)
				}
				if d := apartBy(t, want, draws(t, url, "a photo of a cat <again"+format+">")); d > 2 {
					t.Errorf("exported as %q it differs by %d", format, d)
				}
			}
			status, made = uploadFile(t, url, "cat.safetensors", mustRead(t, word), "word", "cat-toy", "class", "cat")
			if status != http.StatusCreated || made["class"] != "cat" || made["formats"].([]any)[0] != "embedding" {
				t.Fatal(status, made)
			}
			if d := apartBy(t, commanded(t, folder, "<word_params> hat", word), draws(t, url, "<cat-toy> hat")); d > 2 {
				t.Errorf("the word differs by %d from the command's", d)
			}
			m.closing.Wait()
			if m.current == first || m.reach.Empty() {
				t.Error("the model was not opened again")
			}
			if _, err := first.Generate(t.Context(), pipeline.Request{Prompt: "hi"}, nil); err == nil {
				t.Error("the model before is still open")
			}
		})
	}
}

// Requests of different files and of faces run beside each other while the model is opened again.
func TestFilesShareABatch(t *testing.T) {
	pack := tinyPack(t)
	url, m := serveFiles(t, pack)
	if status, made := upload(t, url, "me", mustRead(t, sample(t, "ada.png"))); status != http.StatusCreated {
		t.Fatal(status, made)
	}
	want := map[string]image.Image{"<me> hi": draws(t, url, "<me> hi")}
	lora := filepath.Join(exchanged, "peft_a.safetensors")
	want["a cat <peft_a>"] = commanded(t, pack, "a cat", lora)
	// What a server finds in its store when it starts anew: a LoRA, and a model that does not reach it yet.
	status, made := uploadFile(t, url, "peft_a.safetensors", mustRead(t, lora))
	if status != http.StatusCreated {
		t.Fatal(status, made)
	}
	narrow, err := openModel(m.cfg, m.maxQueue)
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	before := m.current
	m.current, m.users, m.reach = narrow, &sync.WaitGroup{}, pipeline.Reach{}
	m.mu.Unlock()
	before.Close()
	var wait sync.WaitGroup
	var mu sync.Mutex
	for range 2 {
		for prompt, picture := range want {
			wait.Go(func() {
				got := draws(t, url, prompt)
				mu.Lock()
				defer mu.Unlock()
				if d := apartBy(t, picture, got); d > 2 {
					t.Errorf("%s: differs by %d grey levels among others", prompt, d)
				}
			})
		}
	}
	wait.Wait()
}

// What cannot be used is refused with the reason, and the server goes on.
func TestUploadedFilesThatAreRefused(t *testing.T) {
	url, _ := serveFiles(t, tinySD)
	one := safetensors.F32(make([]float32, 16), 2, 8)
	file := func(tensors map[string]safetensors.Tensor) []byte {
		data, err := safetensors.Marshal(tensors, nil)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	lora := mustRead(t, filepath.Join(exchanged, "kohya_a.safetensors"))
	for name, c := range map[string]struct {
		data []byte
		says []string
	}{
		"pickle":      {[]byte("PK\x03\x04 and more of a zip"), []string{"pickle", "convert"}},
		"lycoris":     {file(map[string]safetensors.Tensor{"lora_unet_x.hada_w1_a": one}), []string{"LoHa", "lora_unet_x.hada_w1_a"}},
		"sdxl":        {file(map[string]safetensors.Tensor{"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": one}), []string{"SDXL"}},
		"another":     {file(map[string]safetensors.Tensor{"lora_unet_elsewhere.lora_down.weight": one}), []string{"no such layer"}},
		"peft":        {file(map[string]safetensors.Tensor{"base_model.model.mid_block.attentions.0.proj_in.lora_A.weight": one}), []string{"adapter_config.json"}},
		"checkpoint":  {file(map[string]safetensors.Tensor{"model.diffusion_model.input_blocks.0.0.weight": one}), []string{"whole network"}},
		"cut":         {lora[:len(lora)/2], []string{"truncated"}},
		"text":        {[]byte("hello, this is no file of numbers"), []string{"file"}},
		"empty":       {nil, []string{"truncated"}},
		"wide word":   {file(map[string]safetensors.Tensor{"emb_params": one}), []string{"another base model"}},
		"own, broken": {[]byte(strings.Replace(fetchConcept(t, url), "lora", "lorb", 1)), []string{"checksum"}},
	} {
		status, answer := uploadFile(t, url, name+".safetensors", c.data)
		if status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %v", name, status, answer)
			continue
		}
		message := answer["error"].(map[string]any)["message"].(string)
		for _, want := range c.says {
			if !strings.Contains(message, want) {
				t.Errorf("%s: %q does not say %q", name, message, want)
			}
		}
	}
	draws(t, url, "hi")
}

// fetchConcept uploads a LoRA and downloads it as a concept.
func fetchConcept(t *testing.T, url string) string {
	t.Helper()
	status, made := uploadFile(t, url, "good.safetensors", mustRead(t, filepath.Join(exchanged, "processor_a.safetensors")))
	if status != http.StatusCreated {
		t.Fatal(status, made)
	}
	return fetch(t, url+made["file_url"].(string))
}

// A file that is dropped beside the photos becomes a concept, whose word joins the prompt; it can be had in other formats.
func TestFilesOnThePage(t *testing.T) {
	url, _ := serveFiles(t, tinyPack(t))
	p := openPage(t, url, 1280, 900, false)
	p.allowed = []string{"status of 422"} // the answer to what is wrong below
	lora, err := filepath.Abs(filepath.Join(exchanged, "kohya_a.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong.pt")
	if err := os.WriteFile(wrong, []byte("PK\x03\x04 and more of a zip"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.fill("#prompt", "a cat")
	p.run("choose", chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{lora, wrong}))
	p.until("the concept is there", `document.querySelector(".concept")`)
	p.wantText(".concept", "kohya_a", "LoRA in kohya's names", "48 layers")
	if got := value[string](p, `document.querySelector("#prompt").value`); got != "a cat <kohya_a>" {
		t.Errorf("the prompt is %q", got)
	}
	p.until("the other is refused", `[...document.querySelectorAll('.toast[role="alert"]')].some((e) => e.textContent.includes("pickle"))`)
	p.click("#generate")
	p.until("four pictures are there", fmt.Sprintf(finished, 4))
	p.click(".concept .files summary")
	p.wantText(".concept .files", "Concept", "LoRA (kohya)", "LoRA (diffusers)")
	p.fits("with an open menu")
	p.shot("files")
	if href := value[string](p, `document.querySelector(".concept .files a:nth-child(2)").href`); len(fetch(t, href)) < 1000 {
		t.Errorf("%s is no LoRA", href)
	}
}
