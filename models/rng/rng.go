// Package rng draws the standard normals that PyTorch draws for the same seed, so that the same seed gives the same
// picture here and in diffusers.
package rng

// Generator fills out with independent standard normals. One call corresponds to one torch.randn of that many
// elements; as in PyTorch, two calls of n differ from one call of 2n. A Generator serves one goroutine.
type Generator interface {
	Normal(out []float32)
}
