package jobs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"likeness/training/protocol"
)

// process is a running worker.
type process struct {
	command    *exec.Cmd
	requests   io.WriteCloser
	messages   chan protocol.Message // closed when it is lost
	complaints *tail                 // the end of its standard error
	killed     chan struct{}
	once       sync.Once

	mu      sync.Mutex
	garbage string // a line that was no message
	ended   error  // of the process
}

// start runs a worker in a process group of its own, which an interrupt from the terminal does not reach, and first in line when memory
// runs out.
func start(cfg Config) (*process, error) {
	p := &process{command: exec.Command(cfg.Worker, cfg.Args...), messages: make(chan protocol.Message), complaints: &tail{}, killed: make(chan struct{})}
	p.command.Env = cfg.Env
	p.command.Stderr = p.complaints
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.command.WaitDelay = endTime
	requests, err := p.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	answers, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.requests = requests
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("it does not start: %w", err)
	}
	// Best effort: without it the kernel chooses by size, which is most often the worker too.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.command.Process.Pid), []byte("900"), 0)
	go p.listen(answers)
	return p, nil
}

// listen reads messages until there are no more, then buries the process.
func (p *process) listen(answers io.Reader) {
	lines := bufio.NewScanner(answers)
	lines.Buffer(nil, protocol.MaxLine)
	for lines.Scan() {
		var m protocol.Message
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&m); err != nil {
			p.mu.Lock()
			p.garbage = fmt.Sprintf("it wrote %.60q, which is no message", lines.Text())
			p.mu.Unlock()
			break
		}
		select {
		case p.messages <- m:
			continue
		case <-p.killed:
		}
		break
	}
	p.kill()
	err := p.command.Wait()
	p.mu.Lock()
	p.ended = err
	p.mu.Unlock()
	close(p.messages)
}

// send writes a request. What goes wrong shows in what is read.
func (p *process) send(r protocol.Request) {
	go json.NewEncoder(p.requests).Encode(r) // a worker that hangs reads nothing, until it is killed
}

// kill ends the process and its children.
func (p *process) kill() {
	p.once.Do(func() {
		close(p.killed)
		_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL) // it may have ended by itself
	})
}

// bury kills the process and waits until it is gone.
func (p *process) bury() {
	p.kill()
	for range p.messages {
	}
}

// endTime is what a worker gets to end by itself.
const endTime = 5 * time.Second

// end closes the worker's input, which ends one without work, or kills it. A nil worker is none.
func (p *process) end() {
	if p == nil {
		return
	}
	p.requests.Close()
	timer := time.AfterFunc(endTime, p.kill)
	defer timer.Stop()
	for range p.messages {
	}
}

// lost tells whether a worker without work has ended.
func (p *process) lost() bool {
	for {
		select {
		case _, ok := <-p.messages:
			if !ok {
				return true
			}
		default:
			return false
		}
	}
}

// reason says why there are no more messages.
func (p *process) reason() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	why := "it ended"
	var exit *exec.ExitError
	switch {
	case p.garbage != "":
		why = p.garbage
	case errors.As(p.ended, &exit) && exit.Sys().(syscall.WaitStatus).Signaled():
		signal := exit.Sys().(syscall.WaitStatus).Signal()
		why = fmt.Sprintf("it was ended by signal %d (%s)", int(signal), signal)
		if signal == syscall.SIGKILL {
			why += ", as happens where memory runs out"
		}
	case p.ended != nil:
		why += ": " + p.ended.Error()
	}
	return why
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// tailSize is how many bytes are kept.
const tailSize = 1 << 10

func (t *tail) Write(data []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, data...)
	t.text = t.text[max(0, len(t.text)-tailSize):]
	return len(data), nil
}

// last is the last line.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.text))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
