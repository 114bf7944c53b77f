package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/ecs"
	"fumidai/tests/emulator/fargate"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// The article's task definition with its times shortened by variables: whatever happens, the service ends at desired
// count 0 and the task STOPPED.

// ended is the order in which a task ends itself: scaling in first, or ECS would start the next one.
var ended = []string{"UpdateService", "StopTask"}

func TestNeverConnected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "1s"})
	w.within("ended", w.stopped(task, 10*time.Second), time.Second, time.Second+slack)
	w.wantEnded(family, 0)
	w.wantCalls(task, ended...)
	state := task.State()
	if state.StopCode != types.TaskStopCodeUserInitiated || !strings.Contains(*state.StoppedReason, "fumidai") {
		t.Errorf("stopped by %s: %s", state.StopCode, *state.StoppedReason)
	}
}

func TestConnectedOnceAndGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "2s", "ECS_TST_IDLE_TIMEOUT": "1s"})
	agent := w.agent(task)
	time.Sleep(awake)
	w.must(agent.StartSession("ecs-execute-command-0001"))
	time.Sleep(4 * time.Second) // longer than either timeout: the session holds the task
	if got := *task.State().LastStatus; got != "RUNNING" {
		t.Fatalf("the task is %s during the session", got)
	}
	gone := time.Now()
	w.must(agent.EndSession("ecs-execute-command-0001", true))
	w.stopped(task, 10*time.Second)
	w.within("ended", task.State().StoppingAt.Sub(gone), time.Second, time.Second+slack)
	w.wantEnded(family, 0)
	w.wantCalls(task, ended...)
}

func TestConnectedAgainBeforeIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "3s", "ECS_TST_IDLE_TIMEOUT": "3s"})
	agent := w.agent(task)
	time.Sleep(awake)
	for _, id := range []string{"one", "two"} {
		w.must(agent.StartSession(id))
		time.Sleep(1500 * time.Millisecond)
		w.must(agent.EndSession(id, true))
		if id == "one" {
			time.Sleep(1500 * time.Millisecond)
		}
	}
	gone := time.Now()
	w.stopped(task, 12*time.Second)
	w.within("ended", task.State().StoppingAt.Sub(gone), 3*time.Second, 3*time.Second+slack)
	w.wantEnded(family, 0)
	w.wantCalls(task, ended...)
}

func TestMaxLifeDuringSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.service(family, map[string]string{"ECS_TST_MAX_LIFE_TIME": "3s"})
	w.must(w.agent(task).StartSession("forever"))
	w.within("ended", w.stopped(task, 15*time.Second), 2900*time.Millisecond, 3*time.Second+slack)
	w.wantEnded(family, 0)
	w.wantCalls(task, ended...)
}

func TestSIGTERMDuringSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.service(family, nil)
	w.must(w.agent(task).StartSession("interrupted"))
	time.Sleep(1500 * time.Millisecond)
	if _, err := w.sdk.UpdateService(ctx, &sdk.UpdateServiceInput{Service: aws.String(family), DesiredCount: aws.Int32(0)}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	w.stopped(task, 29*time.Second)
	w.within("ended", time.Since(begin), 0, 29*time.Second) // before ECS would send SIGKILL
	w.wantEnded(family, 0)
	w.wantCalls(task) // ECS stops it already: there is nothing to ask for
}

func TestStopTaskFromOutsideIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.service(family, nil)
	if _, err := w.sdk.StopTask(ctx, &sdk.StopTaskInput{Task: aws.String(task.ID())}); err != nil {
		t.Fatal(err)
	}
	w.stopped(task, 10*time.Second)
	w.wantCalls(task)
	if !w.ECS.Until(5*time.Second, func() bool { return len(w.ECS.Tasks(ecs.InService(family))) == 2 }) {
		t.Error("a task that is stopped from outside must not take its service down with it")
	}
}

