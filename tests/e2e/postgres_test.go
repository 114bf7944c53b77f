package e2e

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"fumidai/tests/emulator/gateway"
	"fumidai/tests/tools/postgrestest"
)

// This file is about the use people have for the relay: a database in a network that only the task reaches.

const databaseName = "warehouse.internal" // the server's, which only the VPC's resolver knows

// database is a session to a server of PostgreSQL, and the way in for its clients.
type database struct {
	*site
	server  *postgrestest.Server
	session *dialer
	port    string   // on this machine
	env     []string // of libpq
}

// postgres starts a server where the task reaches it, by the name only the task can resolve. It offers TLS.
func (s *site) postgres() *postgrestest.Server {
	s.Helper()
	certificate, err := s.Edge.CA.Leaf(databaseName)
	s.must(err)
	o := postgrestest.Options{Host: "127.0.0.1", Certificate: certificate}
	if s.VPC == nil {
		o.Port, err = postgrestest.FreePort(o.Host)
		s.must(err)
	} else {
		var host netip.Addr
		host, err = s.VPC.Host()
		s.must(err)
		o.Host, o.Do = host.String(), s.VPC.NS().Do
		s.VPC.DNS.Set(databaseName, host)
	}
	server, err := postgrestest.Start(o)
	s.must(err)
	s.Cleanup(server.Close)
	return server
}

func (s *site) openDatabase(plugin bool) *database {
	s.Helper()
	d := &database{site: s, server: s.postgres()}
	s.remote = endpoint{databaseName, d.server.Port}
	if s.VPC == nil {
		s.remote.host = d.server.Host
	}
	d.session = s.open(way{plugin: plugin, where: "remote"})
	if plugin {
		d.port = d.session.plugin.Port
	} else {
		l, err := d.session.client.Listen(0)
		s.must(err)
		_, d.port, _ = net.SplitHostPort(l.Addr().String())
	}
	// The name is the one in the server's certificate, the address the tunnel's.
	d.env = []string{"PGHOSTADDR=127.0.0.1", "PGSSLMODE=verify-full", "PGSSLROOTCERT=" + s.CAFile()}
	return d
}

// command is a client's program, to be run through the tunnel.
func (d *database) command(c context.Context, program string, args ...string) *exec.Cmd {
	d.Helper()
	cmd, err := postgrestest.Command(c, program, databaseName, d.port, d.env...)
	d.must(err)
	if program == "psql" {
		args = append([]string{"-XqAt", "-v", "ON_ERROR_STOP=1"}, args...)
	}
	cmd.Args = append(cmd.Args, args...)
	return cmd
}

// try runs a client's program and returns what it printed.
func (d *database) try(stdin io.Reader, stdout io.Writer, program string, args ...string) error {
	d.Helper()
	limited, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	cmd := d.command(limited, program, args...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", program, args, err, &said)
	}
	return nil
}

func (d *database) run(program string, args ...string) string {
	d.Helper()
	var out bytes.Buffer
	d.must(d.try(nil, &out, program, args...))
	return strings.TrimSpace(out.String())
}

func (d *database) query(sql string) string {
	d.Helper()
	return d.run("psql", "-c", sql)
}

func (d *database) want(sql, want string) {
	d.Helper()
	if got := d.query(sql); got != want {
		d.Errorf("%s: %.200q, want %q", sql, got, want)
	}
}

// rows are what the server is to hold: numbered, and a hash that says what each is.
func rows(n int) []byte {
	var b bytes.Buffer
	for i := 1; i <= n; i++ {
		sum := sha256.Sum256(fmt.Append(nil, i))
		fmt.Fprintf(&b, "%d\t%s\n", i, hex.EncodeToString(sum[:]))
	}
	return b.Bytes()
}

const selectRows = "select i, encode(sha256(i::text::bytea), 'hex') from generate_series(1, %d) i"

