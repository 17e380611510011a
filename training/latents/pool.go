//go:build torch

// Package latents keeps drawn portraits of many identities as VAE latents in memory, and renews them while a training goes on, so that
// neither drawing nor encoding stands in the way of a step and pictures are seldom seen twice.
package latents

import (
	"context"
	"math/rand/v2"
	"sync"

	"likeness/models/backend/torch"
	"likeness/models/op"
	"likeness/models/pixels"
	"likeness/models/vae"
	"likeness/training/portraits"
)

// Picture is one drawn portrait as the denoiser learns it.
type Picture struct {
	Context portraits.Context
	Latent  []float32 // [latent_channels, h, w], scaled
}

// Person is one identity with some pictures.
type Person struct {
	Identity portraits.Identity
	Pictures []Picture
}

// Config says what a pool holds.
type Config struct {
	VAE     vae.Config
	Persons int // kept at a time
	Each    int // pictures of each person
	Begin   int // persons before the first step
	Renew   int // persons at every step
	First   int // index of the first identity
	Seed    uint64
}

// Default holds enough for hours of training in a gigabyte of memory.
func Default(cfg vae.Config, seed uint64) Config {
	return Config{VAE: cfg, Persons: 8192, Each: 4, Begin: 768, Renew: 2, Seed: seed}
}

// Pool is a set of persons that changes; it is safe for concurrent use.
type Pool struct {
	cfg      Config
	engine   *torch.Engine
	weights  *torch.Params
	model    op.Model
	renderer *portraits.Renderer
	random   *rand.Rand
	drawn    int // identities so far

	mu      sync.Mutex
	persons []Person
}

// New returns an empty pool; weights are the VAE's.
func New(engine *torch.Engine, weights *torch.Params, cfg Config) *Pool {
	return &Pool{cfg: cfg, engine: engine, weights: weights, model: vae.Encoder(cfg.VAE), renderer: portraits.NewRenderer(),
		random: rand.New(rand.NewPCG(cfg.Seed, 0x706f6f6c))}
}

// Grow draws and encodes n new persons; when the pool is full the oldest ones make room. It must not be called concurrently.
func (p *Pool) Grow(n int) error {
	size := 3 * portraits.Size * portraits.Size
	values := make([]float32, n*p.cfg.Each*size)
	fresh := make([]Person, n)
	for i := range fresh {
		fresh[i].Identity = portraits.Train.Identity(p.cfg.First + p.drawn + i)
		for j := range p.cfg.Each {
			c := portraits.NewContext(p.random)
			pixels.Planes(values[(i*p.cfg.Each+j)*size:], p.renderer.Draw(fresh[i].Identity, c))
			fresh[i].Pictures = append(fresh[i].Pictures, Picture{Context: c})
		}
	}
	in := map[string]op.Array{"pixel_values": op.Floats(values, n*p.cfg.Each, 3, portraits.Size, portraits.Size)}
	out, err := p.engine.Run(p.model, in, p.weights)
	if err != nil {
		return err
	}
	mean := out["latent_mean"].F32
	length := len(mean) / (n * p.cfg.Each)
	for i := range mean {
		mean[i] = float32((float64(mean[i]) - p.cfg.VAE.Shift()) * p.cfg.VAE.ScalingFactor)
	}
	for i := range fresh {
		for j := range fresh[i].Pictures {
			at := (i*p.cfg.Each + j) * length
			fresh[i].Pictures[j].Latent = mean[at : at+length : at+length]
		}
	}
	p.put(fresh)
	return nil
}

func (p *Pool) put(fresh []Person) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, person := range fresh {
		if len(p.persons) < p.cfg.Persons {
			p.persons = append(p.persons, person)
		} else {
			p.persons[p.drawn%p.cfg.Persons] = person
		}
		p.drawn++
	}
}

// Fill draws the persons that the first step may pick from.
func (p *Pool) Fill(ctx context.Context) error {
	const together = 8
	for p.Len() < p.cfg.Begin {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.Grow(min(together, p.cfg.Begin-p.Len())); err != nil {
			return err
		}
	}
	return nil
}

// Renew draws the persons that come with a step.
func (p *Pool) Renew() error { return p.Grow(p.cfg.Renew) }

// Len is the number of persons that the pool holds now.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.persons)
}

// Pick returns a random person.
func (p *Pool) Pick(r *rand.Rand) Person {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.persons[r.IntN(len(p.persons))]
}
