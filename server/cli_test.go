package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/alecthomas/kong"

	"likeness/encoder/concept"
	"likeness/models/safetensors"
	"likeness/server/config"
)

// asCommand makes the test binary be the command itself, in a process of its own.
const asCommand = "SERVER_TEST_AS_COMMAND"

// run runs the command line in this process.
func run(t *testing.T, args ...string) error {
	t.Helper()
	var c cli
	parser, err := kong.New(&c, kong.DefaultEnvars(config.EnvPrefix))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return err
	}
	parsed.BindTo(t.Context(), (*context.Context)(nil))
	return parsed.Run()
}

func wantError(t *testing.T, err error, says ...string) {
	t.Helper()
	for _, want := range says {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func readPNG(t *testing.T, path string) (width, height int) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	img, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	return img.Bounds().Dx(), img.Bounds().Dy()
}

// A photo becomes a file, the file pictures; the same seed gives the same picture, alone or among others.
func TestEncodeAndGenerate(t *testing.T) {
	pack, dir := tinyPack(t), t.TempDir()
	me := filepath.Join(dir, "me.safetensors")
	if err := run(t, "encode", sample(t, "ada.png"), sample(t, "bruno.png"), "--model", pack, "--name", "Ada", "-o", me); err != nil {
		t.Fatal(err)
	}
	c, err := concept.Read(me)
	if err != nil || c.Word != "me" || c.Class != "face" || c.Name != "Ada" || c.Photos != 2 || len(c.Coefficients) == 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	out := func(name string) string { return filepath.Join(dir, name) }
	generate := func(args ...string) error {
		return run(t, append([]string{"generate", "--model", pack, "--steps", "3", "--guidance-scale", "2"}, args...)...)
	}
	for _, args := range [][]string{
		{"--prompt", "<me> hi", "--concept", me, "--seed", "5", "-n", "3", "-o", out("a.png"), "--latents-out", out("a.safetensors")},
		{"--prompt", "<me> hi", "--concept", me, "--seed", "6", "-o", out("b.png"), "--latents-out", out("b.safetensors")},
		{"--prompt", "<me:0.5> hi", "--concept", me + ":0", "--seed", "6", "-o", out("c.png"), "--latents-out", out("c.safetensors")},
		{"--prompt", "hi", "--seed", "5", "-n", "3", "--grid", "--size", "128x64", "-o", out("grid.png")},
	} {
		if err := generate(args...); err != nil {
			t.Fatal(args, err)
		}
	}
	for _, name := range []string{"a-1.png", "a-2.png", "a-3.png", "b.png", "c.png"} {
		if w, h := readPNG(t, out(name)); w != 64 || h != 64 {
			t.Errorf("%s is %d×%d", name, w, h)
		}
	}
	if w, h := readPNG(t, out("grid.png")); w != 2*128+gap || h != 2*64+gap {
		t.Errorf("the grid is %d×%d", w, h)
	}
	a, b, c0 := latents(t, out("a.safetensors"), 3), latents(t, out("b.safetensors"), 1), latents(t, out("c.safetensors"), 1)
	if d := furthest(a[len(b):2*len(b)], b); d > 1e-3 {
		t.Errorf("seed 6 among others is %g from seed 6 alone", d)
	}
	if d := furthest(c0, b); d < 1e-3 {
		t.Errorf("a concept at scale 0 changes as much as at scale 1: %g", d)
	}
}

func latents(t *testing.T, path string, n int) []float32 {
	t.Helper()
	file, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	values, shape, err := file.Float32("latents")
	if err != nil || len(shape) != 4 || shape[0] != n {
		t.Fatal(shape, err)
	}
	return values
}

func furthest(a, b []float32) (most float32) {
	for i := range a {
		most = max(most, a[i]-b[i], b[i]-a[i])
	}
	return most
}

func TestCommandErrors(t *testing.T) {
	pack, dir := tinyPack(t), t.TempDir()
	ada := sample(t, "ada.png")
	me, again := filepath.Join(dir, "me.safetensors"), filepath.Join(dir, "again.safetensors")
	for _, path := range []string{me, again} {
		if err := run(t, "encode", ada, "--model", pack, "-o", path); err != nil {
			t.Fatal(err)
		}
	}
	text := filepath.Join(dir, "text.png")
	if err := os.WriteFile(text, []byte("not a photo"), 0o644); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "foreign.safetensors")
	c, err := concept.Read(me)
	if err == nil {
		c.BaseModel = "other"
		err = c.Write(foreign)
	}
	if err != nil {
		t.Fatal(err)
	}
	encode := func(args ...string) error { return run(t, append([]string{"encode", "--model", pack}, args...)...) }
	generate := func(args ...string) error {
		return run(t, append([]string{"generate", "--model", pack, "-o", filepath.Join(dir, "never.png")}, args...)...)
	}
	wantError(t, encode(text), text, "not an image")
	wantError(t, encode(ada, ada, ada, ada, ada), "5 photos")
	wantError(t, encode(ada, "--word", "My Face"), "My Face")
	wantError(t, encode(ada, "-o", filepath.Join(dir, "none", "x.safetensors")), "none")
	wantError(t, encode(filepath.Join(dir, "none.png")), "none.png")
	wantError(t, generate("--prompt", "<me> hi"), "<me>", "--concept")
	wantError(t, generate("--prompt", "hi", "--model", filepath.Join(dir, "none"), "-o", filepath.Join(dir, "nowhere", "x.png")), "nowhere") // before anything is read
	wantError(t, generate("--prompt", "hi", "--latents-out", dir), dir, "is a folder")
	wantError(t, generate("--prompt", "hi", "--concept", me), me, "does not name <me>")
	wantError(t, generate("--prompt", "<me>", "--concept", me, "--concept", again), me, again, "<me>")
	wantError(t, generate("--prompt", "<me>", "--concept", text), text)
	wantError(t, generate("--prompt", "<me>", "--concept", foreign), foreign, "another base model")
	wantError(t, generate("--prompt", "<me>", "--concept", me+":3"), "scale")
	wantError(t, generate("--prompt", "<me:x>", "--concept", me), "scale")
	wantError(t, generate("--prompt", strings.Repeat("a prompt of far more than eight times sixteen tokens ", 10)+"<me>", "--concept", me), "too long", "<me>")
	for _, args := range []string{"-n 0", "-n 65", "--steps -1", "--steps 5000", "--guidance-scale NaN", "--guidance-scale -1", "--size 7x7", "--size big",
		"--size 64x64x3", "--scheduler magic", "--clip-skip -1", "--clip-skip 99", "--seed -1", "--threads -1", "--device tpu"} {
		if err := generate(append([]string{"--prompt", "hi"}, strings.Fields(args)...)...); err == nil {
			t.Errorf("%s was accepted", args)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "never.png")); err == nil {
		t.Error("a failed command left a picture")
	}
}

