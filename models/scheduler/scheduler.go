package scheduler

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Scheduler walks one sample from noise to picture. It is not safe for concurrent use, and most samplers remember
// earlier steps, so every sample has its own. A walk may begin at any step that Begin returns, with AddNoise's sample.
type Scheduler interface {
	// Timesteps returns what the network is told at each of its runs, falling. A step here is one run of the network;
	// Heun and PNDM take more of them than New was asked for. Some samplers use fractions.
	Timesteps() []float64
	// Begin returns the step at which image to image of the given strength (0 to 1) begins. From len(Timesteps()) on
	// there is nothing to do.
	Begin(strength float64) int
	// InitNoiseSigma is the factor by which unit noise is multiplied to make the first sample of a whole walk.
	InitNoiseSigma() float64
	// ScaleInput writes the network's input for step i to dst, which may be sample and has its length.
	ScaleInput(dst, sample []float32, i int)
	// AddNoise replaces a clean sample by what it is before step i, given unit noise. It fails, and changes nothing,
	// where i is not a step or lengths differ.
	AddNoise(sample, noise []float32, i int) error
	// Step replaces sample x_i by x_{i+1}, given the network's output for step i. It fails, and changes nothing, where
	// i is not a step, lengths differ, a sampler that remembers is called out of order, or noise is missing.
	Step(sample, modelOutput []float32, i int) error
}

// Stochastic is a Scheduler whose steps draw noise: DDPM, Euler ancestral, the SDE solvers and LCM. Given the generator
// that drew the initial noise, a seed makes the picture it makes in diffusers.
type Stochastic interface {
	Scheduler
	// SetNoise gives the source of unit normal noise, before the first step. A step calls it once or not at all.
	SetNoise(normal func(dst []float32))
}

// sampler is an entry of samplers.
type sampler struct {
	name  string
	class string        // diffusers' class
	set   func(*Config) // what the name says beyond the class, or nil
	make  func(Config, int) (Scheduler, error)
}

// samplers in the order of Names. A class means its first entry, as configured.
var samplers = []sampler{
	{"ddim", "DDIMScheduler", nil, newDDIM},
	{"ddpm", "DDPMScheduler", nil, newDDPM},
	{"pndm", "PNDMScheduler", nil, newPNDM},
	{"euler", "EulerDiscreteScheduler", nil, newEuler},
	{"euler_ancestral", "EulerAncestralDiscreteScheduler", nil, newEulerAncestral},
	{"heun", "HeunDiscreteScheduler", nil, newHeun},
	{"dpmsolver++", "DPMSolverMultistepScheduler", func(c *Config) { c.AlgorithmType = "dpmsolver++" }, newDPMSolver},
	{"dpmsolver++_karras", "", func(c *Config) { c.AlgorithmType, c.UseKarrasSigmas = "dpmsolver++", true }, newDPMSolver},
	{"sde-dpmsolver++", "", func(c *Config) { c.AlgorithmType = "sde-dpmsolver++" }, newDPMSolver},
	{"sde-dpmsolver++_karras", "", func(c *Config) { c.AlgorithmType, c.UseKarrasSigmas = "sde-dpmsolver++", true }, newDPMSolver},
	{"unipc", "UniPCMultistepScheduler", nil, newUniPC},
	{"lcm", "LCMScheduler", nil, newLCM},
}

// Names returns the samplers New knows.
func Names() []string {
	var names []string
	for _, s := range samplers {
		names = append(names, s.name)
	}
	return names
}

// New returns a sampler of the schedule that takes the given number of steps. An empty name means cfg's own class, DDIM
// where it has none. It fails where the name or the class is unknown, cfg is contradictory, or steps is not in
// 1…num_train_timesteps.
func New(cfg Config, name string, steps int) (Scheduler, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if steps < 1 || steps > cfg.NumTrainTimesteps {
		return nil, fmt.Errorf("scheduler: %d steps is not in 1…%d", steps, cfg.NumTrainTimesteps)
	}
	class := cmp.Or(cfg.ClassName, "DDIMScheduler")
	for _, s := range samplers {
		switch {
		case name == "" && s.class == class:
			return s.make(cfg, steps)
		case name != "" && s.name == name:
			if s.set != nil {
				s.set(&cfg)
			}
			return s.make(cfg, steps)
		}
	}
	known := strings.Join(Names(), ", ")
	if name == "" {
		return nil, fmt.Errorf("scheduler: class %q is not known, choose one of %s", class, known)
	}
	return nil, fmt.Errorf("scheduler: %q is not known, choose one of %s", name, known)
}

// plan is what every sampler has.
type plan struct {
	timesteps []float64
	steps     int // asked for
}

func (p *plan) Timesteps() []float64 { return slices.Clone(p.timesteps) }

func (p *plan) Begin(strength float64) int {
	return min(max(p.steps-int(float64(p.steps)*strength), 0), p.steps)
}

// check holds the conditions that Step's and AddNoise's contracts name for every sampler.
func (p *plan) check(sample, other []float32, i int) error {
	if i < 0 || i >= len(p.timesteps) {
		return fmt.Errorf("scheduler: step %d of %d", i, len(p.timesteps))
	}
	if len(sample) != len(other) {
		return fmt.Errorf("scheduler: step %d: sample has %d values, model output or noise %d", i, len(sample), len(other))
	}
	return nil
}

// sequence holds a sampler that remembers to consecutive steps of one sample.
type sequence struct {
	taken, next, size int // steps taken, the step to come, values of the sample
}

func (q *sequence) check(i, size int) error {
	switch {
	case q.taken > 0 && i != q.next:
		return fmt.Errorf("scheduler: step %d where step %d follows", i, q.next)
	case q.taken > 0 && size != q.size:
		return fmt.Errorf("scheduler: step %d: sample has %d values, it had %d", i, size, q.size)
	}
	return nil
}

func (q *sequence) advance(i, size int) {
	q.taken, q.next, q.size = q.taken+1, i+1, size
}

// noise is where a stochastic sampler draws from.
type noise struct {
	normal func(dst []float32)
	drawn  []float32
}

func (n *noise) SetNoise(normal func(dst []float32)) { n.normal = normal }

// draw returns size new values, valid until the next draw.
func (n *noise) draw(size int) ([]float32, error) {
	if n.normal == nil {
		return nil, errors.New("scheduler: the sampler draws noise: call SetNoise before its first step")
	}
	if len(n.drawn) != size {
		n.drawn = make([]float32, size)
	}
	n.normal(n.drawn)
	return n.drawn, nil
}
