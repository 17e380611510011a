// Package config is the settings of the commands, as flags that kong reads, each with an environment twin:
// --max-upload and LIKENESS_MAX_UPLOAD.
package config

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// EnvPrefix begins the name of every environment variable that is a setting.
const EnvPrefix = "LIKENESS"

// native is read by scripts and by package ort, not as a flag.
const native = EnvPrefix + "_NATIVE"

// Model is what every command needs to open a model.
type Model struct {
	Model        string  `help:"A diffusers folder, with an encoder folder in it to make concepts, or a single-file checkpoint." default:"models/demo" placeholder:"DIR"`
	IPAdapter    string  `name:"ip-adapter" help:"An IP-Adapter made for the model, as it is published: it makes concepts of photos, in place of an encoder in the model's folder." placeholder:"FILE.safetensors"`
	ImageEncoder string  `help:"The image encoder that the IP-Adapter was trained with, by default the folder image_encoder beside it; for FaceID the ONNX file of the face recogniser." placeholder:"PATH"`
	Device       string  `help:"Where networks run: cpu, cuda (cuda:1 is the second GPU), or auto: a GPU if one can be used." default:"auto"`
	DType        string  `name:"dtype" help:"Numbers of the denoiser and the text encoders: float32, float16 or bfloat16; auto is float16 on a GPU and float32 on the CPU. The CPU takes bfloat16, for the VAE too, where it is one of Intel with AMX or AVX512-BF16 (scripts/setup openvino): faster, and not the exact picture." enum:"auto,float32,float16,bfloat16" default:"auto"`
	Memory       string  `help:"full keeps all networks open; low opens each only while it is used, so that the largest counts, and every picture waits for them to open." enum:"full,low" default:"full"`
	MemoryLimit  float64 `help:"Gigabytes that this process may take up; 0: what the machine, or its container, has. What cannot fit is refused before it begins." default:"0"`
	VAETiling    string  `name:"vae-tiling" help:"Decode and encode pictures in tiles, in the memory of one: auto over 1024×1024 pixels, on over the size that the VAE was trained on, off never." enum:"auto,on,off" default:"auto"`
	Threads      int     `help:"Threads of a network's run; 0: as many as there are cores." default:"0"`
}

// Validate is called by kong.
func (m Model) Validate() error {
	if m.ImageEncoder != "" && m.IPAdapter == "" {
		return fmt.Errorf("--image-encoder %s: it is for an IP-Adapter, which --ip-adapter names", m.ImageEncoder)
	}
	if !(m.MemoryLimit >= 0) {
		return fmt.Errorf("--memory-limit %g: must not be negative", m.MemoryLimit)
	}
	if m.Threads < 0 || m.Threads > 1024 {
		return fmt.Errorf("--threads %d: must be from 0 to 1024", m.Threads)
	}
	return nil
}

// Serve is the settings of the server.
type Serve struct {
	Model     `embed:""`
	Addr      string `help:"Address to listen on." default:"127.0.0.1:8080"`
	Store     string `help:"Where concepts live: bolt:PATH or redis://[user:password@]host:port/number." default:"bolt:~/.local/share/likeness/concepts.db" placeholder:"URL"`
	Log       string `help:"What is logged: debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
	MaxUpload int64  `help:"Megabytes of an upload with all its photos." default:"32"`
	MaxQueue  int    `help:"Pictures asked for and not finished, beyond which requests are answered 429." default:"64"`

	Worker     string        `help:"The program that refines concepts, which scripts/build training makes; by default the one named training beside this one." placeholder:"PATH"`
	WorkerIdle time.Duration `help:"How long it is kept warm without work." default:"5m"`
}

// Validate is called by kong.
func (s Serve) Validate() error {
	if s.MaxUpload < 1 || s.MaxUpload > 1024 {
		return fmt.Errorf("--max-upload %d: must be from 1 to 1024 megabytes", s.MaxUpload)
	}
	if s.MaxQueue < 10 || s.MaxQueue > 10000 {
		return fmt.Errorf("--max-queue %d: must be from 10, which one request may ask for, to 10000", s.MaxQueue)
	}
	if s.WorkerIdle <= 0 {
		return fmt.Errorf("--worker-idle %s: must be positive, as 5m", s.WorkerIdle)
	}
	return s.Model.Validate()
}

// Logger writes to standard error from the level on.
func (s Serve) Logger() *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.Log)); err != nil {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// CheckEnv returns an error that names every LIKENESS_ variable of environ which is no flag's, as a misspelt one would
// otherwise do nothing.
func CheckEnv(app *kong.Application, environ []string) error {
	known := map[string]bool{native: true}
	var collect func(n *kong.Node)
	collect = func(n *kong.Node) {
		for _, flag := range n.Flags {
			for _, name := range flag.Envs {
				known[name] = true
			}
		}
		for _, child := range n.Children {
			collect(child)
		}
	}
	collect(app.Node)
	var unknown, names []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, EnvPrefix+"_") && !known[name] {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(unknown)
	slices.Sort(names)
	return fmt.Errorf("unknown environment variable %s: known are %s", strings.Join(unknown, ", "), strings.Join(names, ", "))
}
