// Package iam decides as IAM does whether identity-based policies allow a call: actions, resources, conditions, variables. It
// knows what the repository's policies are made of and refuses to read the rest, so that a word nobody understands is not a
// statement that never matches.
package iam

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Document is one policy.
type Document struct {
	Version    string      `yaml:"Version"`
	ID         string      `yaml:"Id"`
	Statements []Statement `yaml:"Statement"`
}

// Statement is one of its statements.
type Statement struct {
	Sid         string                     `yaml:"Sid"`
	Effect      string                     `yaml:"Effect"`
	Action      list                       `yaml:"Action"`
	NotAction   list                       `yaml:"NotAction"`
	Resource    list                       `yaml:"Resource"`
	NotResource list                       `yaml:"NotResource"`
	Condition   map[string]map[string]list `yaml:"Condition"` // by operator and key
}

// list is one text or several; IAM allows both, and booleans for texts.
type list []string

func (l *list) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*l = list{n.Value}
		return nil
	}
	return n.Decode((*[]string)(l))
}

// Request is what is asked for: one action on one resource.
type Request struct {
	Action   string              // "ecs:UpdateService"
	Resource string              // an ARN; "*" for actions that know no resource types
	Context  map[string][]string // condition keys, of the request, the resource and the principal
}

// Parse reads a policy, JSON or YAML.
func Parse(text []byte) (*Document, error) {
	d := &Document{}
	in := yaml.NewDecoder(strings.NewReader(string(text)))
	in.KnownFields(true)
	if err := in.Decode(d); err != nil {
		return nil, err
	}
	if d.Version != "2012-10-17" {
		return nil, fmt.Errorf("version %q: variables are not known before 2012-10-17", d.Version)
	}
	for i, s := range d.Statements {
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("statement %d %s: %w", i, s.Sid, err)
		}
	}
	if len(d.Statements) == 0 {
		return nil, errors.New("no statement")
	}
	return d, nil
}

