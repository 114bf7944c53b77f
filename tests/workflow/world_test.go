package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	"fumidai/tests/emulator/fargate"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/services"
	"fumidai/tests/infra"
	"fumidai/tests/tools"
	"fumidai/tests/tools/postgrestest"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	top       = "../../"
	file      = top + "examples/github-actions/dbt-test.yml"
	cluster   = "default"
	service   = "fumidai"
	warehouse = "default.123456789012.ap-northeast-1.redshift-serverless.amazonaws.com"
)

// world is an AWS account with the repository's definitions deployed, and a warehouse that only tasks reach.
type world struct {
	*testing.T
	*emulator.Emulator
	server *postgrestest.Server
	dbt    string // the folder of its program
}

// newWorld makes one. Variables are added to what the definitions take from the environment.
func newWorld(t *testing.T, variables map[string]string) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: the warehouse is in a network namespace")
	}
	dbt, err := filepath.EvalSymlinks(tools.Path(t, "dbt"))
	if err != nil {
		t.Fatal(err)
	}
	binary := os.Getenv("FUMIDAI_BINARY")
	if binary == "" {
		binary = top + "build/fumidai"
	}
	if binary, err = filepath.Abs(binary); err != nil {
		t.Fatal(err)
	}
	e, err := emulator.Start(emulator.Options{
		Namespaces: true, Image: func(string) (fargate.Image, error) { return fargate.Program(binary), nil },
		Services: services.Options{Workgroups: map[string]services.Endpoint{
			"default": {Host: warehouse, Port: 5439, Database: postgrestest.Database, User: postgrestest.User, Password: postgrestest.Password},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, Emulator: e, dbt: filepath.Dir(dbt)}
	t.Cleanup(w.close)
	e.Gateway.Set(func(s *gateway.Settings) { s.Limit.Lifted = true })
	w.startWarehouse()
	w.permit()
	w.deploy(variables)
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) close() {
	if w.server != nil {
		w.server.Close()
	}
	if w.Failed() {
		for _, task := range w.ECS.Tasks(nil) {
			w.Logf("task %s: %s\n%s", task.ID(), *task.State().LastStatus, task.Output())
		}
		for _, s := range w.Gateway.Sessions("") {
			w.Logf("session %+v", s.Stats())
		}
		for _, r := range w.Edge.Recorder.Calls(func(r edge.Record) bool { return r.Service != edge.ServiceMetadata }) {
			w.Logf("%s %s:%s %d %s by %s", r.Time.Format("05.000"), r.Service, r.Action, r.Status, r.Error, r.Principal)
		}
	}
	w.Emulator.Close()
}

const (
	taskRole     = "arn:aws:iam::123456789012:role/fumidai-task"
	workflowRole = "arn:aws:iam::123456789012:role/workflow"
)

// permit gives the tasks and the workflow the policies of the template.
func (w *world) permit() {
	w.Helper()
	values := map[string]string{"AWS::Partition": "aws", "AWS::Region": w.Region, "AWS::AccountId": w.Account, "ClusterName": cluster, "ServiceName": service,
		"TaskRole.Arn": taskRole, "ExecutionRole.Arn": "arn:aws:iam::123456789012:role/fumidai-execution",
		"RedshiftWorkgroupArn": "arn:aws:redshift-serverless:" + w.Region + ":" + w.Account + ":workgroup/default"}
	for resource, role := range map[string]string{"TaskRole": taskRole, "TaskProtectionPolicy": taskRole, "GitHubRole": workflowRole, "GitHubRedshiftPolicy": workflowRole} {
		policies, err := infra.TemplatePolicies(resource, values)
		w.must(err)
		w.Edge.Keys.Permit(role, policies...)
	}
}

// startWarehouse starts PostgreSQL in Redshift's place, with an access log.
func (w *world) startWarehouse() {
	w.Helper()
	certificate, err := w.Edge.CA.Leaf(warehouse)
	w.must(err)
	host, err := w.VPC.Host()
	w.must(err)
	w.VPC.DNS.Set(warehouse, host)
	w.server, err = postgrestest.Start(postgrestest.Options{Host: host.String(), Certificate: certificate, Do: w.VPC.NS().Do})
	w.must(err)
	sample, err := filepath.Abs(top + "examples/dbt/sample.sql")
	w.must(err)
	w.query("-f", sample)
}

// query asks the warehouse, from within its network.
func (w *world) query(args ...string) string {
	w.Helper()
	cmd, err := postgrestest.Command(context.Background(), "psql", w.server.Host, w.server.Port)
	w.must(err)
	cmd.Args = append(cmd.Args, append([]string{"-XqAt", "-v", "ON_ERROR_STOP=1"}, args...)...)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err = w.VPC.NS().Do(cmd.Start); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		w.Fatalf("psql %q: %v: %s", args, err, said.String())
	}
	return strings.TrimSpace(out.String())
}

// deploy is done once, by hand, before any workflow runs.
func (w *world) deploy(variables map[string]string) {
	w.Helper()
	bin := w.commands()
	env := map[string]string{
		"PATH": bin, "HOME": w.TempDir(), "FUMIDAI_CLUSTER": cluster, "FUMIDAI_IMAGE": "123456789012.dkr.ecr.ap-northeast-1.amazonaws.com/fumidai:1",
		"FUMIDAI_SUBNET": "subnet-1", "FUMIDAI_SECURITY_GROUP": "sg-1", "FUMIDAI_LOG_GROUP": "/ecs/fumidai",
		"FUMIDAI_TASK_ROLE_ARN":      taskRole,
		"FUMIDAI_EXECUTION_ROLE_ARN": "arn:aws:iam::123456789012:role/fumidai-execution",
	}
	maps.Copy(env, variables)
	cmd := exec.Command(filepath.Join(bin, "ecspresso"), "deploy")
	cmd.Dir, cmd.Env = top, w.ToolEnv(true)
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("ecspresso deploy: %v: %s", err, out)
	}
	if s := w.ECS.ServiceState(cluster, service); s == nil || s.DesiredCount != 0 || len(w.ECS.Tasks(nil)) != 0 {
		w.Fatalf("a first deployment starts tasks: %+v", s)
	}
}

