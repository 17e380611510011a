package unet

import (
	"encoding/json"
	"fmt"
)

// Size is the height and width of the latents that a network was trained on.
type Size [2]int

// UnmarshalJSON reads one number for both sides, or a list of the height and the width.
func (s *Size) UnmarshalJSON(data []byte) error {
	var list PerLevel
	if err := json.Unmarshal(data, &list); err != nil || len(list) < 1 || len(list) > 2 {
		return fmt.Errorf("sample_size: %s is neither a number nor a pair", data)
	}
	s[0], s[1] = list[0], list[len(list)-1]
	return nil
}

// MarshalJSON writes one number where both sides are equal.
func (s Size) MarshalJSON() ([]byte, error) {
	if s[0] == s[1] {
		return json.Marshal(s[0])
	}
	return json.Marshal(s[:])
}

// PerLevel is a key that holds one number for all levels or a list with one for each.
type PerLevel []int

// UnmarshalJSON reads a number or a list of numbers.
func (p *PerLevel) UnmarshalJSON(data []byte) error {
	var one int
	if json.Unmarshal(data, &one) == nil {
		*p = PerLevel{one}
		return nil
	}
	var list []int
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("%s: neither a number nor a list of numbers", data)
	}
	*p = list
	return nil
}

// MarshalJSON writes one number where all levels share it.
func (p PerLevel) MarshalJSON() ([]byte, error) {
	switch len(p) {
	case 0:
		return []byte("null"), nil
	case 1:
		return json.Marshal(p[0])
	}
	return json.Marshal([]int(p))
}

func (p PerLevel) at(i int) int {
	if len(p) == 1 {
		return p[0]
	}
	return p[i]
}

// checkValues names the keys whose trouble no decoded Config shows: encoding/json leaves out the key where a type decodes itself, and
// a null that switches a part off, rather than asking for the default, looks like an absent key.
func checkValues(data []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	for _, key := range []string{"layers_per_block", "cross_attention_dim", "transformer_layers_per_block",
		"reverse_transformer_layers_per_block", "attention_head_dim", "num_attention_heads"} {
		if value, ok := raw[key]; ok {
			if err := new(PerLevel).UnmarshalJSON(value); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	for _, key := range []string{"mid_block_type", "norm_num_groups"} {
		if string(raw[key]) == "null" {
			return fmt.Errorf("%s: null, a network without is not supported", key)
		}
	}
	return nil
}
