package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fumidai/tests/tools/postgrestest"
)

// This file is about the life of `fumidai forward` as a command: what it tells to whom, and that it leaves nothing behind.

// The clients of a database find the first forward in the environment, as themselves and in a GitHub job's next steps.
func TestForwardEnvironment(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	to := s.remote.to("0")
	file := s.TempDir() + "/github-env"
	s.must(os.WriteFile(file, []byte("EARLIER=1\n"), 0o600))
	run := func(args ...string) string {
		s.Helper()
		cmd := s.forwardCommand(append(append([]string{"--service", "gate"}, args...), "--", "sh", "-c", "env | sort")...)
		cmd.Env = append(cmd.Env, "GITHUB_ENV="+file, "PGHOSTADDR=1.2.3.4", "NOTIFY_SOCKET=/nowhere")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, err.(*exec.ExitError).Stderr)
		}
		return "\n" + string(out)
	}
	has := func(text string, lines ...string) {
		s.Helper()
		for _, line := range lines {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("no %s in %s", line, text)
			}
		}
	}
	port := func(text string) string {
		_, rest, _ := strings.Cut(text, "\nFUMIDAI_PORT_"+s.remote.port+"=")
		return strings.SplitN(rest, "\n", 2)[0]
	}
	pg := run("-L", to, "--env", "pg", "--github-env")
	has(pg, "PGHOST="+s.remote.host, "PGHOSTADDR=127.0.0.1", "PGPORT="+port(pg))
	written, err := os.ReadFile(file)
	s.must(err)
	has("\n"+string(written), "EARLIER=1", "PGHOST="+s.remote.host, "FUMIDAI_PORT_"+s.remote.port+"="+port(pg), "PGPORT="+port(pg))
	dir := s.TempDir()
	has(run("-L", s.remote.to(dir+"/.s.PGSQL.5433"), "--env", "pg"), "PGHOST="+dir, "PGPORT=5433", "PGHOSTADDR=")
	mysql := run("-L", to, "--env", "mysql")
	has(mysql, "MYSQL_HOST=127.0.0.1", "MYSQL_TCP_PORT="+port(mysql))
	redshift := run("-L", to, "--env", "redshift")
	has(redshift, "PGHOST="+s.remote.host, "REDSHIFT_HOST=127.0.0.1", "REDSHIFT_PORT="+port(redshift))
	s.fails(1, []string{"GITHUB_ENV is not set"}, "--service", "gate", "-L", to, "--github-env")
	s.fails(2, []string{"none, pg, mysql or redshift"}, "--service", "gate", "-L", to, "--env", "oracle")
	s.fails(1, []string{"libpq finds a Unix socket only by"}, "--service", "gate", "-L", s.remote.to(dir+"/db"), "--env", "pg")
	s.wantNoSession()
}

