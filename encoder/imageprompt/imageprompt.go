// Package imageprompt serves a published IP-Adapter as an encoder: photos become image tokens, which the UNet attends to beside the text.
// Several photos are one longer row of tokens, as in diffusers. What sees the photos is an image encoder or, of a FaceID adapter, a face
// recogniser.
package imageprompt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/checkpoint"
	"likeness/models/clip"
	"likeness/models/ipadapter"
	"likeness/models/op"
	"likeness/models/pipeline"
)

// Method is the name that concepts of an IP-Adapter carry.
const Method = "ip-adapter"

// What CLIP's image processor takes from red, green and blue in 0..1, and divides them by then.
var (
	mean = [3]float32{0.48145466, 0.4578275, 0.40821073}
	std  = [3]float32{0.26862954, 0.26130258, 0.27577711}
)

// Adapter is an open IP-Adapter with what sees photos for it. It is safe for concurrent use.
type Adapter struct {
	file    *checkpoint.Adapter
	cfg     ipadapter.Config
	backend pipeline.Backend
	version string
	run     pipeline.Runner // nil in low memory: opened for each run
	blank   []float32

	images *checkpoint.Component // the image encoder, and its configuration; nil of FaceID
	vision clip.Config
	faces  Recogniser // of FaceID
}

// Open opens the safetensors file of an IP-Adapter and the folder of the image encoder that it was trained with; where none is named, that is
// image_encoder beside the file, as they are published. Of a FaceID adapter, imageEncoder is instead what recogniser opens. The caller closes
// the Adapter, after the model that uses it.
func Open(ctx context.Context, path, imageEncoder string, backend pipeline.Backend, recogniser func(path string) (Recogniser, error)) (*Adapter, error) {
	file, err := checkpoint.OpenAdapter(path)
	if err != nil {
		return nil, err
	}
	a := &Adapter{file: file, backend: backend}
	if a.cfg, err = ReadConfig(a.file); err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	} else if a.cfg.Kind == ipadapter.Face {
		err = a.openRecogniser(path, imageEncoder, recogniser)
	} else {
		err = a.openEncoder(path, imageEncoder)
	}
	if err == nil {
		err = a.prepare(ctx, path)
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// prepare makes the network run, and the blank tokens.
func (a *Adapter) prepare(ctx context.Context, path string) (err error) {
	if !a.backend.LowMemory {
		run, err := a.network()
		if err != nil {
			return err
		}
		a.run = run
	}
	nothing := a.pixels(make([]float32, 3*a.vision.ImageSize*a.vision.ImageSize), 1)
	if a.faces != nil {
		nothing = vectors(make([]float32, a.cfg.ImageWidth), 1)
	}
	out, err := a.look(ctx, nothing, 1)
	if err != nil {
		return err
	}
	a.blank = out["image_tokens"].F32
	if !op.Finite(a.blank) { // zeros have gone through all weights
		return fmt.Errorf("%s: image tokens are not finite: this file or the image encoder's holds weights that are not numbers", path)
	}
	if blank, own := out["blank_tokens"]; own {
		a.blank = blank.F32
	}
	return nil
}

// ReadConfig tells what an adapter is by the shapes of its projection; one that cannot be used is an error that says why.
func ReadConfig(file *checkpoint.Adapter) (ipadapter.Config, error) {
	shapes := map[string][]int{}
	for _, name := range file.ImageProj.Names() {
		info, _ := file.ImageProj.Info(name)
		shapes[name] = info.Shape
	}
	return ipadapter.ReadConfig(shapes)
}

// openEncoder opens the image encoder and holds the adapter against it.
func (a *Adapter) openEncoder(path, folder string) (err error) {
	if folder == "" {
		folder = filepath.Join(filepath.Dir(path), "image_encoder")
	}
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: an %s reads pictures with an image encoder, and there is no folder %s: fetch the image_encoder folder that is published with the adapter (%s: config.json and model.safetensors) and name it with --image-encoder",
			path, a.cfg.Kind, folder, a.cfg.Encoder())
	}
	if a.images, err = checkpoint.OpenComponent(folder); err != nil {
		return err
	}
	if a.images.Config() == nil {
		return fmt.Errorf("image encoder %s: it has no config.json", folder)
	}
	if a.vision, err = clip.ParseVisionConfig(a.images.Config()); err != nil {
		return fmt.Errorf("image encoder %s: %w", folder, err)
	}
	if err := a.cfg.Fits(a.vision); err != nil {
		return fmt.Errorf("image encoder %s: %w", folder, err)
	}
	seen, err := a.images.Fingerprint()
	if err == nil {
		a.version, err = a.fingerprint(seen)
	}
	return err
}

// network makes the image side run.
func (a *Adapter) network() (pipeline.Runner, error) {
	model, parts := ipadapter.Faces(a.cfg), map[string]*checkpoint.Component{ipadapter.ImageProj: a.file.ImageProj}
	if a.faces == nil {
		model, parts[ipadapter.ImageEncoder] = ipadapter.Network(a.cfg, a.vision), a.images
	}
	return a.backend.Network(ipadapter.ImageEncoder, model, a.file.ImageProj.With(parts))
}

// pixels is the input of n pictures.
func (a *Adapter) pixels(planes []float32, n int) map[string]op.Array {
	side := a.vision.ImageSize
	return map[string]op.Array{"pixel_values": op.Floats(planes, n, 3, side, side)}
}

