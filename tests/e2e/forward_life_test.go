package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// This file is about the life of `fumidai forward` as a command: what it tells to whom, and that it leaves nothing behind.

// The clients of a database find the first forward in the environment, as themselves and in a GitHub job's next steps.
func TestForwardEnvironment(t *testing.T) {
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
