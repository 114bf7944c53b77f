// Package infra reads infra/cloudformation.yml, for tests that hold what is granted against what is called.
package infra

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"gopkg.in/yaml.v3"
)

// Granted are the actions in the template's resources whose names begin with a prefix ("GitHub": what workflows may do).
func Granted(prefix string) (actions []string, err error) {
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
	for name, resource := range template.Resources {
		if strings.HasPrefix(name, prefix) {
			actions = append(actions, actionsIn(&resource)...)
		}
	}
	if len(actions) == 0 {
		return nil, fmt.Errorf("infra/cloudformation.yml grants nothing in resources called %s…", prefix)
	}
	return actions, nil
}

// actionsIn are the texts of every Action below a node of YAML.
func actionsIn(n *yaml.Node) (actions []string) {
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "Action" {
			if child.Kind == yaml.ScalarNode {
				actions = append(actions, child.Value)
			}
			for _, one := range child.Content {
				actions = append(actions, one.Value)
			}
		}
		actions = append(actions, actionsIn(child)...)
	}
	return actions
}
