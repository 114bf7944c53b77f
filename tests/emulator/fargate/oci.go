package fargate

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// OCI runs each task on the VPC as Namespaces does, and its containers under an OCI runtime: images as they are (Unpack),
// as Fargate would run them at its strictest, whatever the task definition leaves open: a read-only root, no capabilities,
// no_new_privs, the task's CPU and memory as limits. Needs root and runc (or crun).
type OCI struct {
	*Namespaces
	Runtime string // the program: "runc"
}

// Provision implements Runner.
func (o *OCI) Provision(taskID string) (Sandbox, error) {
	s, err := o.Namespaces.Provision(taskID)
	if err != nil {
		return nil, err
	}
	return &ociSandbox{s.(*nsSandbox), o}, nil
}

type ociSandbox struct {
	*nsSandbox
	runner *OCI
}

// Run implements Sandbox.
func (s *ociSandbox) Run(spec Spec) (Container, error) {
	if spec.Image.Root == "" {
		return nil, errors.New("the image has no root: an OCI runtime needs one (see Unpack)")
	}
	bundle, err := os.MkdirTemp(s.dir, "bundle-")
	if err != nil {
		return nil, err
	}
	// A copy, since the runtime makes mount points in it.
	if err := os.CopyFS(filepath.Join(bundle, "rootfs"), os.DirFS(spec.Image.Root)); err != nil {
		return nil, err
	}
	config, err := s.config(spec)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), text, 0o600); err != nil {
		return nil, err
	}
	c := &ociContainer{id: "fumidai-" + filepath.Base(s.dir) + filepath.Base(bundle), runtime: []string{s.runner.Runtime, "--root", filepath.Join(s.dir, "runtime")}}
	pidFile := filepath.Join(bundle, "pid")
	run := append(slices.Clone(c.runtime), "run", "--bundle", bundle, "--pid-file", pidFile, c.id)
	cmd := exec.Command(run[0], run[1:]...)
	cmd.Stdout, cmd.Stderr = spec.Stdout, spec.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = outputDelay
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.processContainer = processContainer{cmd: cmd, spec: spec, done: make(chan struct{})}
	go c.wait()
	return c, c.started(pidFile)
}

