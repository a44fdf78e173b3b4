package spec

import (
	"bytes"
	"encoding/json"
	"strings"
)

// width is how long a line may be that holds a whole object or list.
const width = 88

// pretty lays JSON out as a person does: what fits into a line is one, but for the
// file itself and its list of plugins.
func pretty(b []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	text, err := layOut(d, "", 0)
	return []byte(text + "\n"), err
}

func layOut(d *json.Decoder, indent string, depth int) (string, error) {
	token, err := d.Token()
	if err != nil {
		return "", err
	}
	open, ok := token.(json.Delim)
	if !ok {
		text, err := json.Marshal(token)
		return string(text), err
	}
	var parts []string
	for d.More() {
		part := ""
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return "", err
			}
			name, err := json.Marshal(key)
			if err != nil {
				return "", err
			}
			part = string(name) + ": "
		}
		value, err := layOut(d, indent+"  ", depth+1)
		if err != nil {
			return "", err
		}
		parts = append(parts, part+value)
	}
	if _, err := d.Token(); err != nil {
		return "", err
	}
	return join(parts, rune(open), indent, depth), nil
}

func join(parts []string, open rune, indent string, depth int) string {
	closing := map[rune]string{'{': "}", '[': "]"}[open]
	line := string(open) + strings.Join(parts, ", ") + closing
	if open == '{' && len(parts) > 0 && depth > 0 {
		line = "{ " + strings.Join(parts, ", ") + " }"
	}
	const top = 2 // the file, and its list of plugins
	if len(parts) == 0 || depth >= top && len(indent)+len(line) <= width && !strings.Contains(line, "\n") {
		return line
	}
	return string(open) + "\n" + indent + "  " + strings.Join(parts, ",\n"+indent+"  ") + "\n" + indent + closing
}
