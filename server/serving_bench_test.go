package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"io/fs"
	"maps"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pictureSteps is what a picture of BenchmarkServing takes.
const pictureSteps = 12

// process is a server that was started as a user starts it.
type process struct {
	*exec.Cmd
	url    string
	ready  time.Duration // from its start
	errors bytes.Buffer
}

// startServer runs a command that serves, on a free port and with a store of its own, until it is ready.
func startServer(b *testing.B, command string) *process {
	b.Helper()
	store := "bolt:" + filepath.Join(b.TempDir(), "concepts.db")
	args := []string{"--addr", "127.0.0.1:0", "--store", store, "--model", packFolder(b), "--log", "error"}
	p := &process{Cmd: exec.Command(command, args...)}
	p.Stderr = &p.errors
	out, err := p.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	if err := p.Start(); err != nil {
		b.Fatalf("%v: run scripts/build", err)
	}
	b.Cleanup(p.stop)
	for lines := bufio.NewScanner(out); p.url == ""; {
		if !lines.Scan() {
			p.stop()
			b.Fatalf("%s ended without an address: %s", command, &p.errors)
		}
		_, p.url, _ = strings.Cut(lines.Text(), "Likeness is at ")
	}
	for ; ; time.Sleep(5 * time.Millisecond) {
		response, err := http.Get(p.url + "/readyz")
		if err != nil {
			b.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode == http.StatusOK {
			p.ready = time.Since(start)
			return p
		}
	}
}

func (p *process) stop() {
	if p.ProcessState == nil {
		p.Process.Signal(syscall.SIGTERM)
		p.Wait()
	}
}

// memory is a line of the process's status in megabytes: VmRSS, or VmHWM for its peak.
func (p *process) memory(b *testing.B, line string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), line+":")
	var kilobytes float64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		b.Fatalf("%s: %v", line, err)
	}
	return kilobytes / 1024
}

// ask posts a body and reads the answer.
func (p *process) ask(b *testing.B, path, contentType string, body io.Reader, answer any) {
	b.Helper()
	response, err := http.Post(p.url+path, contentType, body)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = errors.New(string(data))
	}
	if err == nil {
		err = json.Unmarshal(data, answer)
	}
	if err != nil {
		b.Fatalf("%s: %s: %v", path, response.Status, err)
	}
}

// parts are timings_ms of an answer.
type parts map[string]float64

// firstPicture uploads a photo and asks for one picture of it: the whole time, its parts, and the concept's size in bytes.
func (p *process) firstPicture(b *testing.B, word string, photo []byte) (whole time.Duration, took parts, size int) {
	b.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	w.WriteField("word", word)
	part, _ := w.CreateFormFile("image", "photo.jpg")
	part.Write(photo)
	w.Close()
	prompt := fmt.Sprintf(`{"prompt":"an illustration of <%s> wearing a crown","n":1,"steps":%d,"guidance_scale":3,"seed":1}`, word, pictureSteps)

	start := time.Now()
	var made struct {
		Bytes   int
		Timings parts `json:"timings_ms"`
	}
	p.ask(b, "/v1/concepts", w.FormDataContentType(), &form, &made)
	var drawn struct {
		Data []struct {
			Timings parts `json:"timings_ms"`
		}
	}
	p.ask(b, "/v1/images/generations", "application/json", strings.NewReader(prompt), &drawn)
	whole = time.Since(start)
	maps.Copy(made.Timings, drawn.Data[0].Timings)
	return whole, made.Timings, made.Bytes
}

// BenchmarkServing is a server as a user has it: its start, an upload to the first picture of it, its memory after that.
func BenchmarkServing(b *testing.B) {
	m := openPack(b)
	next, steps := photoSource(b, m), openDenoiser(b, m, m.base.Layout)
	script, binary := filepath.Join("..", "scripts", "run"), filepath.Join("..", "bin", "server")
	server := startServer(b, script) // fetches and builds
	var scripted, bare, whole, step []time.Duration
	for range 3 {
		server.stop()
		alone := startServer(b, binary)
		alone.stop()
		server = startServer(b, script)
		bare, scripted = append(bare, alone.ready), append(scripted, server.ready)
	}
	laps := map[string][]time.Duration{}
	bytes := 0
	for b.Loop() {
		photo := jpegOf(b, next())
		took, parts, size := server.firstPicture(b, fmt.Sprintf("me%d", len(whole)), photo)
		whole, bytes = append(whole, took), max(bytes, size)
		for name, ms := range parts {
			laps[name] = append(laps[name], time.Duration(ms*float64(time.Millisecond)))
		}
		step = append(step, steps.turn(b, 1, nil))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(scripted)/1e3, "start-s")
	b.ReportMetric(median(bare)/1e3, "bare-start-s")
	b.ReportMetric(median(whole), "picture-ms")
	b.ReportMetric(pictureSteps*median(step), "steps-ms")
	for _, name := range []string{"photos", "encode", "store", "text", "denoise", "decode", "png"} {
		b.ReportMetric(median(laps[name]), name+"-ms")
	}
	b.ReportMetric(server.memory(b, "VmRSS"), "resident-MB")
	b.ReportMetric(server.memory(b, "VmHWM"), "peak-MB")
	b.ReportMetric(float64(folderSize(b, packFolder(b)))/(1<<20), "pack-MB")
	b.ReportMetric(float64(bytes)/1024, "concept-KB")
	b.ReportMetric(float64(4*m.base.Layout.Size())/1024, "offsets-KB")
}

func jpegOf(b *testing.B, img image.Image) []byte {
	b.Helper()
	var file bytes.Buffer
	if err := jpeg.Encode(&file, img, &jpeg.Options{Quality: 90}); err != nil {
		b.Fatal(err)
	}
	return file.Bytes()
}

func folderSize(b *testing.B, dir string) (size int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return size
}