// config is the runtime's configuration (OCI runtime specification 1.0).
func (s *ociSandbox) config(spec Spec) (map[string]any, error) {
	user, err := credential(spec.User)
	if err != nil {
		return nil, err
	}
	if user == nil {
		user = &syscall.Credential{}
	}
	type mount struct {
		Destination string   `json:"destination"`
		Type        string   `json:"type"`
		Source      string   `json:"source"`
		Options     []string `json:"options"`
	}
	mounts := []mount{
		{"/proc", "proc", "proc", []string{"nosuid", "noexec", "nodev"}},
		{"/dev", "tmpfs", "tmpfs", []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{"/dev/pts", "devpts", "devpts", []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		{"/dev/shm", "tmpfs", "shm", []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{"/dev/mqueue", "mqueue", "mqueue", []string{"nosuid", "noexec", "nodev"}},
		{"/sys", "sysfs", "sysfs", []string{"nosuid", "noexec", "nodev", "ro"}},
	}
	files := map[string]string{caPath: s.nsSandbox.runner.CAFile}
	for _, name := range []string{"hosts", "resolv.conf", "hostname"} {
		files["/etc/"+name] = filepath.Join(s.dir, name)
	}
	for path, host := range spec.Image.Files {
		files[path] = host
	}
	for path, host := range files {
		mounts = append(mounts, mount{path, "bind", host, []string{"rbind", "ro"}})
	}
	for _, m := range spec.Mounts {
		mounts = append(mounts, mount{m.Target, "bind", m.Source, []string{"rbind", "rw"}})
	}
	resources := map[string]any{"devices": []any{map[string]any{"allow": false, "access": "rwm"}}}
	if spec.CPU > 0 {
		resources["cpu"] = map[string]any{"period": 100_000, "quota": int(spec.CPU * 100_000)}
	}
	if spec.Memory > 0 {
		resources["memory"] = map[string]any{"limit": spec.Memory}
	}
	none := []string{}
	return map[string]any{
		"ociVersion": "1.0.2",
		"process": map[string]any{
			"args": spec.Args, "env": spec.Env, "cwd": "/", "noNewPrivileges": true,
			"user":         map[string]any{"uid": user.Uid, "gid": user.Gid},
			"capabilities": map[string]any{"bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none},
		},
		"root":     map[string]any{"path": "rootfs", "readonly": true},
		"hostname": s.network.Hostname,
		"mounts":   mounts,
		"linux": map[string]any{
			"namespaces": []any{
				map[string]any{"type": "pid"}, map[string]any{"type": "ipc"}, map[string]any{"type": "uts"}, map[string]any{"type": "mount"},
				map[string]any{"type": "network", "path": fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(s.ns.handle))},
			},
			"resources":     resources,
			"maskedPaths":   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"},
			"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}, nil
}

type ociContainer struct {
	processContainer // of the runtime, which stays and ends as the container does
	runtime          []string
	id               string
	pid              int
}

// started waits until the container's first process runs.
func (c *ociContainer) started(pidFile string) error {
	for {
		if text, err := os.ReadFile(pidFile); err == nil && len(text) > 0 {
			_, err = fmt.Sscan(string(text), &c.pid)
			return err
		}
		select {
		case <-c.done:
			return fmt.Errorf("%s: exit status %d, see the container's output", c.runtime[0], c.ExitCode())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (c *ociContainer) PID() int                        { return c.pid }
func (c *ociContainer) Signal(sig syscall.Signal) error { return syscall.Kill(c.pid, sig) }
func (c *ociContainer) Kill()                           { syscall.Kill(c.pid, syscall.SIGKILL) } //nolint:errcheck // it may have ended

func (c *ociContainer) Exec(ctx context.Context, args []string, output io.Writer) (int, error) {
	all := append(append(slices.Clone(c.runtime), "exec", c.id), args...)
	return c.exec(ctx, all, output, nil, nil)
}

func (c *ociContainer) Worker(args ...string) (*os.Process, error) {
	return c.startWorker(args, func() error {
		pidns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", c.pid))
		if err != nil {
			return err
		}
		defer pidns.Close()
		return unix.Setns(int(pidns.Fd()), unix.CLONE_NEWPID)
	})
}

// Unpack lays out one platform's image of an OCI archive in a directory.
func Unpack(archive, architecture, dir string) (Image, error) {
	blobs := map[string][]byte{}
	file, err := os.Open(archive)
	if err != nil {
		return Image{}, err
	}
	defer file.Close()
	r := tar.NewReader(file)
	for h, err := r.Next(); err != io.EOF; h, err = r.Next() {
		if err != nil {
			return Image{}, err
		}
		if blobs[h.Name], err = io.ReadAll(r); err != nil {
			return Image{}, err
		}
	}
	type descriptor struct {
		Digest   string
		Platform struct{ Architecture string }
	}
	var index, manifest struct {
		Manifests, Layers []descriptor
		Config            descriptor
	}
	var config struct {
		Config struct {
			User                 string
			Entrypoint, Cmd, Env []string
		}
	}
	read := func(digest string, into any) error {
		b := blobs["blobs/sha256/"+strings.TrimPrefix(digest, "sha256:")]
		if sum := sha256.Sum256(b); "sha256:"+hex.EncodeToString(sum[:]) != digest {
			return fmt.Errorf("%s: no blob %s", archive, digest)
		}
		if out, raw := into.(*[]byte); raw {
			*out = b
			return nil
		}
		return json.Unmarshal(b, into)
	}
	if err := json.Unmarshal(blobs["index.json"], &index); err != nil || len(index.Manifests) != 1 {
		return Image{}, fmt.Errorf("%s: not one image: %v", archive, err)
	}
	if err := read(index.Manifests[0].Digest, &index); err != nil {
		return Image{}, err
	}
	i := slices.IndexFunc(index.Manifests, func(d descriptor) bool { return d.Platform.Architecture == architecture })
	if i < 0 {
		return Image{}, fmt.Errorf("%s: not for %s", archive, architecture)
	}
	if err := read(index.Manifests[i].Digest, &manifest); err != nil {
		return Image{}, err
	}
	if err := read(manifest.Config.Digest, &config); err != nil {
		return Image{}, err
	}
	for _, layer := range manifest.Layers {
		var b []byte
		if err := read(layer.Digest, &b); err != nil {
			return Image{}, err
		}
		if err := unpackLayer(b, dir); err != nil {
			return Image{}, fmt.Errorf("%s: %w", archive, err)
		}
	}
	c := config.Config
	return Image{Root: dir, Entrypoint: c.Entrypoint, Command: c.Cmd, Env: c.Env, User: c.User}, nil
}

// unpackLayer unpacks the plain files of a layer: images from scratch have no others.
func unpackLayer(layer []byte, dir string) error {
	z, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		return err
	}
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
			return fmt.Errorf("layer entry %s is not a plain file", h.Name)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return err
		}
		if err := os.Chmod(path, h.FileInfo().Mode().Perm()); err != nil {
			return err
		}
	}
}
