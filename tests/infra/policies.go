package infra

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"gopkg.in/yaml.v3"

	"fumidai/tests/emulator/iam"
)

// Names are what the words in infra/iam stand for.
type Names struct{ Region, Account, Cluster, Service string }

// Policy reads a policy of infra/iam.
func Policy(name string, n Names) (*iam.Document, error) {
	_, here, _, _ := runtime.Caller(0)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "..", "infra", "iam", name))
	if err != nil {
		return nil, err
	}
	filled := strings.NewReplacer("REGION", n.Region, "ACCOUNT", n.Account, "CLUSTER", n.Cluster, "SERVICE", n.Service).Replace(string(text))
	d, err := iam.Parse([]byte(filled))
	if err != nil {
		return nil, fmt.Errorf("infra/iam/%s: %w", name, err)
	}
	return d, nil
}

// TemplatePolicies are the policies of a resource of the template, a role or a policy, with the values of parameters and of other
// resources' attributes ("TaskRole.Arn").
func TemplatePolicies(resource string, values map[string]string) (all []*iam.Document, err error) {
	_, here, _, _ := runtime.Caller(0)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "..", "infra", "cloudformation.yml"))
	if err != nil {
		return nil, err
	}
	var template struct {
		Resources map[string]yaml.Node `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		return nil, err
	}
	node := template.Resources[resource]
	for _, document := range documentsIn(&node) {
		if err := fill(document, values); err != nil {
			return nil, fmt.Errorf("%s: %w", resource, err)
		}
		plain, err := yaml.Marshal(document)
		if err != nil {
			return nil, err
		}
		d, err := iam.Parse(plain)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", resource, err)
		}
		all = append(all, d)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no policy", resource)
	}
	return all, nil
}

// documentsIn are the values of every PolicyDocument below a node of YAML. (AssumeRolePolicyDocument says who may become the role.)
func documentsIn(n *yaml.Node) (all []*yaml.Node) {
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "PolicyDocument" {
			all = append(all, child)
			continue
		}
		all = append(all, documentsIn(child)...)
	}
	return all
}

var reference = regexp.MustCompile(`\$\{([^!}]+)\}`)

// fill carries CloudFormation's functions out.
func fill(n *yaml.Node, values map[string]string) (err error) {
	lookup := func(name string) string {
		value, known := values[name]
		if !known {
			err = fmt.Errorf("nobody says what %s is", name)
		}
		return value
	}
	switch n.Tag {
	case "!Sub":
		n.Value = reference.ReplaceAllStringFunc(n.Value, func(r string) string { return lookup(r[2 : len(r)-1]) })
		n.Value, n.Tag = strings.ReplaceAll(n.Value, "${!", "${"), "!!str"
	case "!Ref", "!GetAtt":
		n.Value, n.Tag = lookup(n.Value), "!!str"
	}
	for _, child := range n.Content {
		if failed := fill(child, values); failed != nil {
			return failed
		}
	}
	return err
}
