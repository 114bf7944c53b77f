package workflow

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machineFor is a machine whose workflow has one job, of these steps.
func machineFor(t *testing.T, steps string) (*Machine, *Workflow) {
	t.Helper()
	temp := t.TempDir()
	path := filepath.Join(temp, "workflow.yml")
	text := "name: test\ndefaults: {run: {shell: bash}}\nenv: {LEVEL: workflow, NAME: \"${{ vars.NAME || 'nobody' }}\"}\n" +
		"jobs:\n  job:\n    timeout-minutes: 1\n    env: {JOB: \"${{ env.NAME }}'s\", LEVEL: job}\n    steps:\n" + steps
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return &Machine{Workspace: temp, Temp: temp, Log: t.Logf, Env: map[string]string{"PATH": os.Getenv("PATH")},
		Contexts: Contexts{"vars": {"KNOWN": "known"}, "github": {"run_id": "7"}}}, w
}

// What a step leaves for the next: variables, outputs, folders of PATH, and processes.
func TestStepsInheritFromSteps(t *testing.T) {
	t.Parallel()
	m, w := machineFor(t, `
      - uses: some/action@v1
        with: {name: "${{ vars.KNOWN }}"}
      - id: first
        run: |
          echo "LEVEL=$LEVEL, exported" >>"$GITHUB_ENV"
          printf 'LINES<<END\none=1\ntwo\nEND\n' >>"$GITHUB_ENV"
          echo answer=42 >>"$GITHUB_OUTPUT"
          mkdir bin && printf '#!/bin/sh\necho tool\n' >bin/tool && chmod +x bin/tool && echo "$PWD/bin" >>"$GITHUB_PATH"
          sleep 100 &
          echo "PID=$!" >>"$GITHUB_ENV"
      - working-directory: bin
        env: {OWN: "step ${{ github.run_id }} of ${{ env.LEVEL }}"}
        run: |
          kill -0 "$PID"
          echo "$LEVEL; $JOB; $OWN; ${{ steps.first.outputs.answer }}; $(tool); $LINES; $ACTION; $(ls)"
`)
	m.Uses = map[string]func(*Machine, map[string]string) error{"some/action": func(m *Machine, with map[string]string) error {
		m.Export("ACTION", with["name"])
		return nil
	}}
	results, err := m.Run(context.Background(), w, "job")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := results[2].Output, "job, exported; nobody's; step 7 of job, exported; 42; tool; one=1\ntwo; known; tool\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A failure in a pipe ends a step, and the job but for what always runs.
func TestStepsAfterAFailure(t *testing.T) {
	t.Parallel()
	m, w := machineFor(t, `
      - {name: fails, run: "false | cat\necho not here"}
      - {name: is left out, run: echo not here}
      - {name: always runs, if: always(), run: echo here}
      - {name: on failure, if: failure(), run: echo here}
`)
	results, err := m.Run(context.Background(), w, "job")
	if err == nil || !strings.HasPrefix(err.Error(), "fails: exit status 1") {
		t.Errorf("the job ends with %v", err)
	}
	for i, want := range []string{"", "", "here\n", "here\n"} {
		if results[i].Output != want || results[i].Ran != (i != 1) {
			t.Errorf("step %d: %+v", i, results[i])
		}
	}
}

// What is not known is refused, not skipped.
func TestUnknownIsRefused(t *testing.T) {
	t.Parallel()
	for _, steps := range []string{
		`- {run: "echo ${{ vars.UNKNOWN }}"}`,
		`- {run: "echo ${{ secrets.KEY }}"}`,
		`- {run: "echo ${{ format('{0}', vars.KNOWN) }}"}`,
		`- {run: "true", env: {A: "${{ inputs.a }}"}}`,
		`- {run: "true", if: "vars.KNOWN == 'known'"}`,
		`- {uses: some/action@v1}`,
		`- {run: "echo nonsense >>\"$GITHUB_ENV\""}`,
		`- {run: "echo 'A<<END' >>\"$GITHUB_ENV\""}`,
	} {
		m, w := machineFor(t, "      "+steps+"\n")
		if _, err := m.Run(context.Background(), w, "job"); err == nil {
			t.Errorf("taken: %s", steps)
		}
	}
	path := filepath.Join(t.TempDir(), "workflow.yml")
	for _, text := range []string{
		"jobs: {job: {steps: []}}",
		"defaults: {run: {shell: bash}}\njobs: {job: {strategy: {}, steps: []}}",
		"defaults: {run: {shell: bash}}\njobs: {job: {steps: [{run: a, continue-on-error: true}]}}",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil {
			t.Errorf("taken: %s", text)
		}
	}
}

func TestAlternatives(t *testing.T) {
	t.Parallel()
	c := Contexts{"vars": {"SET": "set", "EMPTY": ""}}
	got := map[string]string{}
	for _, source := range []string{"a${{vars.SET}}b", "${{ vars.EMPTY }}", "${{ vars.EMPTY || vars.NONE || vars.SET }}", "${{ vars.NONE || 'it' }} ${{ vars.SET || 'not' }}"} {
		value, err := c.expand(source)
		if err != nil {
			t.Error(err)
		}
		got[source] = value
	}
	want := map[string]string{"a${{vars.SET}}b": "asetb", "${{ vars.EMPTY }}": "", "${{ vars.EMPTY || vars.NONE || vars.SET }}": "set", "${{ vars.NONE || 'it' }} ${{ vars.SET || 'not' }}": "it set"}
	if !maps.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