// A folder with missing weights names all of them, in every part, and one without a part says which.
func TestBrokenModelFolder(t *testing.T) {
	pack := tinyPack(t)
	var dropped []string
	for _, part := range []string{"unet", "encoder"} {
		paths, err := filepath.Glob(filepath.Join(pack, part, "*.safetensors"))
		if err != nil || len(paths) != 1 {
			t.Fatal(paths, err)
		}
		dropped = append(dropped, dropWeights(t, paths[0], 2)...)
		err = run(t, "generate", "--model", pack, "--prompt", "hi")
		wantError(t, err, append(dropped[len(dropped)-2:], part)...)
		dropped = nil
		pack = tinyPack(t)
	}
	if err := os.RemoveAll(filepath.Join(pack, "vae")); err != nil {
		t.Fatal(err)
	}
	wantError(t, run(t, "generate", "--model", pack, "--prompt", "hi"), "vae")
}

// dropWeights rewrites a file without its first n weights and returns their names.
func dropWeights(t *testing.T, path string, n int) []string {
	t.Helper()
	file, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	names := slices.DeleteFunc(file.Names(), func(name string) bool { return strings.HasPrefix(name, "basis.") })
	kept := map[string]safetensors.Tensor{}
	for _, name := range file.Names() {
		if !slices.Contains(names[:n], name) {
			if kept[name], err = file.Tensor(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	file.Close()
	if err := safetensors.Write(path, kept, nil); err != nil {
		t.Fatal(err)
	}
	return names[:n]
}

// start starts the command in a process of its own.
func start(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), asCommand+"=1"), env...)
	return cmd
}

// The server prints its address, serves page and API from a model folder, and ends in peace.
func TestServeProcess(t *testing.T) {
	cmd := start(t, []string{"LIKENESS_STORE=bolt:" + filepath.Join(t.TempDir(), "c.db"), "LIKENESS_ADDR=127.0.0.1:0"}, "--model", tinyPack(t), "--log", "warn")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_, url, found := strings.Cut(strings.TrimSpace(line), " at ")
	if err != nil || !found || !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Fatalf("it prints %q, %v", line, err)
	}
	for path, says := range map[string]string{"/": "<title>Likeness</title>", "/v1/models": `"tiny-sd"`, "/healthz": "ok", "/js/app.js": "import", "/openapi.json": "openapi"} {
		if body := fetch(t, url+path); !strings.Contains(body, says) {
			t.Errorf("%s answers %.200s", path, body)
		}
	}
	var answer struct{ Data []struct{ Seed uint64 } }
	response, err := http.Post(url+"/v1/images/generations", "application/json", strings.NewReader(`{"prompt":"hi","n":2,"seed":3}`))
	if err == nil {
		err = json.NewDecoder(response.Body).Decode(&answer)
		response.Body.Close()
	}
	if err != nil || len(answer.Data) != 2 || answer.Data[1].Seed != 4 {
		t.Errorf("%+v, %v", answer, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("%s: %s, %v", url, response.Status, err)
	}
	return string(body)
}

// What is wrong at the start is one line that says what to do.
func TestStartErrors(t *testing.T) {
	pack := tinyPack(t)
	bolt := "LIKENESS_STORE=bolt:" + filepath.Join(t.TempDir(), "c.db")
	for _, c := range []struct {
		env  []string
		args []string
		says []string
	}{
		{[]string{"LIKENESS_NATIVE=/nowhere", bolt}, []string{"--model", pack}, []string{"/nowhere", "libonnxruntime", "scripts/setup"}},
		{[]string{"LIKENESS_ADR=:1"}, nil, []string{"LIKENESS_ADR", "LIKENESS_ADDR"}},
		{[]string{bolt}, []string{"--model", "/nowhere"}, []string{"/nowhere"}},
		{[]string{"LIKENESS_STORE=mysql://x"}, nil, []string{"mysql://x", "bolt:PATH", "redis://"}},
		{[]string{"LIKENESS_STORE=redis://127.0.0.1:1"}, nil, []string{"127.0.0.1:1"}},
		{[]string{bolt}, []string{"--model", pack, "--addr", "nonsense"}, []string{"--addr nonsense", "127.0.0.1:8080"}},
		{nil, []string{"--no-such-flag"}, []string{"--no-such-flag"}},
	} {
		out, err := start(t, c.env, c.args...).CombinedOutput()
		wantError(t, fmt.Errorf("%s", out), append(c.says, "server: error:")...)
		if err == nil || strings.Contains(string(out), "goroutine") {
			t.Errorf("%v: %v, %s", c.args, err, out)
		}
	}
}
