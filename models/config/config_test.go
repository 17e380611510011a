package config_test

import (
	"strings"
	"testing"

	"likeness/models/config"
)

type network struct {
	Width int     `json:"width"`
	Eps   float64 `json:"eps,omitempty"`
}

var fixed = map[string]string{"scale": "1", "mode": `"default"`, "dropout": config.Any}

func TestParse(t *testing.T) {
	got := network{Width: 3, Eps: 0.5}
	text := `{"_class_name": "Net", "_note": [1], "width": 8, "eps": null, "scale": 1.0, "mode": "default", "dropout": 0.1, "absent": null}`
	if err := config.Parse([]byte(text), "Net", &got, fixed); err != nil {
		t.Fatal(err)
	}
	if want := (network{Width: 8, Eps: 0.5}); got != want {
		t.Errorf("read %+v, want %+v", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"width": 8, "depth": 2, "beta": 1}`: "unknown keys: beta, depth",
		`{"scale": 2}`:                        "scale is 2, supported is 1",
		`{"mode": "other"}`:                   `mode is "other", supported is "default"`,
		`{"_class_name": "Other"}`:            `_class_name is "Other", want "Net"`,
		`{"width": "8"}`:                      "width",
		`{"width": 8`:                         "config of Net",
		`[]`:                                  "config of Net",
	} {
		if err := config.Parse([]byte(text), "Net", &network{}, fixed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want %q", text, err, want)
		}
	}
}
