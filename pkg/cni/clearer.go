package cni

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// skel judges the environment and the outermost keys itself. It does not always
// say which variable or key, and speaks of Go where users write JSON.
var clearerText = map[string]string{
	"missing network name":                                    `name: missing, want the name of the network`,
	"invalid characters found in network name":                `name: found %q, want letters, digits and "_.-", a letter or digit first`,
	"invalid characters in containerID":                       `CNI_CONTAINERID: found %q, want letters, digits and "_.-", a letter or digit first`,
	"interface name is too long":                              `CNI_IFNAME: want at most 15 bytes`,
	"interface name is . or ..":                               `CNI_IFNAME: want a name other than "." and ".."`,
	"interface name contains / or : or whitespace characters": `CNI_IFNAME: want a name without '/', ':' or space`,
	"config version does not allow CHECK":                     `cniVersion: too old for CHECK, want "0.4.0" or later`,
	"config version does not allow GC":                        `cniVersion: too old for GC, want "1.1.0" or later`,
	"config version does not allow STATUS":                    `cniVersion: too old for STATUS, want "1.1.0" or later`,
	"incompatible CNI versions":                               `cniVersion: %s`,
}

// clearer puts an error of skel in the words of the other errors. One that it
// does not know stays as it is.
func clearer(err *types.Error) error {
	if text, ok := clearerText[err.Msg]; ok {
		if strings.Contains(text, "%") {
			text = fmt.Sprintf(text, err.Details)
		}
		return Errorf(err.Code, "%s", text)
	}
	if err.Code != CodeDecode {
		return err
	}
	wrongField := regexp.MustCompile(`json: cannot unmarshal (\w+) into Go struct field \.?(\w+) of type string`)
	wrongValue := regexp.MustCompile(`json: cannot unmarshal (\w+) into Go value of type .*`)
	for _, begin := range []string{"error unmarshall network config: ", "decoding version from network config: "} {
		if cause, ok := strings.CutPrefix(err.Msg, begin); ok {
			cause = wrongField.ReplaceAllString(cause, "$2: found a value of type $1, want a string")
			cause = wrongValue.ReplaceAllString(cause, "stdin: found a value of type $1, want a JSON object")
			if cause == err.Msg[len(begin):] {
				cause = "stdin: no JSON: " + cause
			}
			return Errorf(err.Code, "%s", cause)
		}
	}
	return err
}
