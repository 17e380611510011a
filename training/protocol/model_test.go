package protocol

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// What a model folder says of a method stands before the method's own, and nothing else changes.
func TestFor(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "missing"), os.Args[0]} {
		if got, err := For(path); err != nil || !reflect.DeepEqual(got, Methods) {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, ModelFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"lora": {"steps": 7, "learning_rate": 0.5}, "quick": {"batch": 3}}`)
	got, err := For(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range Methods {
		switch want.Name {
		case LoRA.Name:
			want.Steps, want.LearningRate = 7, 0.5
		case Quick.Name:
			want.Batch = 3
		}
		if got[i] != want {
			t.Errorf("%+v, want %+v", got[i], want)
		}
	}
	if Methods[1] != LoRA {
		t.Error("the methods' own changed")
	}
	for text, says := range map[string]string{`{"magic": {}}`: "magic", `{"lora": {"speed": 1}}`: "speed", `{"lora": {"steps": -1}}`: "steps", `[`: ModelFile} {
		write(text)
		if _, err := For(dir); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
