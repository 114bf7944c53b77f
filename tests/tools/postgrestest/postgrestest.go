// Package postgrestest runs Debian's PostgreSQL, which stands for Redshift, and its clients.
package postgrestest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Whom the server knows, and its database.
const (
	User     = "awsuser"
	Password = "correct horse battery"
	Database = "dev"
)

// Options of a server.
type Options struct {
	Host string // address to listen on
	Port string // "": 5439, which is Redshift's
	// Do starts a process where the server is to be: in a network namespace. Nil: here.
	Do func(start func() error) error
	// Certificate makes the server speak TLS to those who want it.
	Certificate *tls.Certificate
}

// Server is a server with a data directory of its own. As root it runs as the user postgres.
type Server struct {
	Host, Port string

	options Options
	dir     string
	user    *syscall.Credential
	cmd     *exec.Cmd
	exited  chan struct{}
	log     *watched
}

// Tool is the path of a program of PostgreSQL, of the newest version installed. (Those in PATH are Debian's wrappers.)
func Tool(name string) (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		return "", fmt.Errorf("no %s of PostgreSQL: `make deps` installs it", name)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	return slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }), nil
}

// Start makes a database and serves it.
func Start(o Options) (*Server, error) {
	if o.Port == "" {
		o.Port = "5439"
	}
	if o.Do == nil {
		o.Do = func(start func() error) error { return start() }
	}
	s := &Server{Host: o.Host, Port: o.Port, options: o}
	err := s.create()
	if err == nil {
		err = s.Start()
	}
	if err == nil {
		err = s.createDatabase()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) create() (err error) {
	if s.dir, err = os.MkdirTemp("", "postgres-"); err != nil {
		return err
	}
	files := map[string][]byte{"password": []byte(Password)}
	if c := s.options.Certificate; c != nil {
		key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			return err
		}
		files["key.pem"] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
		for _, der := range c.Certificate {
			files["cert.pem"] = append(files["cert.pem"], pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(s.file(name), text, 0o600); err != nil {
			return err
		}
	}
	if os.Getuid() == 0 { // as which PostgreSQL refuses to run
		if err := s.giveAway(); err != nil {
			return err
		}
	}
	initdb, err := s.command("initdb", "--pgdata="+s.file("data"), "--username="+User, "--pwfile="+s.file("password"),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	if err != nil {
		return err
	}
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	// From anywhere, with the password.
	return os.WriteFile(s.file("data/pg_hba.conf"), []byte("host all all all scram-sha-256\n"), 0o600)
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// giveAway makes the directory one of the user that Debian's package has made.
func (s *Server) giveAway() error {
	u, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	s.user = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return filepath.Walk(s.dir, func(path string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Chown(path, uid, gid))
	})
}

// command is a program of the server's side.
func (s *Server) command(name string, args ...string) (*exec.Cmd, error) {
	path, err := Tool(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.user}
	return cmd, nil
}

// Start starts the server (again) and waits until it takes connections.
func (s *Server) Start() error {
	settings := map[string]string{"listen_addresses": s.Host, "port": s.Port, "unix_socket_directories": "", "fsync": "off",
		"shared_buffers": "32MB", "max_connections": "60"}
	if s.options.Certificate != nil {
		settings["ssl"], settings["ssl_cert_file"], settings["ssl_key_file"] = "on", s.file("cert.pem"), s.file("key.pem")
	}
	args := []string{"-D", s.file("data")}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	cmd, err := s.command("postgres", args...)
	if err != nil {
		return err
	}
	s.log = &watched{grown: make(chan struct{}, 1)}
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if err := s.options.Do(cmd.Start); err != nil {
		return err
	}
	s.cmd, s.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(s.exited)
	late := time.After(30 * time.Second)
	for !strings.Contains(s.Log(), "ready to accept connections") {
		select {
		case <-s.log.grown:
		case <-s.exited:
			return fmt.Errorf("the server has ended: %s", s.Log())
		case <-late:
			return fmt.Errorf("the server is not ready: %s", s.Log())
		}
	}
	return nil
}

func (s *Server) createDatabase() error {
	cmd, err := Command(context.Background(), "psql", s.Host, s.Port, "PGDATABASE=postgres")
	if err != nil {
		return err
	}
	cmd.Args = append(cmd.Args, "-qXc", "create database "+Database)
	var said bytes.Buffer
	cmd.Stderr = &said
	err = s.options.Do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("create the database: %w: %s", err, &said)
	}
	return nil
}

// Stop ends the server and every connection, in order.
func (s *Server) Stop() error { return s.end(syscall.SIGINT, 20*time.Second) }

func (s *Server) end(signal syscall.Signal, limit time.Duration) error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("the server does not stop: %s", s.Log())
	}
}

// Close ends the server at once, with its data.
func (s *Server) Close() {
	if s.end(syscall.SIGQUIT, 5*time.Second) != nil {
		_ = s.cmd.Process.Kill()
	}
	_ = os.RemoveAll(s.dir)
}

// Log is what the server has logged since its last start.
func (s *Server) Log() string { return s.log.String() }

// watched collects what is written.
type watched struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{}
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.grown <- struct{}{}:
	default:
	}
	return w.text.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// Command is a client's program (psql, pgbench) for a server at an address. More of libpq's variables can be given.
func Command(ctx context.Context, program, host, port string, variables ...string) (*exec.Cmd, error) {
	path, err := Tool(program)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append([]string{"LC_ALL=C", "PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + User,
		"PGPASSWORD=" + Password, "PGDATABASE=" + Database, "PGCONNECT_TIMEOUT=15"}, variables...)
	return cmd, nil
}

// FreePort is a port of an address on this machine that nobody listens on yet.
func FreePort(host string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	defer l.Close() //nolint:errcheck // it carried nothing
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
