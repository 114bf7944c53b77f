// fumidai-emulator is a one-machine Fargate. See its --help.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/fargate"
	"fumidai/tests/emulator/services"
)

const help = `fumidai-emulator: a one-machine Fargate.

It serves the AWS APIs that fumidai and the tools around it use (ECS, and what plugs into it), at one port that speaks
TLS with a certificate authority made at start, plain HTTP, and CONNECT. Every signature is verified. When a service's
desired count rises, its task definition's image is really started, with the environment, metadata and credentials a
task on Fargate finds; it is stopped with SIGTERM, the stop timeout, SIGKILL.

usage: fumidai-emulator [flags] [-- command args…]

With a command it runs that with the variables below set, then stops and exits with its status. Without one it prints
the variables as shell code on standard output and serves until SIGINT or SIGTERM:

  fumidai-emulator --image '*=build/fumidai' >emulator.env &
  . ./emulator.env
  aws ecs list-clusters

Two ways to reach it:
  AWS_ENDPOINT_URL, for SDKs that know it: one port, requests told apart by target, version and path.
  HTTPS_PROXY (with --proxy), for all others: real host names, for each of which a leaf certificate is minted.

An image is a binary (or more files) of this machine. '*' stands for every image name. In namespaces the binary must be
static: the root holds nothing else. Examples:
  --image '*=build/fumidai'              the binary, as /fumidai, which is also the entry point
  --image 'gate:v1=./gate'               the same for one name
  --file /bin/tool=./tool                another file, for all images

Flags:
`

// pairs collects name=value flags.
type pairs map[string]string

func (p pairs) String() string { return "" }
func (p pairs) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return errors.New("want NAME=PATH")
	}
	p[name] = value
	return nil
}

type settings struct {
	options  emulator.Options
	control  string
	proxy    bool
	logLevel slog.Level
	clusters string
	images   pairs
	files    pairs
	roles    pairs
	layouts  pairs
	groups   string
	database pairs
}

func main() {
	s := settings{images: pairs{}, files: pairs{}, roles: pairs{}, layouts: pairs{}, database: pairs{}, logLevel: slog.LevelWarn}
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, help)
		flag.PrintDefaults()
		fmt.Fprint(os.Stderr, "\nThe control endpoint (plain HTTP):\n\n"+emulator.ControlHelp)
	}
	flag.StringVar(&s.options.Address, "listen", "127.0.0.1:0", "`address` of the one port")
	flag.StringVar(&s.control, "control", "127.0.0.1:0", "`address` of the control endpoint")
	flag.StringVar(&s.options.Region, "region", "ap-northeast-1", "the `region`")
	flag.StringVar(&s.options.Account, "account", "123456789012", "the account `id`")
	flag.StringVar(&s.clusters, "clusters", "", "`names` of clusters besides default, separated by commas")
	flag.Uint64Var(&s.options.Seed, "seed", 1, "`seed` of the faults' probabilities")
	flag.BoolVar(&s.options.Namespaces, "namespaces", false, "run tasks in namespaces, with 169.254.170.2 and a VPC of their own (needs root)")
	flag.DurationVar(&s.options.ECS.Timing.StopTimeout, "stop-timeout", 0, "stop timeout of containers that name none (default 30s)")
	flag.DurationVar(&s.options.ECS.Timing.CredentialLifetime, "credential-lifetime", 0, "life of a task role's credentials (default 6h)")
	flag.BoolVar(&s.proxy, "proxy", false, "set HTTPS_PROXY instead of AWS_ENDPOINT_URL")
	flag.Var(s.images, "image", "`NAME=PATH` of a binary; may be repeated")
	flag.Var(s.files, "file", "`PATH=HOSTPATH` of a further file in every container; may be repeated")
	flag.Var(s.roles, "role", "`NAME=WHO` of an IAM role and who may assume it (ecs-tasks.amazonaws.com); may be repeated")
	flag.Var(s.layouts, "repository", "`NAME=DIRECTORY` of an ECR repository and the OCI layout that it serves; may be repeated")
	flag.StringVar(&s.groups, "log-groups", "", "`names` of log groups that exist, separated by commas (others come with their first line)")
	flag.Var(s.database, "workgroup", "`NAME=USER:PASSWORD@HOST:PORT/DATABASE` of a Redshift Serverless workgroup; may be repeated")
	flag.TextVar(&s.logLevel, "log-level", slog.LevelWarn, "debug, info, warn or error; debug shows every call")
	flag.Parse()
	code, err := s.run(flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "fumidai-emulator:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func (s *settings) run(command []string) (int, error) {
	s.options.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: s.logLevel}))
	s.options.Image = s.image
	if s.clusters != "" {
		s.options.ECS.Clusters = strings.Split(s.clusters, ",")
	}
	s.options.Services.Roles, s.options.Services.Repositories = s.roles, s.layouts
	if s.groups != "" {
		s.options.Services.LogGroups = strings.Split(s.groups, ",")
	}
	var err error
	if s.options.Services.Workgroups, err = endpoints(s.database); err != nil {
		return 0, err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	e, err := emulator.Start(s.options)
	if err != nil {
		return 0, err
	}
	defer e.Close()
	control, err := net.Listen("tcp", s.control)
	if err != nil {
		return 0, err
	}
	go http.Serve(control, e.Control()) //nolint:errcheck,gosec // until the end
	env := append(e.ToolEnv(s.proxy), "FUMIDAI_EMULATOR_CONTROL=http://"+control.Addr().String())
	if len(command) > 0 {
		return with(command, env, stop)
	}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		fmt.Printf("export %s='%s'\n", name, value)
	}
	fmt.Println("unset AWS_PROFILE AWS_SESSION_TOKEN")
	os.Stdout.Close()
	<-stop
	return 0, nil
}

// endpoints reads USER:PASSWORD@HOST:PORT/DATABASE.
func endpoints(texts pairs) (map[string]services.Endpoint, error) {
	all := map[string]services.Endpoint{}
	for name, text := range texts {
		u, err := url.Parse("redshift://" + text)
		if err != nil {
			return nil, fmt.Errorf("workgroup %s: %w", name, err)
		}
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			return nil, fmt.Errorf("workgroup %s: no port in %q", name, text)
		}
		password, _ := u.User.Password()
		all[name] = services.Endpoint{Host: u.Hostname(), Port: port, Database: strings.TrimPrefix(u.Path, "/"), User: u.User.Username(), Password: password}
	}
	return all, nil
}

// with runs a command and returns its status; a signal to us is passed on.
func with(command, env []string, stop <-chan os.Signal) (int, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		for sig := range stop {
			cmd.Process.Signal(sig) //nolint:errcheck // it may have ended
		}
	}()
	var failed *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &failed) {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

func (s *settings) image(name string) (fargate.Image, error) {
	path, ok := s.images[name]
	if !ok {
		if path, ok = s.images["*"]; !ok {
			return fargate.Image{}, fmt.Errorf("no --image stands for %s", name)
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fargate.Image{}, err
	}
	image := fargate.Image{Files: map[string]string{"/fumidai": path}, Entrypoint: []string{"/fumidai"}}
	for inside, outside := range s.files {
		image.Files[inside] = outside
	}
	return image, nil
}
