// Package fargate is where the emulator's tasks run. A Runner makes a Sandbox for each task (its network, and the
// listener of the endpoints a task finds at 169.254.170.2), and the sandbox runs the task's containers.
//
// There are three kinds: Process (no root, no isolation), Namespaces (root: the binary is PID 1 in namespaces of its own,
// as on Fargate), and OCI (root and runc: the real image under an OCI runtime).
//
// A program that uses this package must be able to re-execute itself: see init.go.
package fargate

import (
	"context"
	"debug/elf"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
)

// Runner makes places for tasks.
type Runner interface {
	// Provision makes a sandbox for the task with this id.
	Provision(taskID string) (Sandbox, error)
	// Close releases what the runner holds beyond its sandboxes.
	Close() error
}

// Sandbox is one task's place.
type Sandbox interface {
	// Local is the listener of the task's own endpoints, and LocalURL how the task calls it.
	Local() net.Listener
	LocalURL() string
	// LinkLocal reports whether LocalURL is http://169.254.170.2, so that
	// AWS_CONTAINER_CREDENTIALS_RELATIVE_URI works.
	LinkLocal() bool
	// Network is the task's address and subnet.
	Network() Network
	// Env is what a container needs besides Fargate's own variables to find and trust the emulator.
	Env() []string
	// Run starts a container.
	Run(Spec) (Container, error)
	// Close releases the sandbox; its containers must have ended.
	Close() error
}

// Network is what a task's metadata says about its network interface.
type Network struct {
	Address  netip.Addr
	Subnet   netip.Prefix
	MAC      string
	DNS      netip.Addr
	Hostname string // ip-10-0-0-10.ap-northeast-1.compute.internal
}

// Image is what a task definition's image name stands for: files, and what is started of them.
type Image struct {
	// Root is a directory that holds the image's whole root, for an OCI runtime; the others do with Files.
	Root string
	// Files maps absolute paths in the container to files or directories of this machine. They are read-only.
	Files      map[string]string
	Entrypoint []string
	Command    []string
	Env        []string
	User       string         // uid or uid:gid; empty is root
	StopSignal syscall.Signal // 0 is SIGTERM; Fargate looks at it since December 2025
}

// Program is an image of one program at /fumidai, as one made FROM scratch holds it. One that is linked dynamically (a build
// with sanitizers) finds this machine's libraries.
func Program(path string) Image {
	image := Image{Files: map[string]string{"/fumidai": path}, Entrypoint: []string{"/fumidai"}}
	if Dynamic(path) {
		for _, dir := range []string{"/lib", "/lib64", "/usr/lib"} {
			if _, err := os.Stat(dir); err == nil {
				image.Files[dir] = dir
			}
		}
	}
	return image
}

// Dynamic tells whether a program is linked dynamically.
func Dynamic(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // read only
	return slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// Spec is one container.
type Spec struct {
	Name         string
	Image        Image
	Args         []string // entry point and command
	Env          []string
	User         string
	ReadOnlyRoot bool
	CPU          float64 // virtual CPUs; 0 means no limit. An OCI runtime limits both, namespaces if they are told to.
	Memory       int64   // bytes; 0 means no limit
	OpenFiles    uint64  // descriptors; 0 is as many as this program may have. Only namespaces limit them.
	Mounts       []Mount
	Stdout       io.Writer
	Stderr       io.Writer
}

// Mount is a writable directory of this machine at a place in the container.
type Mount struct{ Source, Target string }

// Container is a running container.
type Container interface {
	// PID is the process id of the container's first process, as this machine counts.
	PID() int
	// Signal sends a signal to the first process.
	Signal(syscall.Signal) error
	// Kill ends every process of the container.
	Kill()
	// Done is closed once the first process has ended; ExitCode is its status then (128+n for a signal).
	Done() <-chan struct{}
	ExitCode() int
	// Exec runs a command in the container, as its user and with its environment, as container health checks are run,
	// and returns its exit code. The error is for commands that could not be started or were cut off by ctx.
	Exec(ctx context.Context, args []string, output io.Writer) (int, error)
	// Worker starts a process that does nothing but be there, under the given command line, where the container's
	// first process sees it in /proc. (The exec agent's session workers are made of it.) Kill it to end it.
	Worker(args ...string) (*os.Process, error)
}

func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}
