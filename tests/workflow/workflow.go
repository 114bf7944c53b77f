// Package workflow runs a workflow of GitHub Actions on this machine: its `run:` steps as they are written, with bash as
// GitHub runs it, and in place of its `uses:` steps what they would have set up. What it does not know of a workflow is an
// error.
package workflow

import (
	"bytes"
	"fmt"
	"os"

	"gopkg.in/yaml.v3"
)

// Workflow is a workflow's file.
type Workflow struct {
	Name        string
	On          any
	Permissions map[string]string
	Defaults    struct{ Run struct{ Shell string } }
	Env         map[string]string
	Jobs        map[string]Job
}

// Job is one job of it.
type Job struct {
	RunsOn         string `yaml:"runs-on"`
	TimeoutMinutes int    `yaml:"timeout-minutes"`
	Env            map[string]string
	Steps          []Step
}

// Step is one step of a job.
type Step struct {
	Name, ID, Uses, Run, If string
	With                    map[string]string
	Env                     map[string]string
	WorkingDirectory        string `yaml:"working-directory"`
}

// Title is what a log calls the step.
func (s Step) Title() string {
	if s.Name == "" {
		return s.Uses
	}
	return s.Name
}

// Read reads a workflow's file.
func Read(path string) (*Workflow, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var w Workflow
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&w); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if w.Defaults.Run.Shell != "bash" { // whose flags depend on being named
		return nil, fmt.Errorf("%s: the shell is %q, only bash is known", path, w.Defaults.Run.Shell)
	}
	return &w, nil
}