// PostgreSQL's own client, told by nothing but --env, checks the server's certificate against its real name; or uses a Unix socket.
func TestForwardVerifiesTheRealName(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	server := s.postgres()
	psql, err := postgrestest.Tool("psql")
	s.must(err)
	for local, want := range map[string]string{"0": "t", s.TempDir() + "/.s.PGSQL.5432": "f"} { // libpq has no TLS on Unix sockets
		cmd := s.forwardCommand("--service", "gate", "-L", endpoint{databaseName, server.Port}.to(local), "--env", "pg",
			"--", psql, "-XqAtc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()")
		cmd.Env = append(cmd.Env, "PGUSER="+postgrestest.User, "PGPASSWORD="+postgrestest.Password, "PGDATABASE="+postgrestest.Database,
			"PGSSLROOTCERT="+s.CAFile())
		if want == "t" {
			cmd.Env = append(cmd.Env, "PGSSLMODE=verify-full")
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasSuffix(string(out), want+"\n") {
			t.Errorf("%s: %v: %s", local, err, out)
		}
	}
	s.wantNoSession()
}

// notifications is a NOTIFY_SOCKET, and what was sent to it.
func (s *site) notifications(name string) (next func() string) {
	s.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	s.must(err)
	s.Cleanup(func() { _ = l.Close() })
	return func() string {
		s.Helper()
		b := make([]byte, 1000)
		_ = l.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := l.Read(b)
		s.must(err)
		return string(b[:n])
	}
}

// Everybody who waits is told: a descriptor, systemd, files; and the files are gone at the end.
func TestForwardTellsWhoWaits(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	dir := s.TempDir()
	for _, name := range []string{dir + "/notify", fmt.Sprintf("@fumidai-test-%d", os.Getpid())} {
		next := s.notifications(name)
		r, w, err := os.Pipe()
		s.must(err)
		cmd := s.forwardCommand("--service", "gate", "-L", s.remote.to("0"), "--ready-fd", "3", "--ready-file", dir+"/ready", "--pid-file", dir+"/pid")
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+name)
		cmd.ExtraFiles = []*os.File{w}
		s.must(cmd.Start())
		s.must(w.Close())
		line, err := io.ReadAll(r) // up to its end: it is closed then
		s.must(err)
		var event readyEvent
		s.must(json.Unmarshal(line, &event))
		if event.PID != cmd.Process.Pid || len(event.Forwards) != 1 {
			t.Errorf("the descriptor is told %s", line)
		}
		if got, want := next(), fmt.Sprintf("READY=1\nMAINPID=%d", cmd.Process.Pid); got != want {
			t.Errorf("%s is told %q, want %q", name, got, want)
		}
		if text, _ := os.ReadFile(dir + "/ready"); string(text) != string(line) {
			t.Errorf("the ready file says %s", text)
		}
		if text, _ := os.ReadFile(dir + "/pid"); string(text) != fmt.Sprintf("%d\n", cmd.Process.Pid) {
			t.Errorf("the pid file says %s", text)
		}
		s.fails(1, []string{"belongs to process ", "which is running"}, "--service", "gate", "-L", s.remote.to("0"), "--pid-file", dir+"/pid")
		s.fails(1, []string{"belongs to process ", "which is running"}, "--service", "gate", "-L", s.remote.to("0"), "--ready-file", dir+"/ready")
		s.must(cmd.Process.Signal(syscall.SIGTERM))
		if got := next(); got != "STOPPING=1" {
			t.Errorf("at the end %s is told %q", name, got)
		}
		s.must(cmd.Wait())
		for _, file := range []string{"/ready", "/pid"} {
			if _, err := os.Stat(dir + file); err == nil {
				t.Errorf("%s is left", file)
			}
		}
	}
	s.fails(1, []string{"--ready-fd: descriptor 77 is not open"}, "--service", "gate", "-L", s.remote.to("0"), "--ready-fd", "77")
	s.wantNoSession()
}

// asksRunning runs --stop or --wait.
func (s *site) asksRunning(status int, says string, args ...string) {
	s.Helper()
	out, err := s.forwardCommand(args...).CombinedOutput()
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	}
	if got != status || !strings.Contains(string(out), says) {
		s.Errorf("fumidai forward %q: exit status %d, want %d: %q", args, got, status, out)
	}
}

// To the background and back: ready means ready, the end means that nothing is left.
func TestForwardBackground(t *testing.T) {
	s := newSite(t, nil)
	dir := s.TempDir()
	f := &forward{site: s}
	start := func() int {
		s.Helper()
		began := time.Now()
		out, err := s.forwardCommand("--service", "gate", "-L", s.remote.to("0"), "-f", "--pid-file", dir+"/pid", "--ready-file", dir+"/ready").CombinedOutput()
		if err != nil || !strings.Contains(string(out), " leads to "+s.remote.host) {
			t.Fatalf("%v after %v: %s", err, time.Since(began), out)
		}
		text, err := os.ReadFile(dir + "/ready")
		s.must(err)
		s.must(json.Unmarshal(text, &f.ready))
		s.Cleanup(func() { _ = syscall.Kill(f.ready.PID, syscall.SIGKILL) })
		return f.ready.PID
	}
	gone := func(pid int) bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}
	pid := start()
	f.asks(0, 100_000, 500_000)
	if session, _, _ := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0); int(session) != pid {
		t.Errorf("its session is %d, not its own", session)
	}
	for fd := range 3 {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err == nil && to != "/dev/null" {
			t.Errorf("descriptor %d is %s", fd, to)
		}
	}
	s.asksRunning(0, "", "--wait", dir+"/ready")
	s.asksRunning(0, "", "--stop", dir+"/pid")
	if !gone(pid) {
		t.Error("it still runs")
	}
	s.wantNoSession()
	s.asksRunning(1, "nothing to stop: there is no file "+dir+"/pid", "--stop", dir+"/pid")
	s.asksRunning(1, "no forward became ready within 1s", "--wait", dir+"/ready", "--start-timeout", "1s")

	// Killed: what it has left is not believed, and is replaced.
	pid = start()
	s.must(syscall.Kill(pid, syscall.SIGKILL))
	s.eventually("its end", 5*time.Second, func() bool { return gone(pid) })
	s.asksRunning(1, "is gone; it was killed, or crashed", "--stop", dir+"/pid")
	s.asksRunning(1, "left by one that is gone", "--wait", dir+"/ready", "--start-timeout", "1s")
	start()
	f.asks(0, 1000, 1000)
	s.asksRunning(0, "", "--stop", dir+"/pid")

	s.fails(1, []string{s.remote.host + ":1 does not answer: "}, "--service", "gate", "-f", "-L", endpoint{s.remote.host, "1"}.to("0"))
	s.fails(125, []string{"goes with neither a command nor -W"}, "--service", "gate", "-f", "-L", s.remote.to("0"), "--", "true")
}

