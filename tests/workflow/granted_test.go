package workflow

import (
	"os"
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
	type statement struct {
		Action yaml.Node `yaml:"Action"`
	}
	type policy struct {
		Document struct {
			Statements []statement `yaml:"Statement"`
		} `yaml:"PolicyDocument"`
	}
	var template struct {
		Resources struct {
			Role struct {
				Properties struct {
					Policies []policy `yaml:"Policies"`
				} `yaml:"Properties"`
			} `yaml:"GitHubRole"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	for _, p := range template.Resources.Role.Properties.Policies {
		for _, s := range p.Document.Statements {
			if s.Action.Kind == yaml.ScalarNode {
				actions = append(actions, s.Action.Value)
			}
			for _, node := range s.Action.Content {
				actions = append(actions, node.Value)
			}
		}
	}
	if len(actions) < 5 {
		t.Fatalf("workflows are granted %q: not read right", actions)
	}
	return actions
}
