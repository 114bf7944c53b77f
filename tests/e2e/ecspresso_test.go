package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/ecs"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/tools"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// This file is about ecspresso, the real one, with the definitions at the top of the repository as they are.

// ecspresso is one version of it, at a site whose service it deploys.
type ecspresso struct {
	*site
	path string
	env  []string
}

// newEcspresso finds a version, with a home of its own. It reaches the emulator by AWS_ENDPOINT_URL, or under AWS's own
// names through a proxy; the definitions get their variables as they would from a person's environment.
func newEcspresso(t *testing.T, version string, proxy bool, variables map[string]string) *ecspresso {
	t.Helper()
	path := tools.Path(t, "ecspresso-"+version)
	if os.Getuid() != 0 {
		t.Skip("needs root: two tasks beside each other take namespaces")
	}
	dir, tag := layout(t)
	w := newWorld(t, func(o *emulator.Options) {
		o.Services.Roles = map[string]string{"fumidai-task": "ecs-tasks.amazonaws.com", "fumidai-execution": "ecs-tasks.amazonaws.com"}
		o.Services.LogGroups = []string{"/ecs/fumidai"}
		o.Services.Repositories = map[string]string{"fumidai": dir}
		o.ECS.Timing.HealthInterval = 300 * time.Millisecond
	})
	e := &ecspresso{site: siteOf(w), path: path}
	all := place(variables)
	all["FUMIDAI_IMAGE"] = strings.TrimSuffix(all["FUMIDAI_IMAGE"], ":1") + ":" + tag
	e.env = append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, w.ToolEnv(proxy)...)
	for name, value := range all {
		e.env = append(e.env, name+"="+value)
	}
	return e
}

// layout is the OCI layout that a registry serves for the image, from what `make image` has written, and the tag in it.
func layout(t *testing.T) (dir, tag string) {
	t.Helper()
	archives, _ := filepath.Glob(filepath.Join(cmp.Or(os.Getenv("FUMIDAI_DIST"), top+"dist"), "fumidai-*.oci.tar"))
	if len(archives) != 1 {
		t.Skipf("dist/ holds %d images: `make image` makes one", len(archives))
	}
	dir = t.TempDir()
	if out, err := exec.Command("tar", "-xf", archives[0], "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	version := strings.TrimPrefix(strings.TrimSuffix(filepath.Base(archives[0]), ".oci.tar"), "fumidai-")
	return dir, version
}

// try runs it in the top directory of the repository, and returns what it printed on standard output.
func (e *ecspresso) try(args ...string) (string, error) {
	e.Helper()
	limited, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(limited, e.path, args...)
	cmd.Dir, cmd.Env = top, e.env
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("ecspresso %q: %w\n%s%s", args, err, &out, &said)
	}
	return out.String(), nil
}

func (e *ecspresso) run(args ...string) string {
	e.Helper()
	out, err := e.try(args...)
	e.must(err)
	return out
}

// with is the same with other values for the definitions.
func (e *ecspresso) with(assignments ...string) *ecspresso {
	changed := *e
	changed.env = append(slices.Clone(e.env), assignments...) // of equal names the last counts
	return &changed
}

// alive are the service's tasks that nobody has asked to stop.
func (e *ecspresso) alive() []*ecs.Task {
	return e.ECS.Tasks(func(t types.Task) bool { return ecs.InService("fumidai")(t) && *t.DesiredStatus == "RUNNING" })
}

// started scales to one task and waits until it serves.
func (e *ecspresso) started() *ecs.Task {
	e.Helper()
	began := time.Now()
	e.run("scale", "--tasks=1")
	e.within("scale --tasks=1 was done", time.Since(began), 3*time.Second, 12*time.Second)
	tasks := e.alive()
	if len(tasks) != 1 {
		e.Fatalf("scaled to %d tasks", len(tasks))
	}
	e.servedBy(tasks[0])
	return tasks[0]
}

