package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/fargate"
	"fumidai/tests/emulator/services"
	"fumidai/tests/tools"
)

// The test's program is the stand-in, too, when it is run under a name of those it replaces.
func TestMain(m *testing.M) {
	if replaced[filepath.Base(os.Args[0])] != nil {
		main()
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait, most of the time
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const top = "../../../"

// place is an emulator and the environment of the definitions.
type place struct {
	*testing.T
	*emulator.Emulator
	env  []string
	lost bool // an answer, by the program's own fault
}

// lostAnswer is what programs with an old version of AWS's SDK, built with a Go of today, say of one answer in fifty.
const lostAnswer = "use of closed network connection"

func newPlace(t *testing.T) *place {
	t.Helper()
	o := emulator.Options{Image: func(string) (fargate.Image, error) {
		sleep, err := exec.LookPath("sleep")
		return fargate.Image{Files: map[string]string{"/sleep": sleep}, Entrypoint: []string{"/sleep", "1000"}}, err
	}}
	endpoint := services.Endpoint{Host: "warehouse.internal", Port: 5439, User: "IAMR:operator", Password: "it's secret"}
	o.Services.Workgroups = map[string]services.Endpoint{"default": endpoint}
	o.Services.Clusters = map[string]services.Endpoint{"warehouse": endpoint}
	e, err := emulator.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	p := &place{T: t, Emulator: e, env: append(e.ToolEnv(true), "HOME="+t.TempDir(), "PATH="+os.Getenv("PATH"))}
	return p
}

// variables are what the definitions ask of the environment, as a file for --envfile.
func (p *place) variables(more string) string {
	p.Helper()
	path := filepath.Join(p.TempDir(), "env")
	text := `# where
AWS_REGION=` + p.Region + `
FUMIDAI_CLUSTER=default
FUMIDAI_IMAGE="registry.internal/fumidai:1"
export FUMIDAI_SUBNET=subnet-1
FUMIDAI_SECURITY_GROUP=sg-1
FUMIDAI_TASK_ROLE_ARN=arn:aws:iam::123456789012:role/fumidai-task
FUMIDAI_EXECUTION_ROLE_ARN='arn:aws:iam::123456789012:role/fumidai-execution'

FUMIDAI_LOG_GROUP=/ecs/fumidai
` + more
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.Fatal(err)
	}
	return path
}

// run runs a program to its end and returns what it printed and the calls it made.
func (p *place) run(program string, args ...string) (stdout string, calls []string, err error) {
	p.Helper()
	limited, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	p.Edge.Recorder.Reset()
	cmd := exec.CommandContext(limited, program, args...)
	cmd.Dir, cmd.Env = top, p.env
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err = cmd.Run(); err != nil {
		p.lost = p.lost || strings.Contains(said.String(), lostAnswer)
		p.Logf("%s %q: %v: %s%s", filepath.Base(program), args, err, &out, &said)
	}
	for _, r := range p.Edge.Recorder.Calls(func(r edge.Record) bool { return strings.HasSuffix(r.Principal, "user/operator") }) {
		if r.Status >= 400 {
			p.Errorf("%s %q: %s:%s is refused: %s", filepath.Base(program), args, r.Service, r.Action, r.Error)
		}
		calls = append(calls, r.Service+":"+r.Action)
	}
	calls = slices.CompactFunc(calls, func(a, b string) bool { return a == b && a == "ecs:DescribeServices" }) // a waiter may look again
	return out.String(), calls, err
}

// program is the stand-in under a name, or the real one of a version.
func program(t *testing.T, name, version string) string {
	t.Helper()
	if version != "" {
		return tools.Path(t, name+"-"+version)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// life is what is done to a service, step by step, and which calls each step makes.
func (p *place) life(ecspresso string) map[string]string {
	p.Helper()
	plain, changed := p.variables(""), p.variables("FUMIDAI_SUBNET_2=subnet-2\n")
	seen := map[string]string{}
	for _, step := range []struct {
		name string
		args []string
		want int32 // the desired count afterwards
	}{
		{"create", []string{"deploy", "--envfile=" + plain}, 0},
		{"scale to 1", []string{"--envfile=" + plain, "scale", "--tasks=1"}, 1},
		{"update", []string{"deploy", "--envfile=" + plain}, 1},
		{"update with another subnet", []string{"deploy", "--config", "ecspresso.yml", "--envfile", changed}, 1},
		{"status", []string{"--envfile", changed, "status"}, 1},
		{"wait", []string{"wait", "--envfile=" + changed}, 1},
		{"scale to 0", []string{"scale", "--tasks", "0", "--envfile=" + changed}, 0},
	} {
		_, made, err := p.run(ecspresso, step.args...)
		if p.lost {
			return nil
		}
		if got := p.ECS.ServiceState("default", "fumidai"); err != nil || got.DesiredCount != step.want || got.RunningCount != step.want {
			p.Fatalf("%s: %v; %d tasks, want %d", step.name, err, got.RunningCount, step.want)
		}
		seen[step.name] = strings.Join(made, " ")
	}
	return seen
}

var times = regexp.MustCompile(`20\d\d-[^\s]*`)

// credentials are redshift-credentials' forms: what each gives, and the calls it makes.
func (p *place) credentials(program string) map[string]string {
	p.Helper()
	seen := map[string]string{}
	for name, args := range map[string][]string{
		"workgroup":          {"--workgroup", "default"},
		"workgroup, command": {"--workgroup", "default", "--", "sh", "-c", "env | grep ^REDSHIFT_ | sort"},
		"cluster":            {"--cluster", "warehouse", "--", "sh", "-c", `echo "$REDSHIFT_USER" "$REDSHIFT_PASSWORD"`},
		"cluster, user":      {"-cluster", "warehouse", "-db-user", "dbt", "-db-name", "dev", "--", "sh", "-c", `echo "$REDSHIFT_USER" "$REDSHIFT_HOST"`},
	} {
		out, made, err := p.run(program, args...)
		if p.lost {
			return nil
		}
		if err != nil {
			p.Errorf("%s: %v", name, err)
		}
		seen[name] = strings.Join(made, " ") + "\n" + strings.TrimSpace(times.ReplaceAllString(out, "TIME"))
	}
	_, _, err := p.run(program, "--workgroup", "default", "--", "sh", "-c", "exit 7")
	if failed := (*exec.ExitError)(nil); !errors.As(err, &failed) || failed.ExitCode() != 1 {
		p.Errorf("a command that fails: %v", err)
	}
	return seen
}

// sideBySide does the same with the real program of each version and with the stand-in (""), and compares what each has
// seen. A real one that loses an answer may begin anew.
func sideBySide(t *testing.T, name string, versions []string, do func(p *place, program string) map[string]string) {
	var lock sync.Mutex
	seen := map[string]map[string]string{}
	t.Run("all", func(t *testing.T) {
		for _, version := range append([]string{""}, versions...) {
			t.Run(name+version, func(t *testing.T) {
				t.Parallel()
				path, got := program(t, name, version), map[string]string(nil)
				for try := 1; got == nil; try++ {
					if try > 5 {
						t.Fatal("it loses answers all the time")
					}
					got = do(newPlace(t), path)
				}
				lock.Lock()
				defer lock.Unlock()
				seen[version] = got
			})
		}
	})
	for version, real := range seen {
		for step, want := range real {
			if got := seen[""][step]; got != want || got == "" {
				t.Errorf("%s: the real one, %s:\n%s\nthe stand-in:\n%s", step, version, want, got)
			}
		}
	}
	if len(seen) == 1 {
		_, err := tools.Find(name + "-" + versions[0])
		t.Skip("compared with none: ", err)
	}
}

func TestStandInOfEcspresso(t *testing.T) {
	t.Parallel()
	sideBySide(t, "ecspresso", []string{"2.2.4", "2.3.2"}, (*place).life)
}

func TestStandInOfRedshiftCredentials(t *testing.T) {
	t.Parallel()
	sideBySide(t, "redshift-credentials", []string{"0.3.3", "0.3.4"}, (*place).credentials)
}

// What the stand-in does not do, or lacks, is an error.
func TestStandInRefuses(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	ecspresso := program(t, "ecspresso", "")
	for _, args := range [][]string{{"rollback"}, {"deploy"}, {"scale", "--tasks=1", "--envfile=" + p.variables("")}} {
		if _, calls, err := p.run(ecspresso, args...); err == nil || slices.Contains(calls, "ecs:UpdateService") {
			t.Errorf("%q: %v, %q", args, err, calls)
		}
	}
	if out, calls, err := p.run(ecspresso, "version"); err != nil || len(calls) > 0 || !strings.HasPrefix(out, "ecspresso ") {
		t.Errorf("version: %q, %q, %v", out, calls, err)
	}
}
