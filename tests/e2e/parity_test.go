package e2e

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/ecs"
	"fumidai/tests/emulator/edge"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// Parity with ghcr.io/mashiike/ecs-task-self-terminator: its settings as flags and as variables, with their defaults and
// spellings, and its behaviours. What is better here is tested where it is: the order of the end, its retries, the log's
// accidents (lifecycle_test.go, faults_test.go, solo_test.go).

// TestSettings: every setting of the original, as a flag and as a variable, does what it did.
func TestSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		env, args   []string
		least, most time.Duration
		exit        int
		check       func(t *testing.T, out string)
	}{
		{"initial wait, flag", nil, []string{"--initial-wait-time=1s"}, time.Second, time.Second + slack, 0, nil},
		{"initial wait, value apart", nil, []string{"--initial-wait-time", "1s"}, time.Second, time.Second + slack, 0, nil},
		{"initial wait, variable", []string{"ECS_TST_INITIAL_WAIT_TIME=1s"}, nil, time.Second, time.Second + slack, 0, nil},
		{"initial wait is the idle timeout by default", nil, []string{"--idle-timeout=1s"}, time.Second, time.Second + slack, 0, nil},
		{"idle timeout, variable", []string{"ECS_TST_IDLE_TIMEOUT=1s"}, nil, time.Second, time.Second + slack, 0, nil},
		{"a flag wins over its variable", []string{"ECS_TST_INITIAL_WAIT_TIME=1h"}, []string{"--initial-wait-time=1s"}, time.Second, time.Second + slack, 0, nil},
		{"an empty variable is none", []string{"ECS_TST_INITIAL_WAIT_TIME=", "ECS_TST_IDLE_TIMEOUT=1s"}, nil, time.Second, time.Second + slack, 0, nil},
		{"maximum life, flag", nil, []string{"--max-life-time=1s"}, time.Second, time.Second + slack, 0, nil},
		{"maximum life, variable", []string{"ECS_TST_MAX_LIFE_TIME=1s"}, nil, time.Second, time.Second + slack, 0, nil},
		{"durations as Go writes them", nil, []string{"--initial-wait-time=0.0166m4ms"}, time.Second, time.Second + slack, 0, nil},
		{"keep alive, flag", nil, []string{"--keep-alive-task", "--initial-wait-time=2s", "--", "/dummy", "exit=3"}, 2 * time.Second, 2*time.Second + slack, 0, nil},
		{"keep alive, variable", []string{"ECS_TST_KEEP_ALIVE_TASK=1", "ECS_TST_INITIAL_WAIT_TIME=2s"}, []string{"/dummy", "exit=3"}, 2 * time.Second, 2*time.Second + slack, 0, nil},
		{"a command without --", nil, []string{"/dummy", "exit=3"}, 0, slack, 3, nil},
		{"a command after --", nil, []string{"--", "/dummy", "exit=3"}, 0, slack, 3, nil},
		{"flags before a command", []string{}, []string{"--log-level", "error", "--", "/dummy", "id"}, 0, slack, 0, contains("id ")},
		{"the interval is taken", nil, []string{"--metrics-check-interval=100ms", "--max-life-time=1s"}, time.Second, time.Second + slack, 0, nil},
		{"the interval, variable", []string{"ECS_TST_METRICS_CHECK_INTERVAL=100ms"}, []string{"--max-life-time=1s"}, time.Second, time.Second + slack, 0, nil},
		{"text logs by default", nil, []string{"--max-life-time=100ms"}, 0, slack, 0, isText},
		{"JSON logs, flag", nil, []string{"--log-format=json", "--max-life-time=100ms"}, 0, slack, 0, isJSON},
		{"JSON logs, variable", []string{"ECS_TST_LOG_FORMAT=json"}, []string{"--max-life-time=100ms"}, 0, slack, 0, isJSON},
		{"level error is quiet", nil, []string{"--log-level=error", "--max-life-time=100ms"}, 0, slack, 0, isSilent},
		{"level in any case, variable", []string{"ECS_TST_LOG_LEVEL=ERROR"}, []string{"--max-life-time=100ms"}, 0, slack, 0, isSilent},
		{"level as slog offsets it", nil, []string{"--log-level=error-1", "--max-life-time=100ms"}, 0, slack, 0, isSilent},
		{"level notice is info", nil, []string{"--log-level=notice", "--max-life-time=100ms"}, 0, slack, 0, levels("INFO", "DEBUG")},
		{"level info by default", nil, []string{"--max-life-time=100ms"}, 0, slack, 0, levels("INFO", "DEBUG")},
		{"level debug", nil, []string{"--log-level=debug", "--max-life-time=100ms"}, 0, slack, 0, levels("DEBUG", "nothing")},
		{"verbose", nil, []string{"--verbose", "--max-life-time=100ms"}, 0, slack, 0, isText},
		{"verbose as it was spelled", nil, []string{"--vervose", "--max-life-time=100ms"}, 0, slack, 0, isText},
		{"verbose, variable", []string{"ECS_TST_VERBOSE=t"}, []string{"--max-life-time=100ms"}, 0, slack, 0, isText},
		{"version", nil, []string{"--version"}, 0, slack, 0, matches(`\d+\.\d+`)},
		{"help", nil, []string{"--help"}, 0, slack, 0, namesEverySetting},
		{"help, short", nil, []string{"-h"}, 0, slack, 0, namesEverySetting},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := run(t, test.env, test.args...)
			s.ends(test.least, test.most, test.exit)
			if test.check != nil {
				test.check(t, s.out.String())
			}
		})
	}
}