// commands is a folder of the workflow's tools.
func (w *world) commands(preferred ...string) string {
	w.Helper()
	dir := w.TempDir()
	all, err := tools.Commands(dir, preferred...)
	if err != nil {
		w.Skip(err)
	}
	for _, c := range all {
		w.T.Log(c)
	}
	return dir
}

// machine is one of GitHub's machines, with a checkout that change may change.
func (w *world) machine(port string, change func(workspace string), preferred ...string) *Machine {
	w.Helper()
	temp, home, bin := w.TempDir(), w.TempDir(), w.commands(preferred...)
	m := &Machine{
		Workspace: filepath.Join(temp, "checkout"), Temp: temp, Log: w.Logf,
		Env: map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8"},
		Contexts: Contexts{
			"vars": {"AWS_ROLE_ARN": workflowRole, "AWS_REGION": w.Region, "FUMIDAI_CLUSTER": cluster,
				"REDSHIFT_HOST": warehouse, "DBT_TARGET": "postgres", "DBT_PORT": port},
			"github": {"run_id": port, "run_attempt": "1"},
		},
	}
	m.Uses = map[string]func(*Machine, map[string]string) error{
		"actions/checkout": func(m *Machine, _ map[string]string) error {
			err := checkout(m.Workspace)
			if change != nil {
				change(m.Workspace)
			}
			return err
		},
		"aws-actions/configure-aws-credentials": func(m *Machine, with map[string]string) error {
			if with["role-to-assume"] == "" || with["aws-region"] != w.Region {
				return fmt.Errorf("neither role nor region: %q", with)
			}
			key := w.Edge.Keys.Temporary(edge.Principal{ARN: "arn:aws:sts::123456789012:assumed-role/workflow/GitHubActions"}, time.Now().Add(time.Hour))
			for _, variable := range append(w.ToolEnv(true), "AWS_ACCESS_KEY_ID="+key.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+key.SecretAccessKey, "AWS_SESSION_TOKEN="+key.Token) {
				name, value, _ := strings.Cut(variable, "=")
				m.Export(name, value)
			}
			return nil
		},
		"actions/setup-python": func(m *Machine, _ map[string]string) error {
			m.AddPath(w.dbt)
			return nil
		},
		"kayac/ecspresso": func(m *Machine, with map[string]string) error {
			m.AddPath(bin)
			return pinned("ecspresso", with["version"])
		},
		"./examples/github-actions/tools": func(_ *Machine, with map[string]string) error {
			return errors.Join(pinned("ecsta", with["ecsta"]), pinned("redshift-credentials", with["redshift-credentials"]))
		},
	}
	return m
}

