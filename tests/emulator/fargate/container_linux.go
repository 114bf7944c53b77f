package fargate

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func bytePointer(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }

// containerInit runs as PID 1 of a new container: it makes the root as Fargate's looks for an image from scratch, goes
// there, and becomes the command. It returns only if that fails.
func containerInit() error {
	var setup containerSetup
	pipe := os.NewFile(3, "setup")
	if err := json.NewDecoder(pipe).Decode(&setup); err != nil {
		return fmt.Errorf("read the setup: %w", err)
	}
	pipe.Close()
	unix.CloseOnExec(4) // which tells the parent
	for _, step := range []func(containerSetup) error{makeRoot, mountFiles, makeDev, enterRoot, dropPrivileges} {
		if err := step(setup); err != nil {
			return err
		}
	}
	path := setup.Args[0]
	if !strings.Contains(path, "/") {
		path = "/" + path
	}
	err := unix.Exec(path, setup.Args, setup.Env)
	return fmt.Errorf("exec %s: %w", path, err)
}

func makeRoot(s containerSetup) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("root", s.Root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	proc := filepath.Join(s.Root, "proc")
	if err := os.MkdirAll(proc, 0o555); err != nil {
		return err
	}
	if err := unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return unix.Sethostname([]byte(s.Hostname))
}

func mountFiles(s containerSetup) error {
	for target, source := range s.Files {
		if err := bind(source, filepath.Join(s.Root, target), unix.MS_RDONLY); err != nil {
			return err
		}
	}
	for _, m := range s.Mounts {
		if err := bind(m.Source, filepath.Join(s.Root, m.Target), 0); err != nil {
			return err
		}
	}
	return nil
}

func bind(source, target string, flags uintptr) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else {
		err = os.WriteFile(target, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	if flags == 0 {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	return nil
}

func makeDev(s containerSetup) error {
	dev := filepath.Join(s.Root, "dev")
	if err := os.MkdirAll(dev, 0o755); err != nil {
		return err
	}
	unix.Umask(0)
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		if err := unix.Mknod(filepath.Join(dev, name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	unix.Umask(0o022)
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return nil
}

func enterRoot(s containerSetup) error {
	if s.ReadOnlyRoot {
		if err := unix.Mount("", s.Root, "", unix.MS_REMOUNT|unix.MS_RDONLY, "mode=755"); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	if err := unix.Chdir(s.Root); err != nil {
		return err
	}
	// The old root goes under the new one at the same place, so that one unmount removes it (see pivot_root(2)).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// kept are the capabilities of a Fargate container: Docker's default set less those Fargate takes away.
var kept = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
	unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW, unix.CAP_SYS_CHROOT, unix.CAP_MKNOD, unix.CAP_AUDIT_WRITE, unix.CAP_SETFCAP,
}

func dropPrivileges(s containerSetup) error {
	if s.OpenFiles > 0 {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: s.OpenFiles, Max: s.OpenFiles}); err != nil {
			return fmt.Errorf("limit the descriptors: %w", err)
		}
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if !slices.Contains(kept, c) {
			unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0) //nolint:errcheck // this kernel may not know it
		}
	}
	user, err := credential(s.User)
	if err != nil || user == nil {
		return err
	}
	if err := unix.Setgroups(nil); err != nil {
		return err
	}
	uid, gid := int(user.Uid), int(user.Gid)
	if err := unix.Setresgid(gid, gid, gid); err != nil {
		return err
	}
	return unix.Setresuid(uid, uid, uid)
}

// credential reads "uid" or "uid:gid"; nil for nobody in particular, which is root.
func credential(text string) (*syscall.Credential, error) {
	if text == "" {
		return nil, nil
	}
	uid, gid, _ := strings.Cut(text, ":")
	c := &syscall.Credential{}
	for _, part := range []struct {
		text string
		id   *uint32
	}{{uid, &c.Uid}, {gid, &c.Gid}} {
		if part.text == "" {
			continue
		}
		n, err := strconv.ParseUint(part.text, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user %q: only numbers are understood", text)
		}
		*part.id = uint32(n)
	}
	return c, nil
}
