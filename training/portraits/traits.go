package portraits

import "reflect"

// Traits are the person's traits as numbers: floats as they are, bools as 0 or 1, categories as one of maxValues.
func (id Identity) Traits() []float32 {
	var all []float32
	v := reflect.ValueOf(id)
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Float64:
			all = append(all, float32(f.Float()))
		case reflect.Bool:
			all = append(all, map[bool]float32{true: 1}[f.Bool()])
		default:
			one := make([]float32, maxValues)
			one[f.Int()] = 1
			all = append(all, one...)
		}
	}
	return all
}

// maxValues is how many values a category has at most.
const maxValues = 16

// NumTraits is the number of values of [Identity.Traits].
var NumTraits = len(Identity{}.Traits())
