// Package tools finds the real programs that end-to-end tests drive: `make tools` builds them.
package tools

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Find returns the path of a tool: what FUMIDAI_TOOL_<NAME> names (upper case, with underscores), else build/tools/<name>.
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
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "..", "..", "build", "tools", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no %s: `make tools` builds those the registry has, %s names another", name, variable)
	}
	return path, nil
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
