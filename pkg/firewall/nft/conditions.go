package nft

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
)

// ParseConditions judges the conditions of one family. They are a row of matches, all
// of which must hold, each
//
//	FIELD [==|!=|<|<=|>|>=] VALUE          [!] OPTION VALUE
//	FIELD [!=] { VALUE, VALUE, ... }
//
// in nft's words or in iptables', cut into words in any way. See fields for what may be
// compared. Nothing else is accepted, and nothing is handed to a shell or to nft as
// text.
func ParseConditions(ipv6 bool, words []string) error {
	f := v4
	if ipv6 {
		f = v6
	}
	_, err := parseConditions(f, words)
	return err
}

// OnlyIPTablesKnows reports whether conditions have an option of iptables that
// ParseConditions does not accept ("-m").
func OnlyIPTablesKnows(words []string) bool {
	return slices.ContainsFunc(lex(words), func(w string) bool {
		return strings.HasPrefix(w, "-") && !slices.ContainsFunc(fields(v4), func(m field) bool { return slices.Contains(m.names, w) })
	})
}

// maxAlternatives bounds the rules that one mapping takes: sets multiply.
const maxAlternatives = 1024

// parseConditions returns the alternatives of which one must hold: a rule is a row of
// comparisons that all must hold, so "a { b, c }" is two.
func parseConditions(f family, words []string) ([]exprs, error) {
	out := []exprs{nil}
	for tokens := lex(words); len(tokens) > 0; {
		alternatives, rest, err := parseCondition(f, tokens)
		if err != nil {
			return nil, err
		}
		if len(out)*len(alternatives) > maxAlternatives {
			return nil, fmt.Errorf("%q: its sets have more than %d combinations; give subnets or ranges instead of single values", strings.Join(words, " "), maxAlternatives)
		}
		var product []exprs
		for _, o := range out {
			for _, a := range alternatives {
				product = append(product, rule(o, a))
			}
		}
		out, tokens = product, rest
	}
	return out, nil
}

// lex divides words as nft does: braces and commas stand for themselves.
func lex(words []string) []string {
	text := strings.ReplaceAll(strings.Join(words, " "), " - ", "-")
	return strings.Fields(strings.NewReplacer("{", " { ", "}", " } ", ",", " , ").Replace(text))
}

var operators = map[string]expr.CmpOp{
	"==": expr.CmpOpEq, "eq": expr.CmpOpEq, "!=": expr.CmpOpNeq, "ne": expr.CmpOpNeq,
	"<": expr.CmpOpLt, "lt": expr.CmpOpLt, "<=": expr.CmpOpLte, "le": expr.CmpOpLte,
	">": expr.CmpOpGt, "gt": expr.CmpOpGt, ">=": expr.CmpOpGte, "ge": expr.CmpOpGte,
}

// parseCondition takes one match from the front of the tokens.
func parseCondition(f family, tokens []string) (alternatives []exprs, rest []string, err error) {
	text := strings.Join(tokens, " ")
	op := expr.CmpOpEq
	if tokens[0] == "!" {
		op, tokens = expr.CmpOpNeq, tokens[1:]
	}
	what, tokens, ok := takeField(f, tokens)
	if !ok {
		return nil, nil, impossible(f, text)
	}
	if len(tokens) > 0 {
		if given, ok := operators[tokens[0]]; ok {
			op, tokens = given, tokens[1:]
		}
	}
	values, rest, err := takeValues(tokens)
	if err != nil {
		return nil, nil, fmt.Errorf("%q: %w; %w", text, err, impossible(f, text))
	}
	if op != expr.CmpOpEq && op != expr.CmpOpNeq && (!what.ordered || len(values) > 1) {
		return nil, nil, fmt.Errorf("%q: only one number, as of a port, is compared by order; want == or !=", text)
	}
	all := what.load
	for _, v := range values {
		compare, err := what.parse(v, op)
		if err != nil {
			return nil, nil, fmt.Errorf("%q: %w", v, err)
		}
		if op == expr.CmpOpEq {
			alternatives = append(alternatives, rule(what.load, compare))
		} else if all = rule(all, compare); what.clobbers {
			all = rule(all, what.load)
		}
	}
	if op != expr.CmpOpEq { // none of the values
		alternatives = []exprs{all}
	}
	return alternatives, rest, nil
}

// takeField finds the field that the tokens begin with, by its longest name.
func takeField(f family, tokens []string) (field, []string, bool) {
	for n := min(3, len(tokens)); n > 0; n-- {
		name := strings.Join(tokens[:n], " ")
		for _, m := range fields(f) {
			if slices.Contains(m.names, name) {
				return m, tokens[n:], true
			}
		}
	}
	return field{}, nil, false
}

// takeValues takes one value, values with commas between, or a set in braces.
func takeValues(tokens []string) (values, rest []string, err error) {
	braces := len(tokens) > 0 && tokens[0] == "{"
	if braces {
		tokens = tokens[1:]
	}
	for len(tokens) > 0 && !slices.Contains([]string{"{", "}", ","}, tokens[0]) {
		values, tokens = append(values, strings.Trim(tokens[0], `"`)), tokens[1:]
		if len(tokens) == 0 || tokens[0] != "," {
			break
		}
		tokens = tokens[1:]
	}
	if braces {
		if len(tokens) == 0 || tokens[0] != "}" {
			return nil, nil, errors.New("want a '}' after the values of a set")
		}
		tokens = tokens[1:]
	}
	if len(values) == 0 {
		return nil, nil, errors.New("the value is missing")
	}
	return values, tokens, nil
}

// impossible lists what conditions can be made of.
func impossible(f family, text string) error {
	var names []string
	for _, m := range fields(f) {
		names = append(names, m.names[0])
	}
	return fmt.Errorf("%q: want matches such as %q, %q or %q, of %s; what else nft and iptables know is not possible here",
		text, f.name+" saddr != { SUBNET, FIRST-LAST }", "! -d SUBNET", "iifname LINK", strings.Join(names, ", "))
}
