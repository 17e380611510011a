package scheduler

import (
	"fmt"
	"slices"
	"strings"
)

// Scheduler walks one sample from noise to picture. It is not safe for concurrent use, and multistep samplers remember
// earlier steps, so every sample has its own.
type Scheduler interface {
	// Timesteps returns what the network is told at each step, falling. Some samplers use fractions.
	Timesteps() []float64
	// InitNoiseSigma is the factor by which unit noise is multiplied to make the first sample.
	InitNoiseSigma() float64
	// ScaleInput writes the network's input for step i to dst, which may be sample and has its length.
	ScaleInput(dst, sample []float32, i int)
	// Step replaces sample x_i by x_{i+1}, given the network's output for step i. It fails, and changes nothing, where
	// i is not a step, lengths differ, or a multistep sampler is called out of order.
	Step(sample, modelOutput []float32, i int) error
}

// samplers by name, in the order of Names.
var samplers = []struct {
	name    string
	classes []string // diffusers' classes that name it; stochastic and older ones get the ODE sampler nearest to them
	make    func(Config, int) (Scheduler, error)
}{
	{"ddim", []string{"", "DDIMScheduler", "DDPMScheduler", "PNDMScheduler"}, newDDIM},
	{"euler", []string{"EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"}, newEuler},
	{"dpmsolver++", []string{"DPMSolverMultistepScheduler", "DEISMultistepScheduler"}, newDPMSolver},
}

// Names returns the samplers New knows.
func Names() []string {
	var names []string
	for _, s := range samplers {
		names = append(names, s.name)
	}
	return names
}

// New returns a sampler of the schedule that takes the given number of steps. An empty name means cfg's own class. It
// fails where the name or the class is unknown, cfg is contradictory, or steps is not in 1…num_train_timesteps.
func New(cfg Config, name string, steps int) (Scheduler, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if steps < 1 || steps > cfg.NumTrainTimesteps {
		return nil, fmt.Errorf("scheduler: %d steps is not in 1…%d", steps, cfg.NumTrainTimesteps)
	}
	for _, s := range samplers {
		if name == s.name || name == "" && slices.Contains(s.classes, cfg.ClassName) {
			return s.make(cfg, steps)
		}
	}
	known := strings.Join(Names(), ", ")
	if name == "" {
		return nil, fmt.Errorf("scheduler: class %q is not known, choose one of %s", cfg.ClassName, known)
	}
	return nil, fmt.Errorf("scheduler: %q is not known, choose one of %s", name, known)
}

// checkStep holds the conditions that Step's contract names for every sampler.
func checkStep(sample, modelOutput []float32, i, steps int) error {
	if i < 0 || i >= steps {
		return fmt.Errorf("scheduler: step %d of %d", i, steps)
	}
	if len(sample) != len(modelOutput) {
		return fmt.Errorf("scheduler: step %d: sample has %d values, model output %d", i, len(sample), len(modelOutput))
	}
	return nil
}
