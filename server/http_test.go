package main

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// upload posts photos and returns the status and the answer.
func upload(t *testing.T, url, word string, photos ...[]byte) (int, map[string]any) {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	form.WriteField("word", word)
	for _, photo := range photos {
		part, _ := form.CreateFormFile("image", "photo")
		part.Write(photo)
	}
	form.Close()
	return post(t, url+"/v1/concepts", form.FormDataContentType(), b.Bytes())
}

func post(t *testing.T, url, contentType string, body []byte) (int, map[string]any) {
	t.Helper()
	response, err := http.Post(url, contentType, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(data, &answer); err != nil {
		t.Fatalf("%v: %s", err, data)
	}
	return response.StatusCode, answer
}

// Through the whole server on real networks: bad input of every kind changes nothing for the next good request.
func TestBadInputChangesNothing(t *testing.T) {
	url := serve(t, tinyPack(t))
	ada, err := os.ReadFile(sample(t, "ada.png"))
	if err != nil {
		t.Fatal(err)
	}
	status, made := upload(t, url, "me", ada)
	if status != http.StatusCreated {
		t.Fatal(status, made)
	}
	const good = `{"prompt":"<me> hi","seed":7,"steps":4}`
	draw := func(body string) (int, map[string]any) {
		return post(t, url+"/v1/images/generations", "application/json", []byte(body))
	}
	pictures := func() string {
		status, answer := draw(good)
		if status != http.StatusOK {
			t.Fatal(status, answer)
		}
		var all []string
		for _, p := range answer["data"].([]any) {
			all = append(all, p.(map[string]any)["b64_json"].(string))
		}
		return strings.Join(all, " ")
	}
	want := pictures()
	for name, photos := range map[string][][]byte{
		"empty": {{}}, "text": {[]byte("hello")}, "cut": {ada[:len(ada)/2]}, "five": {ada, ada, ada, ada, ada}, "one of two": {ada, ada[:100]},
	} {
		if status, answer := upload(t, url, "you", photos...); status < 400 || status >= 500 {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	for _, body := range []string{
		`{"prompt":"<you>"}`, `{"prompt":"` + strings.Repeat("far ", 130) + `<me>"}`, `{"prompt":"hi","size":"63x64"}`, `{"prompt":"hi","size":"100x64","stream":true}`,
		`{"prompt":"hi","guidance_start":0.5,"guidance_end":0.4}`, `{"prompt":"hi","cache_interval":0}`, `{"prompt":"hi","size":"64x60"}`,
		`{"prompt":"hi","size":"1024x1024"}`, `{"prompt":"hi","steps":0}`, `{"prompt":"hi","guidance_scale":1e400}`, `{"prompt":"<me:9>"}`,
	} {
		if status, answer := draw(body); status < 400 || status >= 500 {
			t.Errorf("%s: %d %v", body, status, answer)
		}
	}
	if got := pictures(); got != want {
		t.Error("the same request gives other pictures than before")
	}
	status, again := upload(t, url, "me", ada)
	if status != http.StatusOK || again["id"] != made["id"] {
		t.Errorf("the same photo again: %d %v, want %v", status, again["id"], made["id"])
	}
	response, err := http.Get(url + "/v1/concepts")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var list struct{ Data []any }
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil || len(list.Data) != 1 {
		t.Errorf("%d concepts are stored, %v", len(list.Data), err)
	}
}

// A concept downloaded from the server works in the command, to the same picture.
func TestDownloadedConcept(t *testing.T) {
	pack, dir := tinyPack(t), t.TempDir()
	url := serve(t, pack)
	ada, err := os.ReadFile(sample(t, "ada.png"))
	if err != nil {
		t.Fatal(err)
	}
	_, made := upload(t, url, "me", ada)
	me, picture := filepath.Join(dir, "me.safetensors"), filepath.Join(dir, "out.png")
	if err := os.WriteFile(me, []byte(fetch(t, url+made["file_url"].(string))), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(t, "generate", "--model", pack, "--prompt", "<me> hi", "--concept", me, "--seed", "7", "--steps", "4", "-o", picture); err != nil {
		t.Fatal(err)
	}
	body := `{"prompt":"<me> hi","seed":7,"steps":4,"response_format":"url"}`
	_, answer := post(t, url+"/v1/images/generations", "application/json", []byte(body))
	served := fetch(t, answer["data"].([]any)[0].(map[string]any)["url"].(string))
	if file, err := os.ReadFile(picture); err != nil || string(file) != served {
		t.Errorf("server and command give different pictures: %v", err)
	}
}