func (e *ecspresso) wantCounts(desired, running int32) {
	e.Helper()
	s := e.ECS.ServiceState(cluster, "fumidai")
	if s.DesiredCount != desired || s.RunningCount != running {
		e.Errorf("desired %d, running %d; want %d, %d", s.DesiredCount, s.RunningCount, desired, running)
	}
}

// versions are those of the article and the newest that is pinned, each reaching the emulator as it can.
var versions = map[string]bool{"2.2.4": true, "2.3.2": false}

func TestEcspresso(t *testing.T) {
	t.Parallel()
	for version, proxy := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			e := newEcspresso(t, version, proxy, nil)
			e.testBefore()
			e.testCreate()
			first := e.started()
			e.testInquiry(first)
			second := e.testUpdate(first)
			third := e.testRefresh(second)
			fourth := e.testRollback(third)
			e.testEnd(fourth)
			e.wantOnlyRefused("sts AssumeRole AccessDenied")
		})
	}
}

// testBefore: the definitions render to what the SDK takes, and what they need is there.
func (e *ecspresso) testBefore() {
	for kind, file := range map[string]string{"taskdef": "task-def.json", "servicedef": "service-def.json"} {
		var got, want any
		if err := json.Unmarshal([]byte(e.run("render", kind)), &got); err != nil {
			e.Errorf("render %s: %v", kind, err)
		}
		variables := map[string]string{}
		for _, assignment := range e.env {
			name, value, _ := strings.Cut(assignment, "=")
			variables[name] = value
		}
		text, _ := render(e.T, file, variables)
		e.must(json.Unmarshal([]byte(text), &want))
		if missing := lacks(got, want, kind); len(missing) > 0 { // it adds what the SDK's structs have without a value
			e.Errorf("render %s: %q", kind, missing)
		}
	}
	// AWS_ENDPOINT_URL says nothing of registries: for this one the proxy, whatever the version.
	if out := e.with("AWS_ENDPOINT_URL=", "HTTPS_PROXY="+e.ProxyURL()).run("verify"); strings.Contains(out, "[NG]") || !strings.Contains(out, "[OK]") {
		e.Errorf("verify says\n%s", out)
	}
}

// lacks lists what of one document another has not, or has otherwise.
func lacks(got, want any, path string) (missing []string) {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for name, value := range w {
			missing = append(missing, lacks(g[name], value, path+"."+name)...)
		}
	case []any:
		g, _ := got.([]any)
		if len(g) != len(w) {
			return []string{path}
		}
		for i := range w {
			missing = append(missing, lacks(g[i], w[i], fmt.Sprintf("%s[%d]", path, i))...)
		}
	default:
		if got != want {
			missing = []string{path}
		}
	}
	return missing
}

// testCreate: a first deployment starts nothing, and leaves nothing to change.
func (e *ecspresso) testCreate() {
	e.run("deploy")
	e.wantCounts(0, 0)
	if out := e.run("diff"); strings.TrimSpace(out) != "" {
		e.Errorf("diff after deploy:\n%s", out)
	}
}

func (e *ecspresso) testInquiry(task *ecs.Task) {
	e.wantCounts(1, 1)
	for _, c := range []struct{ command, want string }{
		{"status", "running:1"}, {"tasks", task.ID()}, {"tasks --output=json", task.ARN()}, {"tasks --find --id=" + task.ID(), task.ID()},
	} {
		if out := e.run(strings.Fields(c.command)...); !strings.Contains(out, c.want) {
			e.Errorf("%s says nothing of %s:\n%s", c.command, c.want, out)
		}
	}
	if out := e.run("diff"); strings.TrimSpace(out) != "" {
		e.Errorf("diff of a running service:\n%s", out)
	}
}

