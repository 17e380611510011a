// Package web is the page: plain HTML, CSS and JavaScript modules, embedded as they are.
package web

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed index.html icon.svg css js samples
var files embed.FS

// Files has index.html and everything it loads.
func Files() fs.FS { return files }

// Samples has the sample photos.
func Samples() fs.FS {
	samples, _ := fs.Sub(files, "samples") // a valid name is all that it asks for
	return samples
}

// Handler serves Files. A browser asks each time whether they have changed.
func Handler() http.Handler {
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		server.ServeHTTP(w, r)
	})
}
