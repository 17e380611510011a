// Package jobstest is a worker for tests: the test's own binary, started again, which speaks the protocol and misbehaves on command.
package jobstest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"likeness/encoder/concept"
	"likeness/training/protocol"
)

// What a worker does with a request.
const (
	Tune    = "tune"    // as it should
	Slow    = "slow"    // steps without end
	Crash   = "crash"   // ends after a step, with words on standard error
	Killed  = "killed"  // is killed, as by the kernel where memory runs out
	Hang    = "hang"    // says nothing more
	Deaf    = "deaf"    // does not even read the request
	Garbage = "garbage" // writes what is no message
	Refuse  = "refuse"  // says that it cannot
	Noise   = "noise"   // answers with what is no concept
	Old     = "old"     // speaks another version of the protocol
)

const variable = "JOBSTEST_WORKER" // the folder of its instructions

// Main is called first by a TestMain: it makes the process the worker if it is started as one.
func Main() {
	if dir := os.Getenv(variable); dir != "" {
		(&worker{dir, json.NewEncoder(os.Stdout)}).run()
		os.Exit(0)
	}
}

// Worker is a worker to be started by a test.
type Worker struct {
	Path string
	Env  []string
	dir  string
	t    *testing.T
}

// New prepares a worker that makes a concept like the given one. It does what the acts say, one for each request, and Tune after the last.
func New(t *testing.T, like *concept.Concept, acts ...string) *Worker {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &Worker{Path: path, dir: t.TempDir(), t: t}
	w.Env = append(os.Environ(), variable+"="+w.dir)
	if err := like.Write(filepath.Join(w.dir, "like")); err != nil {
		t.Fatal(err)
	}
	for i, act := range acts {
		if err := os.WriteFile(filepath.Join(w.dir, fmt.Sprintf("act%04d", i)), []byte(act), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// Starts is how many processes were started so far.
func (w *Worker) Starts() int {
	started, err := os.ReadFile(filepath.Join(w.dir, "starts"))
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	return len(started)
}

// Running tells whether the process that was started last is still there.
func (w *Worker) Running() bool {
	pid, err := os.ReadFile(filepath.Join(w.dir, "pid"))
	if err != nil {
		return false
	}
	status, err := os.ReadFile(filepath.Join("/proc", string(pid), "stat"))
	return err == nil && !strings.Contains(string(status), ") Z ")
}

// worker is the child process.
type worker struct {
	dir string
	out *json.Encoder
}

func (w *worker) run() {
	must(os.WriteFile(filepath.Join(w.dir, "pid"), fmt.Append(nil, os.Getpid()), 0o600))
	starts, err := os.OpenFile(filepath.Join(w.dir, "starts"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(err)
	_, err = starts.WriteString("|")
	must(err)
	must(starts.Close())
	if w.peek() == Old { // and stays so, whatever is asked
		must(w.out.Encode(protocol.Message{Hello: protocol.Version + 1}))
		time.Sleep(time.Hour)
	}
	must(w.out.Encode(protocol.Message{Hello: protocol.Version}))
	if w.peek() == Deaf {
		w.take()
		time.Sleep(time.Hour)
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, protocol.MaxLine)
	for lines.Scan() {
		var r protocol.Request
		must(json.Unmarshal(lines.Bytes(), &r))
		w.answer(r)
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

// acts are the files of what is still to be done.
func (w *worker) acts() []string {
	names, err := filepath.Glob(filepath.Join(w.dir, "act*"))
	must(err)
	return names
}

func (w *worker) peek() string {
	names := w.acts()
	if len(names) == 0 {
		return Tune
	}
	act, err := os.ReadFile(names[0])
	must(err)
	return string(act)
}

func (w *worker) take() string {
	act := w.peek()
	if names := w.acts(); len(names) > 0 {
		must(os.Remove(names[0]))
	}
	return act
}

func (w *worker) answer(r protocol.Request) {
	say := func(m protocol.Message) {
		m.Job = r.Job
		must(w.out.Encode(m))
	}
	steps := max(r.Steps, 3)
	step := func(i int) {
		s := &protocol.Step{Step: i, Steps: steps, Loss: 1 / float64(i), HeldOut: 1 / float64(i), Best: i, SecondsLeft: float64(steps-i) / 10, PerSecond: 10}
		if r.PreviewEvery > 0 && i%r.PreviewEvery == 0 {
			s.Preview = preview(uint8(40 * i))
		}
		say(protocol.Message{Step: s})
	}
	switch act := w.take(); act {
	case Tune:
		for i := range steps {
			step(i + 1)
		}
		c, err := concept.Read(filepath.Join(w.dir, "like"))
		must(err)
		c.Method, c.Word, c.Class, c.Photos, c.Created = r.Method, r.Word, r.Class, len(r.Photos), time.Now().UTC()
		file, err := c.Marshal()
		must(err)
		say(protocol.Message{Done: &protocol.Done{Concept: file, Best: steps, Steps: steps, First: 1, Last: 1 / float64(steps), Seconds: 0.1}})
	case Slow:
		for i := 1; ; i++ {
			step(min(i, steps))
			time.Sleep(20 * time.Millisecond)
		}
	case Refuse:
		say(protocol.Message{Failed: &protocol.Failure{Code: protocol.FailedTuning, Message: "no, thank you"}})
	case Noise:
		say(protocol.Message{Done: &protocol.Done{Concept: []byte("noise")}})
	default:
		step(1)
		misbehave(act)
	}
}

func misbehave(act string) {
	switch act {
	case Crash:
		fmt.Fprintln(os.Stderr, "out of luck")
		os.Exit(2)
	case Killed:
		must(syscall.Kill(os.Getpid(), syscall.SIGKILL))
	case Garbage:
		fmt.Println("[W] a library says hello")
	}
	time.Sleep(time.Hour)
}

// preview is a picture of one grey.
func preview(grey uint8) []byte {
	img := image.NewGray(image.Rect(0, 0, 8, 8))
	for i := range img.Pix {
		img.Pix[i] = color.Gray{Y: grey}.Y
	}
	var file bytes.Buffer
	must(png.Encode(&file, img))
	return file.Bytes()
}