func (s *Statement) check() error {
	if s.Effect != "Allow" && s.Effect != "Deny" {
		return fmt.Errorf("effect %q", s.Effect)
	}
	if (s.Action == nil) == (s.NotAction == nil) || (s.Resource == nil) == (s.NotResource == nil) {
		return errors.New("one of Action and NotAction, one of Resource and NotResource")
	}
	for _, action := range slices.Concat(s.Action, s.NotAction) {
		if service, name, ok := strings.Cut(action, ":"); action != "*" && (!ok || service == "" || name == "") {
			return fmt.Errorf("action %q", action)
		}
	}
	for _, resource := range slices.Concat(s.Resource, s.NotResource) {
		if resource != "*" && (!strings.HasPrefix(resource, "arn:") || strings.Count(resource, ":") < 5) {
			return fmt.Errorf("resource %q", resource)
		}
		if err := checkVariables(resource); err != nil {
			return err
		}
	}
	for operator, keys := range s.Condition {
		if _, _, err := operatorOf(operator); err != nil {
			return err
		}
		for key, values := range keys {
			if !slices.ContainsFunc(knownKeys, func(known string) bool { return matches(known, strings.ToLower(key)) }) {
				return fmt.Errorf("condition key %q", key)
			}
			for _, v := range values {
				if err := checkVariables(v); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// knownKeys are the condition keys, in lower case, that the emulator gives a request, and patterns of them.
var knownKeys = []string{"aws:userid", "aws:username", "aws:principalarn", "aws:principaltype", "aws:requestedregion", "aws:resourcetag/*",
	"ecs:cluster", "ssm:sessiondocumentaccesscheck", "ssm:resourcetag/*", "iam:passedtoservice"}

var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

func checkVariables(text string) error {
	for _, m := range variable.FindAllStringSubmatch(text, -1) {
		name := strings.ToLower(strings.TrimSpace(m[1]))
		if name != "*" && name != "?" && name != "$" && !slices.Contains(knownKeys, name) {
			return fmt.Errorf("variable ${%s}", m[1])
		}
	}
	return nil
}

// Decide says nil if the policies allow a request, and else why they don't. A statement that denies wins.
func Decide(policies []*Document, r Request) error {
	allowed := false
	for _, d := range policies {
		for _, s := range d.Statements {
			if !s.applies(r) {
				continue
			}
			if s.Effect == "Deny" {
				return fmt.Errorf("statement %s denies %s on %s", s.Sid, r.Action, r.Resource)
			}
			allowed = true
		}
	}
	if !allowed {
		return fmt.Errorf("no identity-based policy allows the %s action on %s", r.Action, r.Resource)
	}
	return nil
}

func (s *Statement) applies(r Request) bool {
	action := func(pattern string) bool { return matches(strings.ToLower(pattern), strings.ToLower(r.Action)) }
	resource := func(pattern string) bool {
		expanded, ok := expand(pattern, r.Context)
		return ok && expanded.MatchString(r.Resource)
	}
	if s.Action != nil && !slices.ContainsFunc(s.Action, action) || s.NotAction != nil && slices.ContainsFunc(s.NotAction, action) ||
		s.Resource != nil && !slices.ContainsFunc(s.Resource, resource) || s.NotResource != nil && slices.ContainsFunc(s.NotResource, resource) {
		return false
	}
	for operator, keys := range s.Condition {
		for key, values := range keys {
			if !holds(operator, key, values, r.Context) {
				return false
			}
		}
	}
	return true
}

// operatorOf takes a condition operator apart: its name without IfExists, and whether that was there.
func operatorOf(text string) (name string, ifExists bool, err error) {
	name, ifExists = strings.CutSuffix(text, "IfExists")
	switch name {
	case "StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringLike", "StringNotLike", "ArnEquals", "ArnLike",
		"ArnNotEquals", "ArnNotLike", "Bool", "Null":
		return name, ifExists, nil
	}
	return "", false, fmt.Errorf("condition operator %q", text)
}

// holds evaluates one condition. Several values in a policy are alternatives.
func holds(operator, key string, values []string, context map[string][]string) bool {
	name, ifExists, _ := operatorOf(operator)
	have, exists := context[strings.ToLower(key)]
	if name == "Null" {
		return slices.Contains(values, fmt.Sprint(!exists))
	}
	if !exists {
		return ifExists || strings.Contains(name, "Not")
	}
	positive := strings.Replace(name, "Not", "", 1)
	any := slices.ContainsFunc(have, func(value string) bool {
		return slices.ContainsFunc(values, func(want string) bool { return compare(positive, want, value, context) })
	})
	return any == (positive == name)
}

func compare(operator, want, value string, context map[string][]string) bool {
	switch operator {
	case "StringLike", "ArnEquals", "ArnLike": // ArnEquals and ArnLike are the same
		pattern, ok := expand(want, context)
		return ok && pattern.MatchString(value)
	case "StringEqualsIgnoreCase", "Bool":
		text, ok := fill(want, context)
		return ok && strings.EqualFold(text, value)
	}
	text, ok := fill(want, context)
	return ok && text == value
}

// fill puts a request's values into a text's variables; false if one is missing, and then nothing matches.
func fill(text string, context map[string][]string) (string, bool) {
	ok := true
	out := variable.ReplaceAllStringFunc(text, func(v string) string {
		name := strings.ToLower(strings.TrimSpace(v[2 : len(v)-1]))
		if name == "*" || name == "?" || name == "$" {
			return name
		}
		values := context[name]
		ok = ok && len(values) == 1
		return strings.Join(values, "")
	})
	return out, ok
}

// expand is a pattern with the variables' values, in which wildcards have no meaning, as a regular expression.
func expand(pattern string, context map[string][]string) (*regexp.Regexp, bool) {
	var out strings.Builder
	out.WriteString("^(?s:")
	at := 0
	for _, m := range variable.FindAllStringIndex(pattern, -1) {
		out.WriteString(wildcards(pattern[at:m[0]]))
		value, ok := fill(pattern[m[0]:m[1]], context)
		if !ok {
			return nil, false
		}
		out.WriteString(regexp.QuoteMeta(value))
		at = m[1]
	}
	out.WriteString(wildcards(pattern[at:]) + ")$")
	return regexp.MustCompile(out.String()), true
}

func wildcards(text string) string {
	return strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(text))
}

// matches compares a text with a pattern in which * and ? are wildcards.
func matches(pattern, text string) bool {
	return regexp.MustCompile("^(?s:" + wildcards(pattern) + ")$").MatchString(text)
}
