package tools

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Command is what stands under a name in a directory that Commands has made.
type Command struct {
	Name    string
	Path    string // of the real program, or of the stand-in
	StandIn error  // why it is not the real one; nil if it is
}

func (c Command) String() string {
	if c.StandIn != nil {
		reason, _, _ := strings.Cut(c.StandIn.Error(), "\n") // of the newest version
		return fmt.Sprintf("%s: a stand-in (%s)", c.Name, reason)
	}
	return c.Name + ": " + filepath.Base(c.Path)
}

// The commands of the article's workflow; for those that are true there is a stand-in.
var workflow = map[string]bool{"ecspresso": true, "ecsta": false, "redshift-credentials": true, "session-manager-plugin": false}

// StandIns, preferred, takes the stand-ins even where the real ones are to be had.
const StandIns = "stand-ins"

// Commands makes a directory for PATH with the commands of the article's workflow: of the preferred versions
// ("ecsta-0.4.1") where they are to be had, else the newest, else a stand-in.
func Commands(dir string, preferred ...string) ([]Command, error) {
	var all []Command
	for name, replaceable := range workflow {
		c := Command{Name: name}
		if replaceable && slices.Contains(preferred, StandIns) {
			c.StandIn = errors.New("as asked for")
		} else {
			c.Path, c.StandIn = Newest(versions(name, preferred)...)
		}
		if c.StandIn != nil {
			if !replaceable {
				return nil, c.StandIn
			}
			var err error
			if c.Path, err = standIn(dir); err != nil {
				return nil, err
			}
		}
		path, err := filepath.Abs(c.Path)
		if err == nil {
			err = os.Symlink(path, filepath.Join(dir, name))
		}
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Command) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// versions are the names under which Find may know a command: the preferred, then what is pinned, the newest first, then any.
func versions(name string, preferred []string) []string {
	pinned := slices.DeleteFunc(slices.Clone(preferred), func(p string) bool { return !strings.HasPrefix(p, name+"-") })
	found, _ := filepath.Glob(filepath.Join(source(), name+"-*", "go.mod"))
	slices.SortFunc(found, func(a, b string) int { return slices.Compare(numbers(b), numbers(a)) })
	for _, path := range found {
		pinned = append(pinned, filepath.Base(filepath.Dir(path)))
	}
	return append(pinned, name)
}

// numbers are the version of a folder that a tool's go.mod is in.
func numbers(path string) (version []int) {
	folder := filepath.Base(filepath.Dir(path))
	for part := range strings.SplitSeq(folder[strings.LastIndexByte(folder, '-')+1:], ".") {
		n, _ := strconv.Atoi(part)
		version = append(version, n)
	}
	return version
}

// source is the folder of this file.
func source() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Dir(here)
}

// standIn builds the program that stands in for others.
func standIn(dir string) (string, error) {
	path := filepath.Join(dir, "standin")
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return path, err
	}
	build := exec.Command("go", "build", "-o", path, "./standin")
	build.Dir = source()
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the stand-in: %w: %s", err, out)
	}
	return path, nil
}
