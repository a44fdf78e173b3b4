package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

// A Change is what update changes of a network.
type Change struct {
	MTU     *int
	ICC     *bool
	Labels  map[string]string
	Unlabel []string
}

// Any reports whether anything is to be changed.
func (c *Change) Any() bool {
	return c.MTU != nil || c.ICC != nil || len(c.Labels) > 0 || len(c.Unlabel) > 0
}

func (c *Change) String() string {
	var words []string
	if c.MTU != nil {
		words = append(words, fmt.Sprintf("mtu %d", *c.MTU))
	}
	if c.ICC != nil {
		words = append(words, fmt.Sprintf("icc %t", *c.ICC))
	}
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		words = append(words, "label "+k+"="+c.Labels[k])
	}
	for _, k := range c.Unlabel {
		words = append(words, "no label "+k)
	}
	return strings.Join(words, ", ")
}

// Edit returns a conflist with a change. All else stays in its place.
func Edit(conflist []byte, c Change, meta inventory.Metadata) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(conflist))
	d.UseNumber()
	v, err := ordered(d)
	if err != nil {
		return nil, err
	}
	top, ok := v.(*object)
	if !ok {
		return nil, fmt.Errorf("a conflist is an object")
	}
	plugin := top // of a single configuration
	if plugins, ok := top.values["plugins"].([]any); ok && len(plugins) > 0 {
		if plugin, ok = plugins[0].(*object); !ok {
			return nil, fmt.Errorf("plugins[0] is no object")
		}
	}
	if c.MTU != nil {
		plugin.set("mtu", *c.MTU)
	}
	if c.ICC != nil {
		plugin.set("icc", *c.ICC)
	}
	if len(c.Labels) > 0 || len(c.Unlabel) > 0 {
		labels := maps.Clone(meta.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, c.Labels)
		for _, k := range c.Unlabel {
			delete(labels, k)
		}
		meta.Labels = labels
		top.set("dockyard", meta)
	}
	text, err := json.Marshal(top)
	if err != nil {
		return nil, err
	}
	return pretty(text)
}

// ordered decodes JSON, with objects that keep their order.
func ordered(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	open, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	o, list := &object{}, []any{}
	for d.More() {
		var key any
		if open == '{' {
			if key, err = d.Token(); err != nil {
				return nil, err
			}
		}
		v, err := ordered(d)
		if err != nil {
			return nil, err
		}
		if open == '{' {
			o.put(key.(string), v)
		} else {
			list = append(list, v)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if open == '{' {
		return o, nil
	}
	return list, nil
}

// ResultMTU returns a result of ADD in which each interface that has an MTU has that
// one.
func ResultMTU(result []byte, mtu int) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(result))
	d.UseNumber()
	v, err := ordered(d)
	if err != nil {
		return nil, err
	}
	if top, ok := v.(*object); ok {
		links, _ := top.values["interfaces"].([]any)
		for _, l := range links {
			if o, ok := l.(*object); ok && o.values["mtu"] != nil {
				o.put("mtu", mtu)
			}
		}
	}
	return json.Marshal(v)
}