// Through the tunnel as a person or a dbt job uses it. The plugin's session keeps to the service's rate limit, as it has to
// at AWS; the other goes as fast as it can.
func TestPostgres(t *testing.T) {
	for name, c := range map[string]struct {
		plugin   bool
		down, up int // rows of 71 bytes
	}{
		"own":    {down: 300_000, up: 150_000},
		"plugin": {plugin: true, down: 60_000, up: 14_000}, // it sleeps a millisecond for each kilobyte it sends
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			variables := map[string]string{}
			if c.plugin {
				variables["FUMIDAI_MAX_MESSAGES_PER_SECOND"] = "960"
			}
			s := newSite(t, variables)
			s.Gateway.Set(func(g *gateway.Settings) { g.Limit.Lifted = !c.plugin })
			d := s.openDatabase(c.plugin)
			for _, step := range []struct {
				name string
				do   func(*database)
			}{
				{"query", (*database).testQuery},
				{"pgbench", (*database).testPgbench},
				{"copy out", func(d *database) { d.testCopyOut(c.down) }},
				{"copy in", func(d *database) { d.testCopyIn(c.up) }},
				{"parallel connections", (*database).testParallel},
				{"cancelled query", (*database).testCancel},
				{"client gone", (*database).testClientGone},
				{"server restarted", (*database).testRestart},
			} {
				if !t.Run(step.name, func(t *testing.T) {
					in := *d
					in.site = d.in(t)
					step.do(&in)
				}) {
					return
				}
			}
			d.wantOneSession()
		})
	}
}

func (d *database) testQuery() {
	d.want("select 6 * 7, current_database(), ssl from pg_stat_ssl where pid = pg_backend_pid()", "42|dev|t")
	if d.VPC != nil { // the server sees the task, not this machine
		d.want("select host(inet_client_addr())", *d.task.State().Containers[0].NetworkInterfaces[0].PrivateIpv4Address)
	}
	if err := d.try(nil, io.Discard, "psql", "-c", "select 1/0"); err == nil || !strings.Contains(err.Error(), "division by zero") {
		d.Errorf("an error of the server's comes as %v", err)
	}
	d.want("select repeat('x', 3000000)", strings.Repeat("x", 3_000_000))
}

func (d *database) testPgbench() {
	d.run("pgbench", "--initialize", "--init-steps=dtGvp", "--quiet") // the server makes the rows
	out := d.run("pgbench", "--client=4", "--jobs=2", "--transactions=25", "--no-vacuum")
	if !strings.Contains(out, "processed: 100/100") {
		d.Errorf("pgbench says %s", out)
	}
	d.T.Log(linesWith(out, "latency average", "tps"))
	// What four clients have added one by one is the same in all tables.
	d.want(`select count(*), sum(delta) = (select sum(abalance) from pgbench_accounts), sum(delta) = (select sum(tbalance) from pgbench_tellers),
		sum(delta) = (select sum(bbalance) from pgbench_branches) from pgbench_history`, "100|t|t|t")
}