// originals are the original's flags and their variables.
var originals = map[string]string{
	"ssm-agent-log-location": "ECS_TST_SSM_AGENT_LOG_LOCATION", "log-format": "ECS_TST_LOG_FORMAT", "log-level": "ECS_TST_LOG_LEVEL",
	"initial-wait-time": "ECS_TST_INITIAL_WAIT_TIME", "idle-timeout": "ECS_TST_IDLE_TIMEOUT", "max-life-time": "ECS_TST_MAX_LIFE_TIME",
	"set-desired-count-to-zero": "ECS_TST_SET_DESIRED_COUNT_TO_ZERO", "stop-task-on-exit": "ECS_TST_STOP_TASK",
	"keep-alive-task": "ECS_TST_KEEP_ALIVE_TASK", "metrics-check-interval": "ECS_TST_METRICS_CHECK_INTERVAL",
	"verbose": "ECS_TST_VERBOSE", "ecs-service-name": "ECS_TST_ECS_SERVICE_NAME",
}

func namesEverySetting(t *testing.T, out string) {
	for flag, variable := range originals {
		if !strings.Contains(out, "--"+flag) || !strings.Contains(out, variable) {
			t.Errorf("the help does not name --%s and %s", flag, variable)
		}
	}
	contains("/var/log/amazon/ssm/amazon-ssm-agent.log")(t, out)
}

func contains(words string) func(*testing.T, string) {
	return matches(regexp.QuoteMeta(words))
}

func matches(pattern string) func(*testing.T, string) {
	return func(t *testing.T, out string) {
		if !regexp.MustCompile(pattern).MatchString(out) {
			t.Errorf("nothing matches %q", pattern)
		}
	}
}

func isSilent(t *testing.T, out string) {
	if out != "" {
		t.Errorf("it should be silent")
	}
}

func levels(there, notThere string) func(*testing.T, string) {
	return func(t *testing.T, out string) {
		if !strings.Contains(out, "level="+there) || strings.Contains(out, "level="+notThere) {
			t.Errorf("want lines of level %s, none of %s", there, notThere)
		}
	}
}

var textLine = regexp.MustCompile(`^time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d) level=[A-Z0-9+-]+ msg=("([^"\\]|\\.)*"|[^" ]+) app=\S+ version=\S+( \S+=("([^"\\]|\\.)*"|[^" ]*))*$`)

func lines(t *testing.T, out string) []string {
	all := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(all) < 2 {
		t.Error("there should be at least a line for the start and one for the end")
	}
	return all
}

func isText(t *testing.T, out string) {
	for _, line := range lines(t, out) {
		if !textLine.MatchString(line) {
			t.Errorf("not slog's text: %s", line)
		}
	}
}

func isJSON(t *testing.T, out string) {
	for _, line := range lines(t, out) {
		var event struct{ Time, Level, Msg, App, Version string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Errorf("%v: %s", err, line)
			continue
		}
		if _, err := time.Parse(time.RFC3339Nano, event.Time); err != nil || event.Level == "" || event.Msg == "" || event.App == "" || event.Version == "" {
			t.Errorf("a key is missing or bad: %s", line)
		}
		if !regexp.MustCompile(`^\{"time":"[^"]*\.\d{3}(Z|[+-]\d\d:\d\d)","level":"[A-Z0-9+-]+","msg":`).MatchString(line) {
			t.Errorf("not in slog's order, or not to the millisecond: %s", line)
		}
	}
}

// TestBadSettings: one line that names the setting, the value and what is allowed; status 2; nothing was started.
func TestBadSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		env, args []string
		words     []string
	}{
		{"duration", nil, []string{"--idle-timeout=15"}, []string{"--idle-timeout", "15"}},
		{"negative", nil, []string{"--idle-timeout=-1s"}, []string{"--idle-timeout", "-1s"}},
		{"variable", []string{"ECS_TST_MAX_LIFE_TIME=1 day"}, nil, []string{"ECS_TST_MAX_LIFE_TIME", "1 day"}},
		{"switch", []string{"ECS_TST_STOP_TASK=perhaps"}, nil, []string{"ECS_TST_STOP_TASK", "perhaps", "true"}},
		{"format", nil, []string{"--log-format=xml"}, []string{"--log-format", "xml", "text", "json"}},
		{"level", nil, []string{"--log-level=loud"}, []string{"--log-level", "loud", "info"}},
		{"unknown", nil, []string{"--idle-timeouts=1s"}, []string{"--idle-timeouts"}},
		{"no value", nil, []string{"--idle-timeout"}, []string{"--idle-timeout"}},
		{"before a command", nil, []string{"--idle-timeout=x", "--", "/dummy", "id"}, []string{"--idle-timeout", "x"}},
		{"our own", []string{"FUMIDAI_RELAY=maybe"}, nil, []string{"FUMIDAI_RELAY", "maybe", "auto"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := run(t, test.env, test.args...)
			s.ends(0, slack, 2)
			s.wantOutput(test.words...)
			if n := strings.Count(s.out.String(), "\n"); n != 1 {
				t.Errorf("%d lines, want one", n)
			}
		})
	}
}