// A signal to the process that waits ends the one that works, and a killed one takes it along.
func TestForwardBackgroundInterrupted(t *testing.T) {
	s := newSite(t, nil)
	for _, number := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL} {
		pids := s.TempDir() + "/pid"
		cmd := s.forwardCommand("--service", "gate", "-f", "--wait-for-target", "1m", "--pid-file", pids, "-L", endpoint{s.remote.host, "1"}.to("0"))
		s.must(cmd.Start())
		s.eventually("a session", 10*time.Second, func() bool {
			sessions := s.Gateway.Sessions("")
			return len(sessions) > 0 && !sessions[len(sessions)-1].Ended()
		})
		s.must(cmd.Process.Signal(number))
		_ = cmd.Wait()
		if got, want := cmd.ProcessState.ExitCode(), 128+int(number); number != syscall.SIGKILL && got != want {
			t.Errorf("%v: exit status %d, want %d", number, got, want)
		}
		s.eventually("the end of the one that works", 10*time.Second, func() bool {
			_, err := os.Stat(pids)
			return err != nil
		})
		s.wantNoSession()
	}
}

// Who wants no check is ready without an answer, and knows it when connecting.
func TestForwardWithoutACheck(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "--no-check", "-L", endpoint{s.remote.host, "1"}.to("0")).becomes()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", f.ready.Forwards[0].Port))
	if err == nil { // else it was reset already
		b, _ := io.ReadAll(c)
		if len(b) > 0 {
			t.Errorf("nobody says %q", b)
		}
		_ = c.Close()
	}
	s.must(f.cmd.Process.Signal(syscall.SIGINT))
	f.ends(10*time.Second, 0)
	s.wantNoSession()
}