// checkout makes a copy of what the workflow needs of the repository.
func checkout(dir string) error {
	err := os.CopyFS(filepath.Join(dir, "examples"), os.DirFS(top+"examples"))
	for _, name := range []string{"ecspresso.yml", "service-def.json", "task-def.json"} {
		text, readErr := os.ReadFile(top + name)
		err = errors.Join(err, readErr, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	for _, made := range []string{"target", "logs"} { // by somebody who tried it
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, "examples/dbt", made)))
	}
	return err
}

// pinned checks that a version is one that the tests pin, too.
func pinned(name, version string) error {
	_, err := os.Stat(top + "tests/tools/" + name + "-" + strings.TrimPrefix(version, "v"))
	return err
}

// run runs the workflow's job.
func (w *world) run(m *Machine) ([]Result, error) {
	flow, err := Read(file)
	if err != nil {
		return nil, err
	}
	return m.Run(context.Background(), flow, "dbt")
}

// results are what dbt says of the unit tests, by name.
func (m *Machine) results() (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(m.Workspace, "examples/dbt/target/run_results.json"))
	if err != nil {
		return nil, err
	}
	var run struct {
		Results []struct {
			ID     string `json:"unique_id"`
			Status string
		}
	}
	err = json.Unmarshal(text, &run)
	found := map[string]string{}
	for _, r := range run.Results {
		if strings.HasPrefix(r.ID, "unit_test.") {
			found[r.ID[strings.LastIndexByte(r.ID, '.')+1:]] = r.Status
		}
	}
	return found, err
}

// wantResults checks what became of the two unit tests. After one that fails dbt leaves out the other, if it is not over yet.
func (w *world) wantResults(m *Machine, first, later string) {
	w.Helper()
	got, err := m.results()
	if first == "fail" && got["nothing_before_five_days_ago_changes"] == "skipped" {
		later = "skipped"
	}
	if want := map[string]string{"initial_load_counts_distinct_users": first, "nothing_before_five_days_ago_changes": later}; err != nil || !maps.Equal(got, want) {
		w.Errorf("unit tests: %v, want %v (%v)", got, want, err)
	}
}

// wantEnd checks that the service has come to its end by itself: at 0, its only task stopped, nothing refused on the way and
// nothing left behind.
func (w *world) wantEnd(sessions int) {
	w.Helper()
	w.ECS.Until(40*time.Second, func() bool {
		s := w.ECS.ServiceState(cluster, service)
		return s.DesiredCount == 0 && s.RunningCount == 0
	})
	if s := w.ECS.ServiceState(cluster, service); s.DesiredCount != 0 || s.RunningCount != 0 {
		w.Errorf("the service is at %d, %d tasks run", s.DesiredCount, s.RunningCount)
	}
	tasks := w.ECS.Tasks(ecs.InService(service))
	if len(tasks) != 1 || !tasks[0].WaitStatus("STOPPED", 10*time.Second) || aws.ToInt32(tasks[0].State().Containers[0].ExitCode) != 0 {
		w.Errorf("there were %d tasks, want one that ended with 0", len(tasks))
	}
	all := w.Gateway.Sessions("")
	for _, s := range all {
		if st := s.Stats(); st.Document != "AWS-StartPortForwardingSessionToRemoteHost" || len(st.Violations) > 0 {
			w.Errorf("session %+v", st)
		}
	}
	if len(all) < sessions { // one more where the first was too early
		w.Errorf("%d sessions, want %d", len(all), sessions)
	}
	if left := w.query("-c", "select schema_name from information_schema.schemata where schema_name like 'dbt%'"); left != "" {
		w.Errorf("left in the warehouse: %s", left)
	}
	w.wantNothingRefused()
}

// wantNothingRefused checks that every call was granted and answered.
func (w *world) wantNothingRefused() {
	w.Helper()
	granted, err := infra.Granted("GitHub")
	w.must(err)
	for _, r := range w.Edge.Recorder.Calls() {
		action := r.Service + ":" + r.Action
		if r.Status >= 400 && r.Error != "TargetNotConnected" { // the workflow tries again
			w.Errorf("%s: %d %s", action, r.Status, r.Error)
		}
		if strings.HasSuffix(r.Principal, "user/operator") && !slices.Contains(granted, action) {
			w.Errorf("%s is called, and not granted to workflows", action)
		}
	}
}
