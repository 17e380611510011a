package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"likeness/encoder/exchange"
	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/clip"
	"likeness/models/op"
	"likeness/models/op/optest"
	"likeness/models/unet"
	"likeness/models/vae"
)

// peerRank is that of the offsets on every attention projection, and of the LoRA files.
const peerRank = 4

// peer is diffusers on the same checkpoint in a process of its own (scripts/peers.py), which does one thing at a time.
type peer struct {
	in      io.WriteCloser
	answers *json.Decoder
	started time.Time
}

// answer is what a request took, and what it made.
type answer struct {
	Seconds float64
	File    string
	PeakMB  float64 `json:"peak_mb"`
}

// request is what the peer is to do, and with what.
type request map[string]any

// startPeer runs $PYTHON.
func startPeer(b *testing.B) *peer {
	b.Helper()
	script := filepath.Join("..", "scripts", "peers.py")
	c := exec.Command(os.Getenv("PYTHON"), script, "serve", packFolder(b), fmt.Sprint(runtime.NumCPU()))
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	p := &peer{in: in, answers: json.NewDecoder(bufio.NewReader(out)), started: time.Now()}
	if err := c.Start(); err != nil {
		b.Fatalf("%v: scripts/bench peers names the Python", err)
	}
	b.Cleanup(func() { in.Close(); c.Wait() })
	return p
}

func (p *peer) do(b *testing.B, r request) answer {
	b.Helper()
	line, err := json.Marshal(r)
	if err == nil {
		_, err = fmt.Fprintf(p.in, "%s\n", line)
	}
	var a answer
	if err == nil {
		err = p.answers.Decode(&a)
	}
	if err != nil {
		b.Fatalf("scripts/peers.py: %s: %v", line, err)
	}
	return a
}

// took is the time of a request in milliseconds.
func (p *peer) took(b *testing.B, r request) float64 { return 1e3 * p.do(b, r).Seconds }

// contender is one way to compute the same thing: once, in milliseconds.
type contender struct {
	name string // begins the unit; empty for ours
	once func() float64
}

// race lets the contenders take turns, after a turn that does not count, and reports the median of each.
func race(b *testing.B, contenders ...contender) {
	b.Helper()
	times := make([][]time.Duration, len(contenders))
	for _, c := range contenders {
		c.once()
	}
	for b.Loop() {
		for i, c := range contenders {
			times[i] = append(times[i], time.Duration(c.once()*float64(time.Millisecond)))
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, c := range contenders {
		b.ReportMetric(median(times[i]), c.name+"ms")
	}
}

// stopwatch is the time of f in milliseconds.
func stopwatch(f func()) func() float64 {
	return func() float64 {
		start := time.Now()
		f()
		return time.Since(start).Seconds() * 1e3
	}
}

// timed is a run of a session, as a contender's.
func timed(b *testing.B, s *ort.Session, in map[string]op.Array) func() float64 {
	return stopwatch(func() {
		if _, err := s.Run(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	})
}

// agreement reports how far our output is from the peer's: the largest difference, by the standard deviation of theirs.
func agreement(b *testing.B, s *ort.Session, in map[string]op.Array, output, file string) {
	b.Helper()
	got, err := s.Run(b.Context(), in)
	if err != nil {
		b.Fatal(err)
	}
	want := optest.Read(b, file)[output]
	if len(want.F32) == 0 || len(want.F32) != len(got[output].F32) {
		b.Fatalf("%s: dims %v, theirs %v", output, got[output].Dims, want.Dims)
	}
	worst, sum, squares := 0.0, 0.0, 0.0
	for i, v := range want.F32 {
		worst = max(worst, math.Abs(float64(v-got[output].F32[i])))
		sum, squares = sum+float64(v), squares+float64(v)*float64(v)
	}
	n := float64(len(want.F32))
	b.ReportMetric(worst/math.Sqrt(squares/n-sum*sum/n/n), "error")
}

// openComponent makes a network of the checkpoint run as the server runs it.
func openComponent(b *testing.B, name string, model func(config []byte) (op.Model, error)) *ort.Session {
	b.Helper()
	return openPrecision(b, name, model, onnx.Float32)
}

// openPrecision does so in a precision, on the CPU.
func openPrecision(b *testing.B, name string, model func(config []byte) (op.Model, error), compute onnx.Precision) *ort.Session {
	b.Helper()
	if err := ort.Init(ort.LibraryPath()); err != nil {
		b.Fatal(err)
	}
	weights, err := checkpoint.OpenComponent(filepath.Join(packFolder(b), name))
	if err != nil {
		b.Fatal(err)
	}
	defer weights.Close()
	m, err := model(weights.Config())
	if err != nil {
		b.Fatal(err)
	}
	session, err := placement{Options: ort.Options{Threads: runtime.NumCPU(), Device: ort.CPU}, compute: compute}.open(name, m, weights)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { session.Close() })
	return session
}

// openUNet opens the checkpoint's UNet; with a rank, with offsets of it on every attention projection.
func openUNet(b *testing.B, rank int) (s *ort.Session, layout *op.Layout) {
	return openComponent(b, checkpoint.UNet, func(config []byte) (op.Model, error) {
		cfg, err := unet.ParseConfig(config)
		if err == nil && rank > 0 {
			layout, err = trace.Layout(unet.New(cfg, nil), rank, func(path string) bool { return strings.Contains(path, ".attn") })
		}
		return unet.New(cfg, layout), err
	}), layout
}

// stepInputs are those of a step over the first rows of what the peer reads.
func stepInputs(io map[string]op.Array, size, batch int) map[string]op.Array {
	first := func(a op.Array) op.Array {
		return op.Floats(a.F32[:len(a.F32)/a.Dims[0]*batch], append([]int{batch}, a.Dims[1:]...)...)
	}
	return map[string]op.Array{"sample": first(io[fmt.Sprintf("sample%d", size)]), "timestep": first(io["timestep"]),
		"encoder_hidden_states": first(io["encoder_hidden_states"])}
}

// BenchmarkPeerUNet256 is a step of the UNet, of one row and of two, beside diffusers and beside a plain torch.onnx export on the same
// ONNX Runtime.
func BenchmarkPeerUNet256(b *testing.B) { raceUNets(b, 256) }

// BenchmarkPeerUNet512 is the same for larger pictures.
func BenchmarkPeerUNet512(b *testing.B) { raceUNets(b, 512) }

func raceUNets(b *testing.B, size int) {
	p := startPeer(b)
	io := optest.Read(b, p.do(b, request{"do": "prepare"}).File)
	ours, _ := openUNet(b, 0)
	plain, err := ort.OpenFile(filepath.Join(packFolder(b), "unet.onnx"), ort.Options{Threads: runtime.NumCPU()})
	if err != nil {
		b.Fatal(err)
	}
	defer plain.Close()
	for _, batch := range []int{1, 2} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			in, theirs := stepInputs(io, size, batch), request{"do": "unet", "size": size, "batch": batch}
			race(b, contender{"", timed(b, ours, in)}, contender{"diffusers-", func() float64 { return p.took(b, theirs) }},
				contender{"export-", timed(b, plain, in)})
			theirs["keep"] = true
			agreement(b, ours, in, "noise_pred", p.do(b, theirs).File)
		})
	}
}

