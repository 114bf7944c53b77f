// Command standin does what the article's workflow needs of ecspresso and redshift-credentials, with the same calls of AWS
// in the same order, where the module registry does not serve these two. It is the one whose name it is run by, or which its
// first argument names. TestStandInOfEcspresso and its like compare it with the real ones where they are to be had.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// replaced are the programs this stands for.
var replaced = map[string]func(ctx context.Context, args []string) error{
	"ecspresso":            ecspresso,
	"redshift-credentials": redshiftCredentials,
}

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if replaced[name] == nil && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	run := replaced[name]
	if run == nil {
		fmt.Fprintln(os.Stderr, "usage: standin ecspresso|redshift-credentials [ARGUMENT...]")
		os.Exit(2)
	}
	fmt.Fprintf(os.Stderr, "%s: this is a stand-in for it: the module registry does not serve the real one\n", name)
	if err := run(context.Background(), args); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
