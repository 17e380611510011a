package unet_test

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/backend/trace"
	"likeness/models/op/optest"
	"likeness/models/unet"
)

// TestDeep: the whole network predicts what it always does, and from its deep feature the outermost layers predict the same; a feature of
// another step acts.
func TestDeep(t *testing.T) {
	for _, folder := range optest.Folders(t, "testdata/*") {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			cfg, weights, io := read(t, folder)
			want := predict(t, unet.New(cfg, nil), weights, io)
			out, err := ref.Run(unet.Whole(cfg, nil), weights, io)
			if err != nil {
				t.Fatal(err)
			}
			optest.Near(t, "noise_pred beside deep", out["noise_pred"], want, 0)
			in := maps.Clone(io)
			in["deep"] = out["deep"]
			optest.Near(t, "noise_pred of the outermost layers", predict(t, unet.Shallow(cfg, nil), weights, in), want, 0)
			in["deep"] = optest.Normal("deep", out["deep"].Dims...)
			if other := predict(t, unet.Shallow(cfg, nil), weights, in); other.F32[0] == want.F32[0] {
				t.Error("another feature changes nothing")
			}
		})
	}
}

// TestShallowSize: of Stable Diffusion 1.5's parameters the outermost layers read at most a hundredth, with the offsets' targets that they have.
func TestShallowSize(t *testing.T) {
	cfg, err := unet.ParseConfig([]byte(sd15))
	if err != nil {
		t.Fatal(err)
	}
	layout, err := trace.Layout(unet.New(cfg, nil), 4, func(path string) bool { return strings.Contains(path, ".attn") })
	if err != nil {
		t.Fatal(err)
	}
	if _, parameters := sizes(t, unet.Shallow(cfg, layout)); parameters == 0 || parameters > 8_595_209 {
		t.Errorf("%d parameters, want at most 8595209", parameters)
	}
}
