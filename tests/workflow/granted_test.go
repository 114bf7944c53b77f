package workflow

import (
	"os"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// workflowActions are what infra/cloudformation.yml grants to workflows.
func workflowActions(t *testing.T) (actions []string) {
	t.Helper()
	text, err := os.ReadFile(top + "infra/cloudformation.yml")
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Resources map[string]yaml.Node `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	for name, resource := range template.Resources {
		if strings.HasPrefix(name, "GitHub") {
			actions = append(actions, actionsIn(&resource)...)
		}
	}
	if len(actions) < 10 {
		t.Fatalf("workflows are granted %q: not read right", actions)
	}
	return actions
}

// actionsIn are the texts of every Action below a node of YAML.
func actionsIn(n *yaml.Node) (actions []string) {
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "Action" {
			actions = append(actions, child.Value)
			for _, one := range child.Content {
				actions = append(actions, one.Value)
			}
		}
		actions = append(actions, actionsIn(child)...)
	}
	return actions
}
