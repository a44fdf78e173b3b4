package spec

import (
	"bytes"
	"encoding/json"
)

// An object is a JSON object that keeps the order of its keys, as a person would
// have written them.
type object struct {
	keys   []string
	values map[string]any
}

// set sets a key, unless the value is nil.
func (o *object) set(key string, value any) *object {
	if value == nil {
		return o
	}
	return o.put(key, value)
}

// put sets a key, also to null.
func (o *object) put(key string, value any) *object {
	if o.values == nil {
		o.values = map[string]any{}
	}
	if _, there := o.values[key]; !there {
		o.keys = append(o.keys, key)
	}
	o.values[key] = value
	return o
}

// MarshalJSON implements json.Marshaler.
func (o *object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, k := range o.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(k)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(o.values[k])
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
