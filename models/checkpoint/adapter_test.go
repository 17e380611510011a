package checkpoint_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/models/checkpoint"
	"likeness/models/safetensors"
)

func TestOpenAdapter(t *testing.T) {
	const path = "../ipadapter/testdata/base_a/adapter.safetensors"
	a, err := checkpoint.OpenAdapter(path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if names := a.ImageProj.Names(); !slices.Equal(names, []string{"norm.bias", "norm.weight", "proj.bias", "proj.weight"}) {
		t.Error(names)
	}
	if names := a.Attention.Names(); len(names) < 4 || names[0] != "1.to_k_ip.weight" {
		t.Error(names)
	}
	folder, err := checkpoint.Open("../pipeline/testdata/tiny-sd")
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	unet, err := folder.Component(checkpoint.UNet)
	if err != nil {
		t.Fatal(err)
	}
	joined := unet.With(map[string]*checkpoint.Component{"ip": a.Attention})
	if n := len(joined.Names()); n != len(unet.Names())+len(a.Attention.Names()) {
		t.Errorf("%d weights of %d and %d", n, len(unet.Names()), len(a.Attention.Names()))
	}
	got, _, err := joined.Float32("ip/1.to_k_ip.weight")
	if err != nil {
		t.Fatal(err)
	}
	if want, _, _ := a.Attention.Float32("1.to_k_ip.weight"); !slices.Equal(got, want) {
		t.Error("the joined component reads another weight")
	}
	if info, ok := joined.Info("ip/1.to_k_ip.weight"); !ok || info.Path != path || info.Name != "ip/1.to_k_ip.weight" {
		t.Errorf("%+v", info)
	}
	if _, ok := joined.Info("conv_in.weight"); !ok {
		t.Error("the unet's own weights are gone")
	}
}

func TestNoAdapter(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, tensors ...string) string {
		all := map[string]safetensors.Tensor{}
		for _, tensor := range tensors {
			all[tensor] = safetensors.F32([]float32{1}, 1)
		}
		path := filepath.Join(dir, name)
		if err := safetensors.Write(path, all, nil); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pickle := filepath.Join(dir, "ip-adapter.bin")
	if err := os.WriteFile(pickle, []byte("PK\x03\x04\x00\x00\x08\x08 archive/data.pkl"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		pickle:                                   "this is a pickle",
		write("lora", "lora_unet_x.alpha"):       "no IP-Adapter but a LoRA",
		write("half", "image_proj.norm.weight"):  `no tensor's name begins with "ip_adapter."`,
		write("other", "ip_adapter.1.to_k_ip.w"): `no tensor's name begins with "image_proj."`,
		write("nothing", "x"):                    `no tensor's name begins with "image_proj."`,
	} {
		_, err := checkpoint.OpenAdapter(path)
		var kind *checkpoint.KindError
		if !errors.As(err, &kind) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", filepath.Base(path), err, want)
		}
	}
	if _, err := checkpoint.OpenAdapter(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := checkpoint.Open(write("adapter", "image_proj.norm.weight", "ip_adapter.1.to_k_ip.weight")); err == nil || !strings.Contains(err.Error(), "--ip-adapter") {
		t.Error(err)
	}
}