// BenchmarkPeerOffsets is a step with offsets of rank 4 on every attention projection, another vector for each row, beside one without.
func BenchmarkPeerOffsets(b *testing.B) {
	p := startPeer(b)
	io := optest.Read(b, p.do(b, request{"do": "prepare"}).File)
	plain, _ := openUNet(b, 0)
	personal, layout := openUNet(b, peerRank)
	for _, size := range []int{256, 512} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			in, with := stepInputs(io, size, 2), stepInputs(io, size, 2)
			with["offsets"] = optest.Normal("offsets", 2, 1, layout.Size())
			for i := range with["offsets"].F32 {
				with["offsets"].F32[i] *= 0.02 // small changes, as trained ones are: wild ones make numbers too small for fast arithmetic
			}
			race(b, contender{"", timed(b, personal, with)}, contender{"plain-", timed(b, plain, in)})
		})
	}
}

// BenchmarkPeerText is a prompt's text states.
func BenchmarkPeerText(b *testing.B) {
	p := startPeer(b)
	in := map[string]op.Array{"input_ids": optest.Read(b, p.do(b, request{"do": "prepare"}).File)["input_ids"]}
	width := 0
	ours := openComponent(b, checkpoint.TextEncoder, func(config []byte) (op.Model, error) {
		cfg, err := clip.ParseTextConfig(config)
		width = cfg.HiddenSize
		return clip.Text(cfg), err
	})
	length := in["input_ids"].Dims[1]
	in["concept_embeddings"] = op.Floats(make([]float32, length*width), 1, length, width)
	race(b, contender{"", timed(b, ours, in)}, contender{"diffusers-", func() float64 { return p.took(b, request{"do": "text"}) }})
	agreement(b, ours, in, "last_hidden_state", p.do(b, request{"do": "text", "keep": true}).File)
}

// BenchmarkPeerVAE is the decoding of a picture's latents.
func BenchmarkPeerVAE(b *testing.B) {
	p := startPeer(b)
	io := optest.Read(b, p.do(b, request{"do": "prepare"}).File)
	ours := openComponent(b, checkpoint.VAE, func(config []byte) (op.Model, error) {
		cfg, err := vae.ParseConfig(config)
		return vae.Decoder(cfg), err
	})
	for _, size := range []int{256, 512} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			in, theirs := map[string]op.Array{"latents": stepInputs(io, size, 1)["sample"]}, request{"do": "vae", "size": size}
			race(b, contender{"", timed(b, ours, in)}, contender{"diffusers-", func() float64 { return p.took(b, theirs) }})
			theirs["keep"] = true
			agreement(b, ours, in, "image", p.do(b, theirs).File)
		})
	}
}