// An image's STOPSIGNAL may be any signal: a stop from outside is one whatever it sends, and the service keeps its count.
func TestStopSignals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		signal  syscall.Signal
		command []string
		exit    int32
		prints  string
	}{
		{"SIGQUIT", syscall.SIGQUIT, []string{"quit=0", "wait"}, 0, "quit"},
		{"SIGINT", syscall.SIGINT, []string{"quit=7", "wait"}, 7, "interrupt"},
		{"SIGUSR1 which the command ignores", syscall.SIGUSR1, []string{"wait"}, 137, ""},
		{"SIGTERM", syscall.SIGTERM, []string{"term=3", "wait"}, 3, "terminated"},
		{"SIGWINCH which the command ignores", syscall.SIGWINCH, []string{"wait"}, 137, ""},
		{"SIGQUIT without a command", syscall.SIGQUIT, nil, 0, ""},
		{"SIGINT without a command", syscall.SIGINT, nil, 0, ""},
		{"SIGTERM without a command", syscall.SIGTERM, nil, 0, ""},
		{"SIGUSR2 without a command", syscall.SIGUSR2, nil, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(o *emulator.Options) {
				o.Image = func(name string) (fargate.Image, error) {
					made, err := image(name)
					made.StopSignal = test.signal
					return made, err
				}
			})
			var command []string
			if test.command != nil {
				command = append([]string{"--", "/dummy"}, test.command...)
			}
			variables := map[string]string{"FUMIDAI_STOP_GRACE": "2s", "ECS_TST_INITIAL_WAIT_TIME": "5m"}
			task := w.service(family, variables, command...)
			time.Sleep(awake)
			if _, err := w.sdk.StopTask(ctx, &sdk.StopTaskInput{Task: aws.String(task.ID())}); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			w.stopped(task, 20*time.Second)
			w.within("ended", time.Since(begin), 0, 10*time.Second) // not by SIGKILL
			w.wantCalls(task)
			if got := *task.State().Containers[0].ExitCode; got != test.exit {
				t.Errorf("exit code %d, want %d", got, test.exit)
			}
			out := task.Output()
			if test.prints != "" && strings.Count(out, "\n"+test.prints+"\n") != 1 {
				t.Errorf("the command got another signal than %s, or more than one", test.signal)
			}
			if !strings.Contains(out, "ECS is stopping this task") {
				t.Error("the log does not say that ECS stops the task")
			}
			if !w.ECS.Until(5*time.Second, func() bool { return len(w.ECS.Tasks(ecs.InService(family))) == 2 }) {
				t.Error("the service lost its count")
			}
		})
	}
}

// What a command leaves behind in a session of its own gets SIGTERM at the end: when the command is stopped, and when it ends by
// itself; also where fumidai is not PID 1 (initProcessEnabled, pidMode).
func TestDaemonsOfTheCommandAreTold(t *testing.T) {
	t.Parallel()
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "1s"}, "--", "/dummy", "daemon", "ignore", "sleep=4s")
		w.stopped(task, 15*time.Second)
		if !strings.Contains(task.Output(), "\nterminated\n") {
			t.Error("the daemon was not told")
		}
	})
	t.Run("ended", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		task := w.service(family, nil, "--", "/dummy", "daemon", "sleep=1s", "exit=3")
		w.stopped(task, 15*time.Second)
		w.wantEnded(family, 3)
		if !strings.Contains(task.Output(), "\nterminated\n") {
			t.Error("the daemon was not told")
		}
	})
	t.Run("not PID 1", func(t *testing.T) {
		t.Parallel()
		out, err := exec.Command(binary, "--", dummy, "daemon", "sleep=500ms", "exit=0").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "\nterminated\n") {
			t.Errorf("%v: the daemon was not told: %s", err, out)
		}
	})
}

// initProcessEnabled: Docker's init is PID 1 and fumidai its child; pidMode task: the same, and other containers' processes are
// there, too. Everything goes as without: sessions, the end when nobody comes any more, a stop by ECS. What the wrapped command
// leaves behind is fumidai's to reap and to end, not the init's; what it did not start it leaves alone.
func TestBehindAnInitProcess(t *testing.T) {
	t.Parallel()
	behindInit := func(o *emulator.Options) {
		o.Image = func(name string) (fargate.Image, error) {
			made, err := image(name)
			made.Entrypoint = append([]string{"/dummy", "neighbour", "init"}, made.Entrypoint...)
			return made, err
		}
	}
	if os.Getuid() != 0 || archive.Root != "" {
		t.Skip("needs root, for a PID namespace, and no image")
	}
	check := func(t *testing.T, out string, wants ...string) {
		for _, want := range append(wants, "\nlog dummy\n", "\nterminated\n") {
			if !strings.Contains(out, want) {
				t.Errorf("the output lacks %q", want)
			}
		}
		if strings.Contains(out, "init reaped") {
			t.Error("orphans went to the init process")
		}
		if strings.Contains(out, "neighbour terminated") {
			t.Error("another container's process was told to end")
		}
	}
	t.Run("unused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, behindInit)
		task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "3s"}, "--", "/dummy", "log=/proc/1/comm", "orphans=5", "daemon", "sleep=1s", "zombies", "wait")
		w.stopped(task, 20*time.Second)
		w.wantCalls(task, ended...)
		check(t, task.Output(), "\nzombies 0\n", "no session came within 3s")
	})
	t.Run("stopped by ECS", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, behindInit)
		task := w.service(family, nil, "--", "/dummy", "log=/proc/1/comm", "daemon", "term=0", "wait")
		time.Sleep(awake)
		_, err := w.sdk.StopTask(ctx, &sdk.StopTaskInput{Task: aws.String(task.ID())})
		w.must(err)
		begin := time.Now()
		w.stopped(task, 20*time.Second)
		w.within("ended", time.Since(begin), 0, 10*time.Second) // not by SIGKILL
		w.wantCalls(task)
		check(t, task.Output())
	})
	t.Run("sessions", func(t *testing.T) {
		t.Parallel()
		s := siteOf(newWorld(t, behindInit))
		s.task = s.service(family, map[string]string{"FUMIDAI_RELAY": "on", "ECS_TST_INITIAL_WAIT_TIME": "20s", "ECS_TST_IDLE_TIMEOUT": "1s"})
		s.servedBy(s.task)
		d := s.open(way{where: "remote"})
		s.converse(d)
		s.must(d.client.Terminate())
		s.stopped(s.task, 20*time.Second)
		s.wantEnded(family, 0)
		s.wantCalls(s.task, ended...)
	})
}