// endsOf runs the article's task until it ends, with variables set or (empty) taken away, and returns it.
func (w *world) endsOf(variables map[string]string) *ecs.Task {
	w.Helper()
	variables["ECS_TST_INITIAL_WAIT_TIME"] = "1s"
	task := w.service(family, variables)
	w.stopped(task, 20*time.Second)
	return task
}

func TestEndAsAskedFor(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		variables map[string]string
		calls     []string
		desired   int32
	}{
		{"both", map[string]string{}, ended, 0},
		{"scale in only", map[string]string{"ECS_TST_STOP_TASK": "false"}, []string{"UpdateService"}, 0},
		{"stop only: the service starts the next", map[string]string{"ECS_TST_SET_DESIRED_COUNT_TO_ZERO": "false"}, []string{"StopTask"}, 1},
		{"neither: the process ends", map[string]string{"ECS_TST_SET_DESIRED_COUNT_TO_ZERO": "0", "ECS_TST_STOP_TASK": "F"}, nil, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(o *emulator.Options) { o.ECS.Timing.Restart = 10 * time.Second })
			task := w.endsOf(test.variables)
			w.wantCalls(task, test.calls...)
			state := task.State()
			if *state.Containers[0].ExitCode != 0 {
				t.Errorf("exit code %d", *state.Containers[0].ExitCode)
			}
			if got := w.ECS.ServiceState(cluster, family).DesiredCount; got != test.desired {
				t.Errorf("desired count %d, want %d", got, test.desired)
			}
		})
	}
}

func TestServiceNameByGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *emulator.Options) { o.ECS.NoServiceName = true })
	task := w.endsOf(map[string]string{})
	w.wantCalls(task, ended...)
	if !slices.Contains(w.calls(task), "DescribeTasks") {
		t.Error("without a service name in the metadata only DescribeTasks can tell it")
	}
}

func TestServiceNameBySetting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.service("other", nil)
	task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "1s", "ECS_TST_ECS_SERVICE_NAME": "other"})
	w.stopped(task, 20*time.Second)
	w.wantCalls(task, ended...)
	if got := w.ECS.ServiceState(cluster, "other").DesiredCount; got != 0 {
		t.Errorf("desired count of the service named: %d", got)
	}
	w.stopped(other, 40*time.Second)
}

// TestServiceNameUnknown: where the original dies at the start, this is a warning, and an error only when needed.
func TestServiceNameUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *emulator.Options) { o.ECS.NoServiceName = true })
	w.Edge.Faults.Add(denied("DescribeTasks"))
	task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "2s", "FUMIDAI_END_DEADLINE": "4s"})
	w.stopped(task, 60*time.Second)
	w.wantCalls(task, "StopTask")
	if got := *task.State().Containers[0].ExitCode; got != 125 {
		t.Errorf("exit code %d, want 125: it could not scale in", got)
	}
	if !strings.Contains(task.Output(), `"level":"WARN"`) {
		t.Error("no warning")
	}
}

// TestNotInAService: a task started by RunTask has nothing to scale in, which is not a failure.
func TestNotInAService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "1s"})
	w.stopped(first, 20*time.Second)
	out, err := w.sdk.RunTask(ctx, &sdk.RunTaskInput{TaskDefinition: aws.String(family)})
	w.must(err)
	task := w.ECS.Tasks(func(t types.Task) bool { return *t.TaskArn == *out.Tasks[0].TaskArn })[0]
	w.stopped(task, 20*time.Second)
	w.wantCalls(task, "StopTask")
	if got := *task.State().Containers[0].ExitCode; got != 0 {
		t.Errorf("exit code %d", got)
	}
}

// TestMetadataAbsentForEver: the task still watches and ends; it can't tell ECS.
func TestMetadataAbsentForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Edge.Faults.Add(edge.Fault{Service: edge.ServiceMetadata, Effect: edge.EffectResetBefore})
	task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "2s", "FUMIDAI_END_DEADLINE": "4s"})
	w.stopped(task, 60*time.Second)
	if got := *task.State().Containers[0].ExitCode; got != 125 {
		t.Errorf("exit code %d, want 125: the end was not as asked for", got)
	}
}

// TestOrphansAreReaped: as PID 1 it inherits what its command leaves behind.
func TestOrphansAreReaped(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: without namespaces it is not PID 1")
	}
	t.Parallel()
	s := run(t, nil, "--", "/dummy", "orphans=5", "sleep=1s", "zombies", "exit=0")
	s.ends(time.Second, time.Second+slack, 0)
	s.wantOutput("zombies 0")
}
