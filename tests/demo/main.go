// demo shows the whole of fumidai on this machine, without an AWS account: the emulator as AWS, PostgreSQL in the VPC, and
// the real tools, from the first deployment to the end by itself. See --help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

const help = `demo [--shell] [--record FILE] BINARY

Starts an emulator of AWS on this machine, with PostgreSQL in its VPC, and then deploys and uses BINARY there as a person
would, printing each command and what it says. As root the task and the database run in network namespaces of their own;
otherwise as plain processes.
`

func main() {
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, help)
		flag.PrintDefaults()
	}
	tools := flag.Bool("tools", false, "with the separate tools (ecspresso scale, ecsta, session-manager-plugin) instead of fumidai forward")
	shell := flag.Bool("shell", false, "deploy, scale to 1, then leave it running under a shell")
	record := flag.String("record", "", "write a recording to `FILE`, an animated SVG")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if !*shell { // in the shell Ctrl-C is for its commands
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt)
		defer stop()
	}
	if err := run(ctx, flag.Arg(0), *shell, *tools, *record); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary string, shell, tools bool, record string) error {
	p, err := newPlace(binary, shell)
	if err != nil {
		return err
	}
	defer p.close()
	t := &transcript{place: p, ctx: ctx}
	defer t.explain()
	p.introduce(t)
	t.deploy()
	if shell || tools {
		t.scale()
	}
	switch {
	case shell:
		return errors.Join(t.err, p.leave(t))
	case tools:
		t.useTools()
	default:
		t.use()
	}
	t.end()
	if t.err == nil && record != "" {
		t.err = t.write(record)
	}
	return t.err
}

// deploy brings the service up, from nothing.
func (t *transcript) deploy() {
	t.say("The definitions of this repository, unchanged. The settings of this environment are in .env.")
	t.run("grep -E 'CLUSTER|IMAGE|SUBNET|IDLE' .env")
	t.run("ecspresso --envfile=.env deploy")
	t.say("The service exists and has no task, so it costs nothing.")
}

// scale starts a task, as a CI job or a person would with separate tools.
func (t *transcript) scale() {
	t.say("A CI job, or you, starts a task.")
	t.run("ecspresso --envfile=.env scale --tasks=1")
	t.task = t.find()
	t.run("ecsta -c default list")
}

// use is what a bastion is for, by one command.
func (t *transcript) use() {
	t.say("One command starts the task, forwards a port to the database in the VPC, runs a query, and ends the session.")
	forward := fmt.Sprintf("fumidai forward -c default -s fumidai -L %s:%s:%s", t.localPort, t.host, t.server.Port)
	t.run(fmt.Sprintf(`%s -- psql -h localhost -p %s -c "select count(*) as orders, sum(amount) as amount, inet_client_addr() as seen_from from orders"`, forward, t.localPort))
	if t.err == nil {
		t.task = t.find()
	}
	t.say("Session Manager disconnects a session that moves more than about 1 MB/s, so the ends keep below it. Four sessions carry four times as much:")
	for _, sessions := range []string{"", " --sessions 4"} {
		t.speed(fmt.Sprintf(`%s%s -- psql -h localhost -p %s -qAtc "copy (select repeat('x', 999) from generate_series(1, 4000)) to stdout"`, forward, sessions, t.localPort))
	}
	t.audit()
}

// audit shows what the task has logged.
func (t *transcript) audit() {
	t.say("The log says who connected when, to which target, and how many bytes were transferred; never the data.")
	t.run(fmt.Sprintf(`ecsta -c default logs --id %s --duration 5m | grep -E '(session|stream) (started|closed|ended)' | sed -E 's/.*"msg"/"msg"/; s/"(app|version|session)":[^,]*,//g'`, t.task))
}

// useTools is the same with separate tools.
func (t *transcript) useTools() {
	t.say("Forward a port to the database in the VPC. The task is its own Session Manager agent.")
	forward := t.background(fmt.Sprintf("ecsta -c default portforward --id %s --remote-host %s --remote-port %s --local-port %s",
		t.task, t.host, t.server.Port, t.localPort), "Waiting for connections...")
	if t.VPC != nil {
		t.say("From here the database can't be reached; through the tunnel it can, and it sees the task's address.")
	} else {
		t.say("Through the tunnel. (Run as root, the database would be in a network that only the task can reach.)")
	}
	t.run(fmt.Sprintf(`psql -h 127.0.0.1 -p %s -c "select count(*) as orders, sum(amount) as amount, inet_client_addr() as seen_from from orders"`, t.localPort))
	t.say("The relay keeps a session below the rate at which Session Manager disconnects it, about 1 MB/s:")
	t.speed(fmt.Sprintf(`psql -h 127.0.0.1 -p %s -qAtc "copy (select repeat('x', 999) from generate_series(1, 2000)) to stdout"`, t.localPort))
	t.interrupt(forward, "Ctrl-C")
	t.audit()
}

// end waits until the task has ended because no session is open.
func (t *transcript) end() {
	t.say("Nothing is left to do. When no session was open for %s (30 minutes, if .env does not say otherwise), the task ends:", idleTimeout)
	t.wait()
	t.run("ecspresso --envfile=.env status")
	t.say("The service is at 0 again, and the task is gone.")
}

// leave gives the place to a person.
func (p *place) leave(t *transcript) error {
	t.say("Everything runs until you leave this shell. It has ecspresso and ecsta in PATH, .env, and the definitions. For example:\n"+
		"  fumidai forward -c default -s fumidai -L %s:%s:%s &\n"+
		"  psql -h 127.0.0.1 -p %s -c 'select * from orders limit 3'\n"+
		"  ecsta -c default logs --id %s --duration 10m -f\n"+
		"  curl $FUMIDAI_EMULATOR_CONTROL/          # every call, faults to switch on, sessions to disconnect\n"+
		"  ecspresso --envfile=.env scale --tasks=0", t.localPort, p.host, p.server.Port, t.localPort, t.task)
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	cmd := exec.Command(shell)
	cmd.Dir, cmd.Env = p.dir, p.env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	var left *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &left) { // the last command's status is nobody's business
		return fmt.Errorf("%s: %w", shell, err)
	}
	return nil
}

// introduce says what is what.
func (p *place) introduce(t *transcript) {
	t.say("An emulator of AWS on this machine, PostgreSQL %s, and the tools: %s.", map[bool]string{true: "in its VPC", false: "beside it"}[p.VPC != nil],
		strings.Join(p.commands, ", "))
}
