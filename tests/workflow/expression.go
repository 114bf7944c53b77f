package workflow

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	expression = regexp.MustCompile(`\$\{\{\s*(.*?)\s*\}\}`)
	reference  = regexp.MustCompile(`^(\w+)\.([\w.-]+)$`)
)

// Contexts are what expressions refer to: vars, env, github and so on, by name.
type Contexts map[string]map[string]string

// expand replaces the ${{ expressions }} in a text.
func (c Contexts) expand(text string) (string, error) {
	var failed error
	out := expression.ReplaceAllStringFunc(text, func(match string) string {
		value, err := c.evaluate(expression.FindStringSubmatch(match)[1])
		if err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", match, err)
		}
		return value
	})
	return out, failed
}

// evaluate knows alternatives (`a || b`) of references and literals. GitHub takes what does not exist for an empty text; here
// it is an error, unless another alternative follows.
func (c Contexts) evaluate(source string) (string, error) {
	alternatives := strings.Split(source, "||")
	for i, operand := range alternatives {
		value, known, err := c.operand(strings.TrimSpace(operand))
		switch {
		case err != nil:
			return "", err
		case value != "":
			return value, nil
		case i == len(alternatives)-1 && !known:
			return "", fmt.Errorf("there is no %s", strings.TrimSpace(operand))
		}
	}
	return "", nil
}

func (c Contexts) operand(source string) (value string, known bool, err error) {
	if literal, ok := strings.CutPrefix(source, "'"); ok && strings.HasSuffix(literal, "'") {
		return strings.TrimSuffix(literal, "'"), true, nil
	}
	parts := reference.FindStringSubmatch(source)
	if parts == nil || c[parts[1]] == nil {
		return "", false, fmt.Errorf("not an expression that is known here: %q", source)
	}
	value, known = c[parts[1]][parts[2]]
	return value, known, nil
}

// condition tells whether a step is to run, after others have or have not failed.
func condition(source string, failed bool) (bool, error) {
	switch source {
	case "", "success()":
		return !failed, nil
	case "failure()":
		return failed, nil
	case "always()":
		return true, nil
	}
	return false, fmt.Errorf("not a condition that is known here: %q", source)
}