// look runs the image side over n pictures.
func (a *Adapter) look(ctx context.Context, inputs map[string]op.Array, n int) (out map[string]op.Array, err error) {
	run := a.run
	if run == nil {
		if run, err = a.network(); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, run.Close()) }()
	}
	if out, err = run.Run(ctx, inputs); err != nil {
		return nil, fmt.Errorf("image encoder: %w", err)
	}
	if got, want := len(out["image_tokens"].F32), n*a.cfg.Tokens(a.vision)*a.cfg.TextWidth; got != want {
		return nil, fmt.Errorf("image encoder: image_tokens has %d values, needs %d", got, want)
	}
	return out, nil
}

// fingerprint identifies the adapter with what sees for it, whose own fingerprint is seen.
func (a *Adapter) fingerprint(seen string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, seen)
	for _, c := range []*checkpoint.Component{a.file.ImageProj, a.file.Attention} {
		one, err := c.Fingerprint()
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, one)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ImagePrompts is what the model is opened with.
func (a *Adapter) ImagePrompts() *pipeline.ImagePrompts {
	p := &pipeline.ImagePrompts{Attention: a.file.Attention, Tokens: a.cfg.Tokens(a.vision), Blank: a.blank}
	if lora, ok := a.file.Attention.Info("0.to_q_lora.down.weight"); ok && len(lora.Shape) == 2 {
		p.Rank = lora.Shape[0]
	}
	return p
}

// Cut is what of a photo is encoded.
func (a *Adapter) Cut() encoder.Cut {
	if a.faces != nil {
		return encoder.Recognised
	}
	return encoder.Whole
}

// Size is the side of the photos that are encoded, cut by an Intake as Cut says.
func (a *Adapter) Size() int {
	if a.faces != nil {
		return a.faces.Size()
	}
	return a.vision.ImageSize
}

// Version identifies adapter and image encoder by their weights.
func (a *Adapter) Version() string { return a.version }

// Kind says what the adapter is, for people.
func (a *Adapter) Kind() string { return string(a.cfg.Kind) }

// Encode turns 1 to encoder.MaxPhotos photos of one person or thing into a concept for the base model of the fingerprint.
func (a *Adapter) Encode(ctx context.Context, photos []*encoder.Photo, word, class, base string) (*concept.Concept, error) {
	if err := encoder.CheckCount(photos); err != nil {
		return nil, err
	}
	c := &concept.Concept{Word: word, Class: class, Method: Method, BaseModel: base, Encoder: a.version, Created: time.Now().UTC(),
		Photos: len(photos), PhotoHash: encoder.HashPhotos(photos)}
	side := a.Size()
	for i, p := range photos {
		if p.Image.Rect.Size() != image.Pt(side, side) {
			return nil, fmt.Errorf("photo %d is %v, the adapter reads %d×%d", i+1, p.Image.Rect.Size(), side, side)
		}
		c.Notes = append(c.Notes, p.Notes...)
	}
	seen, err := a.see(ctx, photos)
	if err != nil {
		return nil, err
	}
	out, err := a.look(ctx, seen, len(photos))
	if err != nil {
		return nil, err
	}
	c.ImageTokens = concept.Tokens{Count: len(photos) * a.cfg.Tokens(a.vision), Width: a.cfg.TextWidth, Data: out["image_tokens"].F32}
	return c, c.Validate()
}

// see turns photos into the network's input.
func (a *Adapter) see(ctx context.Context, photos []*encoder.Photo) (map[string]op.Array, error) {
	if a.faces != nil {
		return a.recognise(ctx, photos)
	}
	n := 3 * a.vision.ImageSize * a.vision.ImageSize
	planes := make([]float32, len(photos)*n)
	for i, p := range photos {
		normalise(planes[i*n:], p.Image)
	}
	return a.pixels(planes, len(photos)), nil
}

// normalise writes a picture into dst [3, H, W] as CLIP was trained on it.
func normalise(dst []float32, img *image.RGBA) {
	size := img.Rect.Size()
	n := size.X * size.Y
	for i := range n {
		p := img.Pix[img.PixOffset(img.Rect.Min.X+i%size.X, img.Rect.Min.Y+i/size.X):]
		for c := range mean {
			dst[c*n+i] = (float32(p[c])/255 - mean[c]) / std[c]
		}
	}
}

// OtherAdapterError is a concept of image tokens that the open model has not the adapter for.
type OtherAdapterError struct{ Word string }

func (e *OtherAdapterError) Error() string {
	return fmt.Sprintf("concept <%s> was made with an IP-Adapter that is not open: open the model with that --ip-adapter, or encode its photos again", e.Word)
}

// Tokens are a concept's, for the pipeline; a nil Adapter has none for any.
func (a *Adapter) Tokens(c *concept.Concept) ([]float32, error) {
	if len(c.ImageTokens.Data) > 0 && (a == nil || c.Encoder != a.version) {
		return nil, &OtherAdapterError{c.Word}
	}
	return c.ImageTokens.Data, nil
}

// Close releases network and files.
func (a *Adapter) Close() error {
	var errs []error
	if a.run != nil {
		errs = append(errs, a.run.Close())
	}
	if a.images != nil {
		errs = append(errs, a.images.Close())
	}
	if a.faces != nil {
		errs = append(errs, a.faces.Close())
	}
	return errors.Join(append(errs, a.file.Close())...)
}
