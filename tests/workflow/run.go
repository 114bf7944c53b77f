package workflow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Machine is a machine of GitHub's as a job finds it.
type Machine struct {
	Workspace string            // the checkout's folder
	Temp      string            // for the runner's own files
	Env       map[string]string // to begin with; PATH among them
	Contexts  Contexts          // vars, github

	// Uses stand for actions, by name without a version: each sets up what the action would have.
	Uses map[string]func(m *Machine, with map[string]string) error
	// Log is told what happens.
	Log func(format string, args ...any)

	exported map[string]string            // by GITHUB_ENV
	outputs  map[string]map[string]string // by GITHUB_OUTPUT, by step
	groups   []int                        // process groups of the steps
}

// Result is how a step has ended.
type Result struct {
	Step   Step
	Ran    bool
	Err    error
	Output string
}

// Export sets a variable for the steps that follow, as GITHUB_ENV does.
func (m *Machine) Export(name, value string) { m.exported[name] = value }

// AddPath puts a folder before the others of PATH for the steps that follow, as GITHUB_PATH does.
func (m *Machine) AddPath(dir string) { m.Env["PATH"] = dir + ":" + m.Env["PATH"] }

// Run runs a job's steps in order and returns how each has ended; the job's own end is the first that failed. Processes that
// steps leave behind run on until the job is over.
func (m *Machine) Run(ctx context.Context, w *Workflow, name string) ([]Result, error) {
	job, ok := w.Jobs[name]
	if !ok {
		return nil, fmt.Errorf("there is no job %q", name)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(job.TimeoutMinutes)*time.Minute)
	defer cancel()
	m.exported, m.outputs = map[string]string{}, map[string]map[string]string{}
	defer m.killAll()
	var results []Result
	var failed error
	for i, step := range job.Steps {
		r := Result{Step: step}
		r.Ran, r.Err = condition(step.If, failed != nil)
		if r.Ran && r.Err == nil {
			m.Log("--- %s", step.Title())
			r.Output, r.Err = m.step(ctx, i, step, w.Env, job.Env)
		}
		if r.Err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", step.Title(), r.Err)
		}
		results = append(results, r)
	}
	return results, failed
}

// killAll ends what the steps have left running.
func (m *Machine) killAll() {
	for _, group := range m.groups {
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
}

func (m *Machine) step(ctx context.Context, number int, s Step, levels ...map[string]string) (string, error) {
	env, err := m.environment(append(levels, s.Env)...)
	if err != nil {
		return "", err
	}
	contexts := m.contexts(env)
	if s.Uses != "" {
		return "", m.use(s, contexts)
	}
	script, err := contexts.expand(s.Run)
	if err != nil {
		return "", err
	}
	files := map[string]string{}
	for _, name := range []string{"GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "script.sh"} {
		files[name] = filepath.Join(m.Temp, fmt.Sprintf("step-%d-%s", number, name))
		if err := os.WriteFile(files[name], nil, 0o600); err != nil {
			return "", err
		}
	}
	if err := os.WriteFile(files["script.sh"], []byte(script), 0o600); err != nil {
		return "", err
	}
	for _, name := range []string{"GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH"} {
		env[name] = files[name]
	}
	output, err := m.bash(ctx, files["script.sh"], filepath.Join(m.Workspace, s.WorkingDirectory), env)
	return output, errors.Join(err, m.take(s.ID, files))
}

func (m *Machine) use(s Step, contexts Contexts) error {
	name, _, _ := strings.Cut(s.Uses, "@")
	action := m.Uses[name]
	if action == nil {
		return fmt.Errorf("nothing stands for the action %s", s.Uses)
	}
	with := map[string]string{}
	for key, value := range s.With {
		var err error
		if with[key], err = contexts.expand(value); err != nil {
			return err
		}
	}
	return action(m, with)
}

// environment is a step's: each level wins over the ones before, and what steps have exported over all but the step's own.
func (m *Machine) environment(levels ...map[string]string) (map[string]string, error) {
	env := maps.Clone(m.Env)
	for i, level := range levels {
		if i == len(levels)-1 {
			maps.Copy(env, m.exported)
		}
		contexts, expanded := m.contexts(env), map[string]string{}
		for name, value := range level {
			var err error
			if expanded[name], err = contexts.expand(value); err != nil {
				return nil, fmt.Errorf("env %s: %w", name, err)
			}
		}
		maps.Copy(env, expanded)
	}
	maps.Copy(env, map[string]string{"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": m.Workspace, "RUNNER_TEMP": m.Temp})
	return env, nil
}

func (m *Machine) contexts(env map[string]string) Contexts {
	c := maps.Clone(m.Contexts)
	c["env"], c["runner"], c["steps"] = env, map[string]string{"temp": m.Temp}, map[string]string{}
	for id, outputs := range m.outputs {
		for name, value := range outputs {
			c["steps"][id+".outputs."+name] = value
		}
	}
	return c
}

// bash runs a script as GitHub does. Its output goes to a file, not through a pipe, so that processes which it leaves in the
// background do not hold up the next step.
func (m *Machine) bash(ctx context.Context, script, dir string, env map[string]string) (string, error) {
	log, err := os.Create(script + ".log")
	if err != nil {
		return "", err
	}
	defer log.Close() //nolint:errcheck // read by name
	cmd := exec.CommandContext(ctx, "bash", "--noprofile", "--norc", "-eo", "pipefail", script)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	m.groups = append(m.groups, cmd.Process.Pid)
	err = cmd.Wait()
	output, readErr := os.ReadFile(log.Name())
	if len(output) > 0 {
		m.Log("%s", output)
	}
	return string(output), errors.Join(err, readErr)
}

// take takes over what a step has written for those that follow.
func (m *Machine) take(id string, files map[string]string) error {
	exported, err := assignments(files["GITHUB_ENV"])
	if err != nil {
		return err
	}
	maps.Copy(m.exported, exported)
	outputs, err := assignments(files["GITHUB_OUTPUT"])
	if err != nil {
		return err
	}
	m.outputs[id] = outputs
	path, err := os.ReadFile(files["GITHUB_PATH"])
	for dir := range strings.Lines(string(path)) {
		m.AddPath(strings.TrimSpace(dir))
	}
	return err
}

// assignments reads lines NAME=VALUE, and NAME<<WORD with lines of the value up to one that is WORD.
func assignments(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		if lines[i] == "" {
			continue
		}
		name, value, single := strings.Cut(lines[i], "=")
		if multi, word, ok := strings.Cut(lines[i], "<<"); ok && (!single || len(multi) < len(name)) {
			var inside []string
			for i++; i < len(lines) && lines[i] != word; i++ {
				inside = append(inside, lines[i])
			}
			if i == len(lines) {
				return nil, fmt.Errorf("%s<<%s has no end", multi, word)
			}
			found[multi] = strings.Join(inside, "\n")
			continue
		}
		if !single {
			return nil, fmt.Errorf("not NAME=VALUE: %q", lines[i])
		}
		found[name] = value
	}
	return found, nil
}
