package scheduler

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// ddim is the deterministic sampler of Song et al. 2021, eq. 12 with σ_t = 0.
type ddim struct {
	cfg       Config
	timesteps []float64
	alphas    []float64 // ᾱ at each step
	next      []float64 // ᾱ that each step ends at
}

func newDDIM(cfg Config, steps int) (Scheduler, error) {
	if cfg.RescaleBetasZeroSNR && cfg.PredictionType == Epsilon {
		return nil, errors.New("scheduler: rescale_betas_zero_snr with prediction_type epsilon has no first ddim step, use euler or v_prediction")
	}
	spacing := cfg.TimestepSpacing
	if spacing == "" {
		spacing = "leading"
	}
	s := &ddim{cfg: cfg, timesteps: cfg.grid(spacing, cfg.NumTrainTimesteps, steps, steps)}
	bar := cfg.AlphasCumprod()
	final := bar[0]
	if cfg.SetAlphaToOne {
		final = 1
	}
	for i, t := range s.timesteps {
		at := int(math.RoundToEven(t))
		if at >= len(bar) {
			return nil, fmt.Errorf("scheduler: ddim with %d steps and steps_offset %d starts past timestep %d", steps, cfg.StepsOffset, len(bar)-1)
		}
		s.timesteps[i] = float64(at)
		s.alphas = append(s.alphas, bar[at])
		end := final
		if to := at - cfg.NumTrainTimesteps/steps; to >= 0 {
			end = bar[to]
		}
		s.next = append(s.next, end)
	}
	return s, nil
}

func (s *ddim) Timesteps() []float64 { return slices.Clone(s.timesteps) }

func (s *ddim) InitNoiseSigma() float64 { return 1 }

func (s *ddim) ScaleInput(dst, sample []float32, i int) { copy(dst, sample) }

func (s *ddim) Step(sample, modelOutput []float32, i int) error {
	if err := checkStep(sample, modelOutput, i, len(s.timesteps)); err != nil {
		return err
	}
	signal, noise := math.Sqrt(s.alphas[i]), math.Sqrt(1-s.alphas[i])
	toSignal, toNoise := math.Sqrt(s.next[i]), math.Sqrt(1-s.next[i])
	ks, ko := x0Weights(s.cfg.PredictionType, signal, noise)
	for j := range sample {
		x, out := float64(sample[j]), float64(modelOutput[j])
		x0 := ks*x + ko*out
		eps := (x - signal*x0) / noise
		if s.cfg.ClipSample {
			x0 = min(max(x0, -s.cfg.ClipSampleRange), s.cfg.ClipSampleRange)
		}
		sample[j] = float32(toSignal*x0 + toNoise*eps)
	}
	return nil
}
