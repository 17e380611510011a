// Package torch is the Builder that trains: it runs a model eagerly on libtorch, with gradients, through gotch's C layer.
//
// It builds with the tag torch only, and needs libtorch: scripts/setup torch fetches it, scripts/env tells cgo where it is.
package torch
