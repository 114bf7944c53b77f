package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mariadb starts Debian's MariaDB where the task reaches it. It blocks a host after three connections without a log-in.
func (s *site) mariadb() endpoint {
	s.Helper()
	server, err := exec.LookPath("/usr/sbin/mariadbd")
	if err != nil || s.VPC == nil {
		s.Skip("needs root, for namespaces, and MariaDB: `make deps` installs it")
	}
	dir := s.TempDir()
	out, err := exec.Command("mariadb-install-db", "--no-defaults", "--user=root", "--skip-test-db", "--datadir="+dir, "--tmpdir="+dir).CombinedOutput() //nolint:gosec // a test's
	if err != nil {
		s.Fatalf("mariadb-install-db: %v: %s", err, out)
	}
	host, err := s.VPC.Host()
	s.must(err)
	grant := filepath.Join(dir, "grant.sql")
	s.must(os.WriteFile(grant, []byte("create user dbt@'%' identified by 'secret';\n"), 0o600))
	// It blocks only hosts that it knows the names of: all of the VPC's have one, in a file that only it sees.
	var names bytes.Buffer
	for i := range 256 {
		a := host.As4()
		fmt.Fprintf(&names, "%d.%d.%d.%d host%d.internal\n", a[0], a[1], a[2], i, i)
	}
	hosts := filepath.Join(dir, "hosts")
	s.must(os.WriteFile(hosts, names.Bytes(), 0o600))
	var said bytes.Buffer
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, hosts, server, "--no-defaults", "--user=root", "--datadir="+dir, "--tmpdir="+dir, "--socket="+filepath.Join(dir, "socket"), //nolint:gosec // a test's
		"--bind-address="+host.String(), "--port=3306", "--max-connect-errors=3", "--init-file="+grant, "--innodb-buffer-pool-size=8M")
	cmd.Stdout, cmd.Stderr = &said, &said
	s.must(s.VPC.NS().Do(cmd.Start))
	s.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	at := endpoint{host.String(), "3306"}
	s.eventually("MariaDB", 30*time.Second, func() bool {
		return s.logIn(at, "mariadb", s.VPC.NS().Do) == nil
	})
	return at
}

// logIn asks MariaDB one question.
func (s *site) logIn(at endpoint, program string, do func(func() error) error) error {
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(limited, program, "--no-defaults", "--protocol=tcp", "-h", at.host, "-P", at.port, "-u", "dbt", "-psecret", "-e", "select 1") //nolint:gosec // a test's
	var said bytes.Buffer
	cmd.Stderr = &said
	err := do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// Sessions whose users never log in: what checks the target must not make the server block the task (error 1129).
func TestSessionsWithoutALogIn(t *testing.T) {
	for _, probe := range []string{"connect", "resolve", "off"} {
		t.Run(probe, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, map[string]string{"FUMIDAI_PROBE": probe})
			s.remote = s.mariadb()
			for i := range 6 {
				d := s.open(way{where: "remote"})
				want := map[string]string{"connect": "Reached ", "resolve": "Found ", "off": "Forwarding to "}[probe]
				if probe == "connect" && i > 0 {
					want = "Found "
				}
				if !strings.HasPrefix(d.client.CustomerMessage, want) {
					t.Errorf("session %d: the user is told %q", i, d.client.CustomerMessage)
				}
				s.must(d.client.Terminate())
			}
			d := s.open(way{where: "remote"})
			l, err := d.client.Listen(0)
			s.must(err)
			_, port, _ := net.SplitHostPort(l.Addr().String())
			if err := s.logIn(endpoint{"127.0.0.1", port}, "mariadb", func(start func() error) error { return start() }); err != nil {
				t.Errorf("after six sessions without a log-in: %v", err)
			}
		})
	}
}
