package fargate

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Two jobs need a process of this program's own: preparing a container's root from inside its namespaces, and being a
// worker. Such a process is this program again, told apart by its first argument before main begins.
const (
	initArg   = "fumidai-emulator-container-init"
	workerEnv = "FUMIDAI_EMULATOR_WORKER=1"
)

func init() {
	if len(os.Args) > 0 && os.Args[0] == initArg {
		err := containerInit()
		fmt.Fprintln(os.Stderr, "emulator: can't start the container:", err)
		os.Exit(125) // as docker says that it, not the command, failed
	}
	for _, entry := range os.Environ() {
		if entry == workerEnv {
			workerMain()
		}
	}
}

// workerMain is a process that does nothing until it is told to end.
func workerMain() {
	name := append([]byte("ssm-session-wor"), 0)
	unix.Prctl(unix.PR_SET_NAME, bytePointer(name), 0, 0, 0)          //nolint:errcheck // only cosmetics
	unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) //nolint:errcheck // the parent kills us too
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
	os.Exit(0)
}
