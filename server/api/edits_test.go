package api

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"strings"
	"testing"
)

// canvas is a PNG of one colour.
func canvas(w, h int, c color.Color) string {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		img.Set(i%w, i/w, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.String()
}

func (w *world) edit(parts ...part) answer {
	w.t.Helper()
	contentType, body := form(parts...)
	return w.do("POST", "/v1/images/edits", contentType, body)
}

// An edit has the fields of a generation, as a form, and its pictures; concepts are named as ever.
func TestEdit(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Model.Fit = func(width, height int) (int, int) { return width + 8, height + 16 } })
	w.concept("me", red)
	a := w.want(w.edit(part{"image", canvas(40, 24, blue)}, part{"mask", canvas(40, 24, color.White)}, part{"prompt", " <me:0.5> 12 "}, part{"n", "2"},
		part{"seed", "7"}, part{"steps", " 3\n"}, part{"guidance_scale", "2.5"}, part{"strength", "0.6"}, part{"input_fidelity", "high"}, part{"model", "demo"}), 200)
	got := read[generated](w, a)
	if len(got.Data) != 2 || got.Data[1].Seed != 8 || got.Size != "48x40" {
		t.Fatalf("%+v", got)
	}
	r := w.requests[0]
	if r.Image.Bounds().Size() != image.Pt(40, 24) || r.Mask.Bounds().Size() != image.Pt(40, 24) || r.Strength != 0.6 || r.Steps != 3 ||
		r.GuidanceScale != 2.5 || len(r.Subjects) != 1 || r.Subjects[0].Scale != 0.5 || r.Prompt != " <me> 12 " || r.Owner == "" {
		t.Errorf("%+v", r)
	}
	if c := color.NRGBAModel.Convert(r.Image.At(5, 5)); c != blue {
		t.Errorf("the picture is %v", c)
	}
	w.want(w.edit(part{"image[]", canvas(2*maxSide, 8, blue)}, part{"prompt", "x"}, part{"size", "64x32"}), 200, "64x32")
	if r := w.requests[2]; r.Image.Bounds().Size() != image.Pt(maxSide, 4) || r.Mask != nil || r.Strength != 0 || r.Width != 64 {
		t.Errorf("%v %+v", r.Image.Bounds(), r)
	}
}

// A stream of an edit has OpenAI's names for it.
func TestEditStream(t *testing.T) {
	w := newWorld(t)
	a := w.want(w.edit(part{"image", canvas(16, 16, red)}, part{"prompt", "x"}, part{"stream", "true"}, part{"partial_images", "1"}), 200,
		"event: image_edit.partial_image", `"type":"image_edit.completed"`, "event: progress", "[DONE]")
	if strings.Contains(string(a.body), "image_generation") {
		t.Error("an edit is called a generation")
	}
}

// Each mistake is named, and nothing is drawn.
func TestBadEdits(t *testing.T) {
	w := newWorld(t)
	picture, prompt := part{"image", canvas(16, 16, red)}, part{"prompt", "x"}
	broken := picture.value[:len(picture.value)-20]
	huge := "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x80\x00\x00\x00\x80\x00\x08\x02\x00\x00\x00"
	for _, c := range []struct {
		parts  []part
		status int
		says   string
	}{
		{[]part{prompt}, 400, "missing_image"},
		{[]part{picture}, 400, "prompt is missing"},
		{[]part{picture, picture, prompt}, 422, "one picture"},
		{[]part{{"image", "no picture"}, prompt}, 415, "image_not_an_image"},
		{[]part{{"image", "GIF89a"}, prompt}, 415, "GIF"},
		{[]part{{"image", ""}, prompt}, 422, "empty"},
		{[]part{{"image", broken}, prompt}, 422, "image_damaged"},
		{[]part{picture, {"mask", broken}, prompt}, 422, `"param":"mask"`},
		{[]part{{"image", huge}, prompt}, 422, "image_"},
		{[]part{picture, {"mask", canvas(16, 8, red)}, prompt}, 400, "mask has 16×8 pixels, the image 16×16"},
		{[]part{picture, prompt, {"strength", "0"}}, 400, "strength is 0"},
		{[]part{picture, prompt, {"strength", "1.5"}}, 400, "strength is 1.5"},
		{[]part{picture, prompt, {"strength", "NaN"}}, 400, "strength does not take"},
		{[]part{picture, prompt, {"n", "11"}}, 400, "n is 11"},
		{[]part{picture, prompt, {"size", "big"}}, 400, "size"},
		{[]part{picture, prompt, {"steps", "true"}}, 400, "steps"},
		{[]part{picture, prompt, {"colour", "red"}}, 400, "colour"},
		{[]part{picture, {"prompt", "\xff"}}, 400, "not text"},
		{[]part{picture, {"prompt", strings.Repeat("é", 1001)}}, 422, "1000 characters"},
		{[]part{picture, {"prompt", strings.Repeat("é", 3000)}}, 422, "1000 characters"},
		{[]part{picture, {"prompt", "<ann>"}}, 422, "unknown_word"},
		{[]part{picture, prompt, {"model", "other"}}, 404, "model_not_found"},
	} {
		w.want(w.edit(c.parts...), c.status, c.says)
	}
	w.want(w.json("POST", "/v1/images/edits", `{"prompt":"x"}`), http.StatusUnsupportedMediaType, "multipart")
	if len(w.requests) != 0 || w.uploading.count() != 0 || w.drawing.count() != 0 {
		t.Errorf("drawn: %+v", w.requests)
	}
	got := read[generated](w, w.want(w.edit(picture, prompt), 200))
	if _, err := base64.StdEncoding.DecodeString(got.Data[0].B64JSON); err != nil {
		t.Error(err)
	}
}
