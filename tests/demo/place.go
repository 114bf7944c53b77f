package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/fargate"
	"fumidai/tests/tools"
	"fumidai/tests/tools/postgrestest"
)

const (
	databaseName = "warehouse.internal" // only the VPC's resolver knows it
	idleTimeout  = 4 * time.Second
	top          = ".." // of the repository: the demo is run in tests/
)

// place is AWS, a database, and a user's folder with what they deploy.
type place struct {
	*emulator.Emulator
	server    *postgrestest.Server
	control   net.Listener
	dir       string
	env       []string
	commands  []string // what stands behind the commands
	host      string   // the database's, for the task
	localPort string
}

func newPlace(binary string, shell bool) (*place, error) {
	p := &place{}
	err := p.start(binary, shell)
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *place) start(binary string, shell bool) (err error) {
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	if p.dir, err = os.MkdirTemp("", "fumidai-demo-"); err != nil {
		return err
	}
	p.Emulator, err = emulator.Start(emulator.Options{
		Namespaces: os.Getuid() == 0, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Image: func(string) (fargate.Image, error) { return fargate.Program(binary), nil },
	})
	if err != nil {
		return err
	}
	if err := p.startDatabase(); err != nil {
		return err
	}
	if p.control, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	go http.Serve(p.control, p.Emulator.Control()) //nolint:errcheck,gosec // until the end
	if p.localPort, err = postgrestest.FreePort("127.0.0.1"); err != nil {
		return err
	}
	return p.furnish(binary, shell)
}

// startDatabase starts PostgreSQL where only tasks reach it, with something to ask for.
func (p *place) startDatabase() error {
	o := postgrestest.Options{Host: "127.0.0.1"}
	if p.VPC == nil {
		port, err := postgrestest.FreePort(o.Host)
		if err != nil {
			return err
		}
		o.Port, p.host = port, o.Host
	} else {
		host, err := p.VPC.Host()
		if err != nil {
			return err
		}
		o.Host, o.Do, p.host = host.String(), p.VPC.NS().Do, databaseName
		p.VPC.DNS.Set(databaseName, host)
	}
	var err error
	if p.server, err = postgrestest.Start(o); err != nil {
		return err
	}
	cmd, err := postgrestest.Command(context.Background(), "psql", p.server.Host, p.server.Port)
	if err != nil {
		return err
	}
	cmd.Args = append(cmd.Args, "-Xqc", "create table orders as select i as id, (i * 37) % 1000 as amount from generate_series(1, 10000) i")
	var said bytes.Buffer
	cmd.Stderr = &said
	start := cmd.Start
	if o.Do != nil {
		start = func() error { return o.Do(cmd.Start) }
	}
	if err = start(); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("fill the database: %w: %s", err, &said)
	}
	return nil
}

// furnish makes the folder: the definitions, .env, commands; and the environment that leads all of them here.
func (p *place) furnish(binary string, shell bool) error {
	bin := filepath.Join(p.dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	commands, err := tools.Commands(bin)
	if err != nil {
		return err
	}
	for _, c := range commands {
		switch {
		case c.Name == "redshift-credentials": // PostgreSQL has none
		case c.StandIn != nil:
			p.commands = append(p.commands, c.String())
		default:
			p.commands = append(p.commands, filepath.Base(c.Path))
		}
	}
	psql, err := postgrestest.Tool("psql")
	if err == nil {
		err = os.Symlink(psql, filepath.Join(bin, "psql"))
	}
	if err == nil {
		err = os.Symlink(binary, filepath.Join(bin, "fumidai"))
	}
	for _, name := range []string{"ecspresso.yml", "service-def.json", "task-def.json"} {
		var text []byte
		if err == nil {
			text, err = os.ReadFile(filepath.Join(top, name))
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(p.dir, name), text, 0o644)
		}
	}
	idle := map[bool]string{false: idleTimeout.String(), true: "30m"}[shell]
	if err == nil {
		err = os.WriteFile(filepath.Join(p.dir, ".env"), []byte(strings.Join([]string{
			"AWS_REGION=" + p.Region, "FUMIDAI_CLUSTER=default",
			"FUMIDAI_IMAGE=" + p.Account + ".dkr.ecr." + p.Region + ".amazonaws.com/fumidai:0.1.0",
			"FUMIDAI_SUBNET=subnet-0a1b2c3d", "FUMIDAI_SECURITY_GROUP=sg-0a1b2c3d", "FUMIDAI_LOG_GROUP=/ecs/fumidai",
			"FUMIDAI_TASK_ROLE_ARN=arn:aws:iam::" + p.Account + ":role/fumidai-task",
			"FUMIDAI_EXECUTION_ROLE_ARN=arn:aws:iam::" + p.Account + ":role/fumidai-execution",
			"ECS_TST_IDLE_TIMEOUT=" + idle, "",
		}, "\n")), 0o644)
	}
	p.env = append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + p.dir, "TMPDIR=" + p.dir, "TERM=" + os.Getenv("TERM"), "LC_ALL=C.UTF-8",
		"PGUSER=" + postgrestest.User, "PGPASSWORD=" + postgrestest.Password, "PGDATABASE=" + postgrestest.Database, "PGCONNECT_TIMEOUT=10", "PAGER=cat",
		"FUMIDAI_EMULATOR_CONTROL=http://" + p.control.Addr().String()}, p.ToolEnv(false)...)
	return err
}

func (p *place) close() {
	if p.control != nil {
		p.control.Close() //nolint:errcheck // it goes
	}
	if p.Emulator != nil {
		p.Emulator.Close()
	}
	if p.server != nil {
		p.server.Close()
	}
	if p.dir != "" {
		os.RemoveAll(p.dir) //nolint:errcheck // a temporary directory
	}
}