// BenchmarkPeerConcept is another concept in place of the one before, until the next turn's input holds it: from its LoRA file; after the word
// loaded, of two in memory. That input is all that a switch changes.
func BenchmarkPeerConcept(b *testing.B) {
	p := startPeer(b)
	p.do(b, request{"do": "prepare"})
	base, err := exchange.OpenBase(packFolder(b))
	if err != nil {
		b.Fatal(err)
	}
	defer base.Close()
	files := [2]string{"first.safetensors", "second.safetensors"}
	var layout *op.Layout // both files'
	read := func(file string) (offsets []float32) {
		adapter, err := exchange.Read(filepath.Join(packFolder(b), file), base)
		if err == nil {
			layout, offsets, err = exchange.Pack(adapter.LoRA[checkpoint.UNet])
		}
		if err != nil {
			b.Fatal(err)
		}
		return offsets
	}
	var input op.Array
	var memory []float32
	put := func(offsets []float32) { // a LoRA acts on both rows of a picture under guidance
		input = layout.Input([][]float32{offsets, offsets}, &memory)
	}
	loaded := [2][]float32{read(files[0]), read(files[1])}
	turn := 0
	b.Run("file", func(b *testing.B) {
		race(b, contender{"", stopwatch(func() { turn++; put(read(files[turn%2])) })},
			contender{"diffusers-", func() float64 { return p.took(b, request{"do": "lora", "file": files[turn%2]}) }})
	})
	b.Run("loaded", func(b *testing.B) {
		race(b, contender{"", stopwatch(func() { turn++; put(loaded[turn%2]) })},
			contender{"diffusers-", func() float64 { return p.took(b, request{"do": "adapter", "file": files[turn%2]}) }})
	})
	if !slices.Equal(input.F32, loaded[turn%2]) {
		b.Fatal("nothing was switched")
	}
}

// BenchmarkPeerServer is a start until ready, the time from the start of the process to a first picture of 512×512 under guidance, and the peak
// of resident memory after it, beside diffusers'. Both find the files in the system's memory. Both starts count from the start of the process, and
// diffusers-s from its imports on.
func BenchmarkPeerServer(b *testing.B) {
	const size, steps = 512, 2
	body := fmt.Sprintf(`{"prompt":"a face","n":1,"size":"%dx%[1]d","steps":%d,"guidance_scale":7.5,"seed":1}`, size, steps)
	times := map[string][]time.Duration{}
	peaks := map[string]float64{}
	note := func(what string, ready, picture time.Duration, peak float64) {
		times[what+"start-s"] = append(times[what+"start-s"], ready)
		times[what+"picture-s"] = append(times[what+"picture-s"], picture)
		peaks[what+"peak-MB"] = max(peaks[what+"peak-MB"], peak)
	}
	for b.Loop() {
		readFiles(b)
		start := time.Now()
		server := startServer(b, filepath.Join("..", "bin", "server"))
		server.ask(b, "/v1/images/generations", "application/json", strings.NewReader(body), &struct{}{})
		note("", server.ready, time.Since(start), server.memory(b, "VmHWM"))
		server.stop()
		readFiles(b)
		p := startPeer(b)
		loaded := p.do(b, request{"do": "load"})
		ready := time.Since(p.started)
		peak := p.do(b, request{"do": "picture", "size": size, "steps": steps}).PeakMB
		note("diffusers-", ready, time.Since(p.started), peak)
		times["diffusers-s"] = append(times["diffusers-s"], time.Duration(loaded.Seconds*float64(time.Second)))
		p.in.Close()
	}
	b.ReportMetric(0, "ns/op")
	for what, all := range times {
		b.ReportMetric(median(all)/1e3, what)
	}
	for what, peak := range peaks {
		b.ReportMetric(peak, what)
	}
	b.ReportMetric(weightsSize(b), "weights-MB")
}

// readFiles has the system keep the checkpoint's files in memory.
func readFiles(b *testing.B) {
	b.Helper()
	err := filepath.WalkDir(packFolder(b), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(io.Discard, f)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

// weightsSize is the size of the weights of the checkpoint's components in megabytes.
func weightsSize(b *testing.B) (size float64) {
	for _, name := range []string{checkpoint.TextEncoder, checkpoint.UNet, checkpoint.VAE} {
		size += float64(folderSize(b, filepath.Join(packFolder(b), name))) / (1 << 20)
	}
	return size
}
