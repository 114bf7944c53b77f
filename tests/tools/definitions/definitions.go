// Package definitions renders files as ecspresso does (https://github.com/kayac/ecspresso): Go's templates with env and
// must_env.
package definitions

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// Variables are an environment; ok is false for a variable that is not set.
type Variables func(name string) (value string, ok bool)

// Map is an environment of its own.
func Map(m map[string]string) Variables {
	return func(name string) (string, bool) {
		value, ok := m[name]
		return value, ok
	}
}

// Render executes a file's template. What it misses of must_env is told by name, and is empty in the text.
func Render(path string, variables Variables) (text string, missing []string, err error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	parsed, err := template.New(filepath.Base(path)).Funcs(template.FuncMap{
		"must_env": func(name string) string {
			value, ok := variables(name)
			if !ok {
				missing = append(missing, name)
			}
			return value
		},
		// The first of the variables that is not empty, else the last argument.
		"env": func(names ...string) string {
			for _, name := range names[:len(names)-1] {
				if value, _ := variables(name); value != "" {
					return value
				}
			}
			return names[len(names)-1]
		},
	}).Parse(string(source))
	if err != nil {
		return "", nil, err
	}
	var out strings.Builder
	err = parsed.Execute(&out, nil)
	return out.String(), missing, err
}

// Decode renders a file of JSON into the request it becomes. A variable that is missing is an error, and so is what the
// request does not know.
func Decode(path string, variables Variables, into any) error {
	text, missing, err := Render(path, variables)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s: not set in the environment: %s", path, strings.Join(missing, ", "))
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s: %w\n%s", path, err, text)
	}
	return nil
}