// fumidai health asks it as it asks a task: is it ready? By itself in a process namespace, as in a container.
func TestForwardHealth(t *testing.T) {
	s := newSite(t, nil)
	contained := func(args ...string) *exec.Cmd {
		cmd := s.forwardCommand()
		cmd.Args = append([]string{binary}, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
		return cmd
	}
	out, err := contained("forward", "--cluster", cluster, "--region", s.Region, "--service", "gate", "-L", s.remote.to("0"), "--", binary, "health").Output()
	if err != nil || string(out) != `{"healthy":true,"reason":"","state":"ready","connections":0}`+"\n" {
		t.Errorf("once ready: %v: %s", err, out)
	}
	cmd := contained("forward", "--cluster", cluster, "--region", s.Region, "--service", "gate", "-L", endpoint{s.remote.host, "1"}.to("0"), "--wait-for-target", "1m")
	s.must(cmd.Start())
	s.eventually("an unhealthy one", 10*time.Second, func() bool {
		ask := exec.Command("nsenter", "-p", "-t", fmt.Sprint(cmd.Process.Pid), binary, "health")
		out, err := ask.Output()
		return err != nil && strings.Contains(string(out), `"reason":"`+s.remote.host+`:1 does not answer`) && strings.Contains(string(out), `"state":"preparing"`)
	})
	s.must(cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait()
	s.wantNoSession()
}

// It ends with the process that it was to run for.
func TestForwardWhile(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	other := exec.Command("sleep", "1000")
	s.must(other.Start())
	f := s.startForward("--service", "gate", "-L", s.remote.to("0"), "--while", fmt.Sprint(other.Process.Pid)).becomes()
	f.asks(0, 1000, 1000)
	s.must(other.Process.Kill())
	f.ends(10*time.Second, 0)
	_ = other.Wait()
	s.fails(1, []string{fmt.Sprintf("--while: can't watch process %d: No such process", other.Process.Pid)},
		"--service", "gate", "-L", s.remote.to("0"), "--while", fmt.Sprint(other.Process.Pid))
	s.wantNoSession()
}

// processes counts those with this among their arguments.
func (s *site) processes(argument string) int {
	s.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	s.must(err)
	n := 0
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil && strings.Contains("\x00"+string(line), "\x00"+argument+"\x00") {
			n++
		}
	}
	return n
}

// Start, one conversation, end, again and again, in every way to end: no session and no process is left. FUMIDAI_LONG=1: 1,000 runs.
func TestForwardLeavesNothing(t *testing.T) {
	s := newSite(t, nil)
	runs := 200
	if os.Getenv("FUMIDAI_LONG") == "1" {
		runs = 1000
	}
	mark := fmt.Sprintf("leaves-nothing-%d", os.Getpid())
	naps := fmt.Sprintf("1000.%d", os.Getpid())
	args := []string{"--service", "gate", "--reason", mark}
	sessions := 0
	for i := range runs {
		sessions++
		switch i % 5 {
		case 0, 1: // interrupted
			f := s.startForward(append(args, "-L", s.remote.to("0"))...).becomes()
			f.asks(0, 1000, 1000)
			s.must(f.cmd.Process.Signal([]os.Signal{syscall.SIGINT, syscall.SIGTERM}[i%2]))
			f.ends(10*time.Second, 0)
		case 2: // failed
			f := s.startForward(append(args, "-L", endpoint{s.remote.host, "1"}.to("0"))...)
			f.ends(20*time.Second, 1)
		case 3: // the command is killed
			f := s.startForward(append(args, "-L", s.remote.to("0"), "--", "sh", "-c", "echo $$; exec sleep "+naps)...).becomes()
			f.asks(0, 1000, 1000)
			var pid int
			s.eventually("the command's pid", 10*time.Second, func() bool {
				lines := strings.Split(strings.TrimSpace(f.output()), "\n")
				n, _ := fmt.Sscan(lines[len(lines)-1], &pid)
				return n == 1
			})
			s.must(syscall.Kill(pid, syscall.SIGKILL))
			f.ends(10*time.Second, 128+9)
		case 4: // the client is killed: the service ends its session later, by itself
			f := s.startForward(append(args, "-L", s.remote.to("0"), "--", "sleep", naps)...).becomes()
			f.asks(0, 1000, 1000)
			s.must(f.cmd.Process.Kill())
			<-f.exited
			all := s.Gateway.Sessions("")
			if all[len(all)-1].Ended() {
				t.Error("a killed client has ended its session")
			}
			all[len(all)-1].Terminate() // its idle time
		}
	}
	if n := len(s.Gateway.Sessions("")); n != sessions {
		t.Errorf("%d sessions, want %d", n, sessions)
	}
	s.wantNoSession()
	s.eventually("the end of all processes", 5*time.Second, func() bool { return s.processes(mark) == 0 && s.processes(naps) == 0 })
}

// 1,000 connections later, with every kind of end, it has the descriptors and the memory that it had.
func TestForwardStaysSmall(t *testing.T) {
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "-L", s.remote.to("0")).becomes()
	proc := fmt.Sprintf("/proc/%d", f.cmd.Process.Pid)
	descriptors := func() int {
		entries, err := os.ReadDir(proc + "/fd")
		if err != nil {
			t.Skipf("needs root, as the process is not dumpable: %v", err)
		}
		return len(entries)
	}
	resident := func() (kib int) {
		text, err := os.ReadFile(proc + "/status")
		s.must(err)
		_, rest, _ := strings.Cut(string(text), "VmRSS:")
		_, err = fmt.Sscan(rest, &kib)
		s.must(err)
		return kib
	}
	use := func(n int) {
		for i := range n {
			if i%4 != 0 {
				f.asks(0, 1000, 3000)
				continue
			}
			c, err := net.Dial("tcp", fmt.Sprintf("localhost:%d", f.ready.Forwards[0].Port))
			s.must(err)
			if i%8 == 0 {
				s.must(c.(*net.TCPConn).SetLinger(0))
			}
			s.must(c.Close())
		}
	}
	use(100)
	time.Sleep(time.Second)
	before, memory := descriptors(), resident()
	use(1000)
	s.eventually("as many descriptors as before", 20*time.Second, func() bool { return descriptors() <= before })
	if now := resident(); now > memory+128 {
		t.Errorf("%d KiB resident, %d before", now, memory)
	}
	t.Logf("%d descriptors, %d KiB resident", descriptors(), resident())
	s.must(f.cmd.Process.Signal(syscall.SIGINT))
	f.ends(10*time.Second, 0)
	s.wantNoSession()
}