func linesWith(text string, with ...string) string {
	var found []string
	for line := range strings.Lines(text) {
		for _, w := range with {
			if strings.HasPrefix(line, w) {
				found = append(found, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(found, ", ")
}

func (d *database) testCopyOut(n int) {
	want := rows(n)
	var got bytes.Buffer
	began := time.Now()
	d.must(d.try(nil, &got, "psql", "-c", fmt.Sprintf("copy ("+selectRows+") to stdout", n)))
	d.logSpeed("out", len(want), began)
	if sha256.Sum256(got.Bytes()) != sha256.Sum256(want) {
		d.Errorf("%d bytes came, %d were sent, not the same", got.Len(), len(want))
	}
}

func (d *database) testCopyIn(n int) {
	d.query("create table copied (i int primary key, v text)")
	want := rows(n)
	began := time.Now()
	d.must(d.try(bytes.NewReader(want), io.Discard, "psql", "-c", "copy copied from stdin"))
	d.logSpeed("in", len(want), began)
	d.want(`select count(*), md5(string_agg(i || E'\t' || v || E'\n', '' order by i)) from copied`, fmt.Sprintf("%d|%x", n, md5.Sum(want)))
}

func (d *database) logSpeed(way string, n int, began time.Time) {
	took := time.Since(began)
	d.Logf("copy %s: %.1f MB in %v, %.2f MB/s", way, float64(n)/1e6, took.Round(time.Millisecond), float64(n)/1e6/took.Seconds())
}

// Twenty at once: none goes on before all are there.
func (d *database) testParallel() {
	const n = 20
	all := fmt.Sprintf(`do $$ begin
		while (select count(*) from pg_stat_activity where datname = current_database()) < %d loop
			perform pg_sleep(.01);
			perform pg_stat_clear_snapshot();
		end loop;
	end $$`, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Add(1)
		go func() {
			defer wait.Done()
			var out bytes.Buffer
			// And none leaves before the others have seen it.
			err := d.try(nil, &out, "psql", "-c", all, "-c", fmt.Sprintf("select pg_sleep(1), %d, count(*) from generate_series(1, 10000)", i))
			if want := fmt.Sprintf("|%d|10000", i); err != nil || strings.TrimSpace(out.String()) != want {
				d.Errorf("connection %d: %q, %v; want %q", i, &out, err, want)
			}
		}()
	}
	wait.Wait()
}

// running starts psql with a statement and waits until the server works on it.
func (d *database) running(sql string) (*exec.Cmd, *bytes.Buffer) {
	d.Helper()
	cmd, said := d.command(ctx, "psql", "-c", sql), &bytes.Buffer{}
	cmd.Stderr = said
	d.must(cmd.Start())
	d.Cleanup(func() { _ = cmd.Process.Kill() })
	d.active(sql, "1")
	return cmd, said
}

// active waits until so many connections work on a statement.
func (d *database) active(sql, count string) {
	d.Helper()
	got := ""
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = d.query("select count(*) from pg_stat_activity where state = 'active' and query = $q$" + sql + "$q$"); got == count {
			return
		}
	}
	d.Fatalf("%s connections work on %q, want %s", got, sql, count)
}

func (d *database) wait(cmd *exec.Cmd, said *bytes.Buffer, reason string) {
	d.Helper()
	d.inTime(10*time.Second, reason, func() error {
		if err := cmd.Wait(); err == nil || !strings.Contains(said.String(), reason) {
			return fmt.Errorf("psql ended with %v: %s", err, said)
		}
		return nil
	})
}

// Ctrl-C in psql: a connection of its own that says which statement to cancel.
func (d *database) testCancel() {
	const sql = "select pg_sleep(60)"
	cmd, said := d.running(sql)
	d.must(cmd.Process.Signal(os.Interrupt))
	d.wait(cmd, said, "canceling statement due to user request")
	d.active(sql, "0")
}

// A client that is killed amid an answer without end: the server is told at once, not once it has been streamed to nowhere.
func (d *database) testClientGone() {
	const sql = "copy (select repeat('x', 1000), generate_series(1, 100000000)) to stdout"
	cmd := d.command(ctx, "psql", "-c", sql)
	out, err := cmd.StdoutPipe()
	d.must(err)
	d.must(cmd.Start())
	_, err = io.CopyN(io.Discard, out, 1_000_000)
	d.must(errors.Join(err, cmd.Process.Kill()))
	if err := cmd.Wait(); err == nil {
		d.Error("psql has not noticed that it was killed")
	}
	began := time.Now()
	d.active(sql, "0")
	took := time.Since(began)
	d.T.Logf("the server was told within %v", took.Round(time.Millisecond))
	if took > 3*time.Second {
		d.Errorf("the server was told after %v", took)
	}
}

// The server goes away and comes back: who is connected hears of it at once, who comes meanwhile is refused at once, and
// who comes afterwards finds the session as it was.
func (d *database) testRestart() {
	cmd, said := d.running("select pg_sleep(60), 2")
	d.must(d.server.Stop())
	d.wait(cmd, said, "terminating connection due to administrator command")

	began := time.Now()
	err := d.try(nil, io.Discard, "psql", "-c", "select 1")
	if took := time.Since(began); err == nil || took > 10*time.Second {
		d.Errorf("without a server: %v after %v", err, took)
	}
	d.must(d.server.Start())
	d.want("select count(*) from copied where length(v) = 64", d.query("select max(i) from copied"))
}

// wantOneSession checks that all was one session over one connection each, and what its user is told of it in the log.
func (d *database) wantOneSession() {
	st := d.session.session.Stats()
	if st.Status != gateway.Connected || st.Agent.Opened != 1 || st.Client.Opened != 1 || st.Agent.CutOffs != 0 || st.Client.CutOffs != 0 {
		d.Errorf("session %+v", st)
	}
	if d.session.plugin != nil {
		d.must(d.session.plugin.Interrupt())
	} else {
		d.must(d.session.client.Terminate())
	}
	if d.task == nil {
		return
	}
	d.inTime(10*time.Second, "the end of the session in the log", func() error {
		for !strings.Contains(d.task.Output(), `"session ended"`) {
			time.Sleep(20 * time.Millisecond)
		}
		return nil
	})
	if log := d.task.Output(); strings.Count(log, `"session started"`) != 1 || strings.Count(log, `"stream closed"`) < 30 {
		d.Error("the log does not tell of one session and its streams")
	}
}