// A DAEMON service (EC2 launch type) has no count to set, and a task that stops is replaced: it stays up.
func TestDaemonServiceStaysUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create = func(in *sdk.CreateServiceInput) {
		in.SchedulingStrategy, in.LaunchType, in.DesiredCount = types.SchedulingStrategyDaemon, types.LaunchTypeEc2, nil
	}
	task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "1s"})
	time.Sleep(6 * time.Second)
	w.wantCalls(task)
	if got := *task.State().LastStatus; got != "RUNNING" {
		t.Errorf("the task is %s", got)
	}
	if n := strings.Count(task.Output(), "a DAEMON service has a task on each instance"); n < 2 || n > 6 {
		t.Errorf("it says so %d times", n)
	}
}

func TestWrappedCommandEnds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, how string
		exit      int32
	}{{"0", "exit=0", 0}, {"3", "exit=3", 3}, {"SIGKILL", "kill=9", 137}, {"SIGTERM", "kill=15", 143}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			task := w.service(family, nil, "--", "/dummy", "sleep=1s", test.how)
			w.within("ended", w.stopped(task, 15*time.Second), 900*time.Millisecond, time.Second+slack)
			w.wantEnded(family, test.exit)
			w.wantCalls(task, ended...)
		})
	}
}

// Tasks on EC2 instances and on machines of one's own (ECS Anywhere): other metadata, the same life.
func TestOtherLaunchTypes(t *testing.T) {
	for _, test := range []struct {
		launch types.LaunchType
		mode   types.NetworkMode
	}{
		{types.LaunchTypeEc2, types.NetworkModeAwsvpc}, {types.LaunchTypeEc2, types.NetworkModeBridge},
		{types.LaunchTypeEc2, types.NetworkModeHost}, {types.LaunchTypeExternal, types.NetworkModeBridge},
		{types.LaunchTypeExternal, types.NetworkModeHost},
	} {
		t.Run(fmt.Sprintf("%s, %s", test.launch, test.mode), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.define = func(in *sdk.RegisterTaskDefinitionInput) {
				in.NetworkMode, in.RequiresCompatibilities = test.mode, []types.Compatibility{types.Compatibility(test.launch)}
			}
			w.create = func(in *sdk.CreateServiceInput) { in.LaunchType = test.launch }
			s := siteOf(w)
			s.servedBy(s.service(family, map[string]string{"FUMIDAI_RELAY": "on", "ECS_TST_INITIAL_WAIT_TIME": "30s", "ECS_TST_IDLE_TIMEOUT": "1s"}))
			if !strings.HasPrefix(s.target, "ecs:"+cluster+"_") {
				t.Errorf("the target is %s", s.target)
			}
			d := s.open(way{where: "remote"})
			s.converse(d)
			if test.mode != types.NetworkModeAwsvpc && len(s.events("the metadata does not tell the task's subnet yet, asking again")) > 0 {
				t.Error("it waits for a subnet that such a task has not")
			}
			s.must(d.client.Terminate())
			s.stopped(s.task, 20*time.Second)
			s.wantEnded(family, 0)
			s.wantCalls(s.task, ended...)
		})
	}
}

// Auto scaling with a minimum of 1 sets the count back after each task. There is no answer to that in a task, which knows
// nothing of the ones before it: each sets the count once in its life, after its whole wait, and no call is repeated.
func TestAutoScalingSetsTheCountBack(t *testing.T) {
	t.Parallel()
	const wait = 4 * time.Second
	w := newWorld(t)
	began := time.Now()
	task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": fmt.Sprint(wait)})
	for lives := 1; lives <= 2; lives++ {
		w.stopped(task, 20*time.Second)
		w.wantCalls(task, ended...)
		_, err := w.sdk.UpdateService(ctx, &sdk.UpdateServiceInput{Service: aws.String(family), DesiredCount: aws.Int32(1)})
		w.must(err)
		if !w.ECS.Until(10*time.Second, func() bool { return len(w.ECS.Tasks(ecs.InService(family))) > lives }) {
			t.Fatal("no further task")
		}
		task = w.ECS.Tasks(ecs.InService(family))[lives]
	}
	if took := time.Since(began); took < 2*wait {
		t.Errorf("two lives took %v, want the wait of each", took)
	}
}
