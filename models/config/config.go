// Package config reads the config.json files that published checkpoints carry.
package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strings"
)

// Any is the fixed value of a key that is read over.
const Any = "*"

// Parse fills into, a pointer to a struct with json tags that already holds the defaults, from a config.json of the given class.
// Keys that begin with "_" are the writer's own notes, and a null leaves the default. Keys without a field must stand in fixed with
// the one value that is supported (as JSON; [Any] where the value does not matter); all other keys are errors, named at once.
func Parse(data []byte, class string, into any, fixed map[string]string) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return fmt.Errorf("config of %s: %w", class, err)
	}
	if name, ok := raw["_class_name"]; ok {
		var got string
		if json.Unmarshal(name, &got) != nil || got != class {
			return fmt.Errorf("config: _class_name is %s, want %q", name, class)
		}
	}
	known := map[string]bool{}
	t := reflect.TypeOf(into).Elem()
	for i := range t.NumField() {
		known[strings.Split(t.Field(i).Tag.Get("json"), ",")[0]] = true
	}
	var unknown []string
	for key, value := range raw {
		switch {
		case strings.HasPrefix(key, "_") || bytes.Equal(value, []byte("null")):
			delete(raw, key)
		case !known[key]:
			want, ok := fixed[key]
			if !ok {
				unknown = append(unknown, key)
			} else if want != Any && !equal(want, value) {
				return fmt.Errorf("config of %s: %s is %s, supported is %s", class, key, value, want)
			}
			delete(raw, key)
		}
	}
	if len(unknown) > 0 {
		sort.Strings(unknown)
		return fmt.Errorf("config of %s: unknown keys: %s", class, strings.Join(unknown, ", "))
	}
	clean, err := json.Marshal(raw)
	if err != nil {
		return fmt.Errorf("config of %s: %w", class, err)
	}
	if err := json.Unmarshal(clean, into); err != nil {
		return fmt.Errorf("config of %s: %w", class, err)
	}
	return nil
}

// equal compares as JSON: 1 and 1.0 are one number.
func equal(want string, got json.RawMessage) bool {
	var a, b any
	return json.Unmarshal([]byte(want), &a) == nil && json.Unmarshal(got, &b) == nil && reflect.DeepEqual(a, b)
}
