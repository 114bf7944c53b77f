package fargate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespaces runs each task in a network namespace of its own on the VPC, and each container in mount, process,
// host-name and IPC namespaces of its own, its first process being PID 1. Needs root.
type Namespaces struct {
	VPC    *VPC
	Region string
	// CAFile is the emulator's root certificate on this machine; containers find it where SSL_CERT_FILE says.
	CAFile string
	// TaskEnv is added to every container's environment.
	TaskEnv []string
	// Limits gives each container no more processor and memory than its specification says.
	Limits bool

	dir string
}

const (
	// linkLocal is where Fargate serves metadata and credentials.
	linkLocal = "169.254.170.2"
	// caPath is where a container finds the emulator's root.
	caPath = "/emulator/ca.pem"
)

// NewNamespaces makes a runner whose tasks live on the given VPC.
func NewNamespaces(vpc *VPC, region, caFile string) (*Namespaces, error) {
	dir, err := os.MkdirTemp("", "fumidai-emulator-")
	if err != nil {
		return nil, err
	}
	return &Namespaces{VPC: vpc, Region: region, CAFile: caFile, dir: dir}, nil
}

// Close implements Runner.
func (n *Namespaces) Close() error { return os.RemoveAll(n.dir) }

// Provision implements Runner.
func (n *Namespaces) Provision(taskID string) (Sandbox, error) {
	ns, address, err := n.VPC.attach()
	if err != nil {
		return nil, fmt.Errorf("attach the task to the VPC: %w", err)
	}
	s := &nsSandbox{runner: n, ns: ns, dir: filepath.Join(n.dir, taskID)}
	s.network = newNetwork(address, n.VPC.Subnet, n.VPC.Resolver, n.Region)
	s.local, err = ns.Listen("tcp", linkLocal+":80")
	if err == nil {
		err = s.writeFiles()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

type nsSandbox struct {
	runner  *Namespaces
	ns      *NetNS
	local   net.Listener
	network Network
	dir     string // the files that make a container's /etc, and mount points for roots
}

func (s *nsSandbox) Local() net.Listener { return s.local }
func (s *nsSandbox) LocalURL() string    { return "http://" + linkLocal }
func (s *nsSandbox) LinkLocal() bool     { return true }
func (s *nsSandbox) Network() Network    { return s.network }
func (s *nsSandbox) Env() []string {
	return append([]string{"SSL_CERT_FILE=" + caPath}, s.runner.TaskEnv...)
}

func (s *nsSandbox) Close() error {
	if s.local != nil {
		s.local.Close()
	}
	s.runner.VPC.detach(s.ns, s.network.Address)
	return os.RemoveAll(s.dir)
}

func (s *nsSandbox) writeFiles() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"hosts":       fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", s.network.Address, s.network.Hostname),
		"resolv.conf": fmt.Sprintf("search %s.compute.internal\nnameserver %s\n", s.runner.Region, s.network.DNS),
		"hostname":    s.network.Hostname + "\n",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// containerSetup is what the container's first process is told before it becomes the container.
type containerSetup struct {
	Root         string
	Files        map[string]string // read-only
	Mounts       []Mount           // writable
	ReadOnlyRoot bool
	OpenFiles    uint64 // 0: as many as this program may
	Hostname     string
	User         string
	Args         []string
	Env          []string
}

func (s *nsSandbox) Run(spec Spec) (Container, error) {
	root, err := os.MkdirTemp(s.dir, "root-")
	if err != nil {
		return nil, err
	}
	setup := containerSetup{
		Root: root, Mounts: spec.Mounts, ReadOnlyRoot: spec.ReadOnlyRoot, Hostname: s.network.Hostname,
		OpenFiles: spec.OpenFiles, User: spec.User, Args: spec.Args, Env: spec.Env, Files: map[string]string{caPath: s.runner.CAFile},
	}
	for _, name := range []string{"hosts", "resolv.conf", "hostname"} {
		setup.Files["/etc/"+name] = filepath.Join(s.dir, name)
	}
	for path, host := range spec.Image.Files {
		setup.Files[path] = host
	}
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{initArg}, Env: []string{}, Stdout: spec.Stdout, Stderr: spec.Stderr}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	cmd.WaitDelay = outputDelay
	var group *Group
	if s.runner.Limits {
		if group, err = NewGroup(spec.CPU, spec.Memory); err != nil {
			return nil, err
		}
	}
	if err := s.start(cmd, setup, group); err != nil {
		return nil, err
	}
	c := &nsContainer{processContainer{cmd: cmd, spec: spec, done: make(chan struct{})}, group}
	go func() {
		c.wait()
		if group != nil {
			_ = group.Close()
		}
	}()
	return c, nil
}

// start forks from a thread that is in the task's network namespace, puts the child into its group if there is one, tells it
// what to become, and waits until it has: whoever looks into the container then finds it complete.
func (s *nsSandbox) start(cmd *exec.Cmd, setup containerSetup, group *Group) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	became, becomes, err := os.Pipe() // the child's end closes with exec, or with the child
	if err != nil {
		read.Close()
		return err
	}
	defer became.Close()
	cmd.ExtraFiles = []*os.File{read, becomes}
	err = s.ns.Do(cmd.Start)
	read.Close()
	becomes.Close()
	if err != nil {
		return err
	}
	if group != nil {
		if err := group.Add(cmd.Process.Pid); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(write).Encode(setup); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, became)
	return err
}

type nsContainer struct {
	processContainer
	group *Group
}

// Group is the container's control group, nil without limits.
func (c *nsContainer) Group() *Group { return c.group }

// Kill ends the whole container: the kernel kills a process namespace with its PID 1.
func (c *nsContainer) Kill() { c.cmd.Process.Kill() } //nolint:errcheck // it may have ended

// Exec goes where the container's first process is, all but its capabilities, which go with root.
func (c *nsContainer) Exec(ctx context.Context, args []string, output io.Writer) (int, error) {
	user, err := credential(c.spec.User)
	if err != nil {
		return 0, err
	}
	return c.exec(ctx, args, output, user, func() error {
		// The files are opened first: in another mount namespace there is another /proc.
		var files []*os.File
		for _, kind := range []string{"net", "ipc", "uts", "pid", "mnt"} {
			file, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", c.PID(), kind))
			if err != nil {
				return err
			}
			defer file.Close()
			files = append(files, file)
		}
		if err := unix.Unshare(unix.CLONE_FS); err != nil { // threads that share a root can't change it
			return err
		}
		for _, file := range files {
			if err := unix.Setns(int(file.Fd()), 0); err != nil {
				return fmt.Errorf("enter %s: %w", file.Name(), err)
			}
		}
		return nil
	})
}

func (c *nsContainer) Worker(args ...string) (*os.Process, error) {
	return c.startWorker(args, func() error {
		pidns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", c.PID()))
		if err != nil {
			return err
		}
		defer pidns.Close()
		return unix.Setns(int(pidns.Fd()), unix.CLONE_NEWPID)
	})
}

// onOwnThread runs f on a thread that ends with it, whatever namespaces f has gone to.
func onOwnThread(f func()) {
	runtime.LockOSThread() // and never unlock: the runtime ends the thread with the goroutine
	f()
}