// next waits until another task serves in the place of one that was stopped by ECS.
func (e *ecspresso) next(old *ecs.Task) *ecs.Task {
	e.Helper()
	e.stopped(old, 20*time.Second)
	state := old.State()
	if state.StopCode != types.TaskStopCodeServiceSchedulerInitiated || *state.Containers[0].ExitCode != 0 {
		e.Errorf("the old task was stopped by %s, exit status %d", state.StopCode, *state.Containers[0].ExitCode)
	}
	var tasks []*ecs.Task
	e.eventually("another task in its place", 10*time.Second, func() bool {
		tasks = e.alive()
		return len(tasks) == 1
	})
	e.servedBy(tasks[0])
	return tasks[0]
}

// testUpdate: deployments never change the desired count, with a change or without one; each puts another task in the old
// one's place. (ecspresso registers a revision even when nothing has changed.)
func (e *ecspresso) testUpdate(task *ecs.Task) *ecs.Task {
	changed := e.with("ECS_TST_IDLE_TIMEOUT=20m", "FUMIDAI_SUBNET_2=subnet-2")
	if out := changed.run("diff"); !strings.Contains(out, "20m") || !strings.Contains(out, "subnet-2") {
		e.Errorf("diff of a change:\n%s", out)
	}
	changed.run("deploy")
	task = e.next(task)
	e.wantCounts(1, 1)
	if out := changed.run("diff"); strings.TrimSpace(out) != "" {
		e.Errorf("diff after the change:\n%s", out)
	}
	if _, rest, ok := strings.Cut(task.Output(), `"idle_timeout":"`); !ok || !strings.HasPrefix(rest, "20m") {
		e.Errorf("the change has not reached the task:\n%.400s", task.Output())
	}
	changed.run("deploy") // nothing has changed
	return e.next(task)
}

// testRefresh: a deployment during a session. What is under way is finished, within the stop timeout and no longer than it
// takes; new sessions are refused; then the new task serves.
func (e *ecspresso) testRefresh(task *ecs.Task) *ecs.Task {
	d := e.open(way{where: "remote"})
	c, err := e.connect(d)
	e.must(err)
	done := make(chan error, 1)
	go func() {
		_, err := e.try("refresh")
		done <- err
	}()
	e.eventually("SIGTERM", 10*time.Second, func() bool { return strings.Contains(task.Output(), "no new sessions") })
	e.inTime(20*time.Second, "what was under way", func() error { return ask(c, 1_000_000, 3_000_000, 0x500) })
	if got := *task.State().LastStatus; got == "STOPPED" {
		e.Errorf("during a session the task is %s", got)
	}
	e.must(d.client.Terminate())
	began := time.Now()
	next := e.next(task)
	e.within("the next task served", time.Since(began), 0, 10*time.Second)
	e.must(<-done)
	return next
}

func (e *ecspresso) testRollback(task *ecs.Task) *ecs.Task {
	before := *e.ECS.ServiceState(cluster, "fumidai").TaskDefinition
	e.run("rollback")
	next := e.next(task)
	if after := *e.ECS.ServiceState(cluster, "fumidai").TaskDefinition; after == before {
		e.Errorf("rolled back from %s to %s", before, after)
	}
	return next
}

func (e *ecspresso) testEnd(task *ecs.Task) {
	e.run("scale", "--tasks=0")
	e.stopped(task, 20*time.Second)
	e.wantCounts(0, 0)
	e.run("delete", "--force")
	e.eventually("the service's end", 10*time.Second, func() bool { return *e.ECS.ServiceState(cluster, "fumidai").Status == "INACTIVE" })
}

// wantOnlyRefused checks that the emulator knew all that it was asked, and refused only what it has to.
func (e *ecspresso) wantOnlyRefused(expected ...string) {
	e.Helper()
	for _, r := range e.Edge.Recorder.Calls(func(r edge.Record) bool { return r.Status >= 400 }) {
		if !slices.Contains(expected, r.Service+" "+r.Action+" "+r.Error) {
			e.Errorf("%s %s: %d %s", r.Service, r.Action, r.Status, r.Error)
		}
	}
}
