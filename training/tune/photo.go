package tune

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"likeness/encoder"
)

// MaxPhotos is the number of photos that are learned from at most.
const MaxPhotos = 20

// Photo is one photo of the subject.
type Photo struct {
	Picture *encoder.Photo // of the base model's side: what is learned
	Seen    *encoder.Photo // of the encoder's side: what the encoder reads; nil for a model without one
}

// Intake cuts photos to squares of a side in pixels.
type Intake func(side int) *encoder.Intake

// ReadPhotos reads the photo at path or all those in the folder there, in order of their names. seen is the encoder's side, 0 for none.
// The error names every photo that cannot be used.
func ReadPhotos(ctx context.Context, path string, intake Intake, side, seen int) ([]Photo, error) {
	files, err := photoFiles(path)
	if err != nil {
		return nil, err
	}
	pictures, faces := intake(side), intake(max(seen, 1))
	var photos []Photo
	var errs []error
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var p Photo
		if p.Picture, err = pictures.Read(ctx, data); err == nil && seen == side {
			p.Seen = p.Picture
		} else if err == nil && seen > 0 {
			p.Seen, err = faces.Read(ctx, data)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file, err))
			continue
		}
		photos = append(photos, p)
	}
	return photos, errors.Join(errs...)
}

// photoFiles lists the files of 1 to MaxPhotos photos.
func photoFiles(path string) ([]string, error) {
	stat, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no photos: %s does not exist", path)
	}
	if err != nil {
		return nil, err
	}
	if !stat.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	switch n := len(files); {
	case n == 0:
		return nil, fmt.Errorf("no photos: the folder %s is empty; put 1 to %d photos of one person there", path, MaxPhotos)
	case n > MaxPhotos:
		return nil, fmt.Errorf("%s holds %d files: at most %d photos of one person are learned from", path, n, MaxPhotos)
	}
	return files, nil
}
