// Package tools finds the real programs that end-to-end tests drive: `make tools` builds them.
package tools

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Find returns the path of a tool: what FUMIDAI_TOOL_<NAME> names (upper case, with underscores), else build/tools/<name>,
// else what PATH has under that name.
func Find(name string) (string, error) {
	variable := "FUMIDAI_TOOL_" + strings.Map(func(r rune) rune {
		if r == '-' || r == '.' {
			return '_'
		}
		return r
	}, strings.ToUpper(name))
	if path := os.Getenv(variable); path != "" {
		return path, nil
	}
	path := filepath.Join(source(), "..", "..", "build", "tools", name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if found, err := exec.LookPath(name); err == nil {
		return found, nil
	}
	reason, err := os.ReadFile(path + ".refused")
	if err != nil {
		reason = []byte("`make tools` builds it where the module registry serves it")
	}
	return "", fmt.Errorf("no %s: %s; %s names another", name, strings.TrimSpace(string(reason)), variable)
}

// Newest finds the first of several versions of a tool that is to be had.
func Newest(names ...string) (path string, err error) {
	for _, name := range names {
		found, missing := Find(name)
		if missing == nil {
			return found, nil
		}
		err = errors.Join(err, missing)
	}
	return "", err
}

// Path is Find for a test, which is skipped without the tool.
func Path(t testing.TB, name string) string {
	t.Helper()
	path, err := Find(name)
	if err != nil {
		t.Skip(err)
	}
	return path
}
