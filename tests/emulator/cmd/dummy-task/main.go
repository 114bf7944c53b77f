// dummy-task is a task for the emulator's own tests. Each argument is done in turn:
//
//	env           print the environment as one JSON line
//	get=URL       print the answer of a GET
//	get=$NAME/x   the same, of the URL in variable NAME with /x behind it
//	credentials   print the answer of the credentials endpoint
//	proc          print the command lines in /proc as one JSON line
//	write=PATH    try to create a file and print what happened
//	log=PATH      print the file
//	id            print pid and uid
//	sleep=D       sleep so long
//	exit=N        exit with N
//	term=N        from now on exit with N upon SIGTERM
//	quit=N        the same upon SIGQUIT or SIGINT, which it prints
//	ignore        from now on ignore SIGTERM
//	kill=N        kill oneself with signal N
//	orphans=N     leave N processes behind that end soon after their parent
//	daemon        leave a process with a session of its own that says "terminated" upon SIGTERM
//	init          run the rest as a program, pass signals on to it and reap what has no parent, as Docker's init does
//	neighbour     start a process that says "neighbour terminated" upon SIGTERM: another container's, with pidMode task
//	zombies       print how many processes in /proc have ended and were not reaped
//	wait          sleep for ever
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	for i, arg := range os.Args[1:] {
		verb, value, _ := strings.Cut(arg, "=")
		switch verb {
		case "env":
			printJSON(os.Environ())
		case "get":
			get(expand(value), "")
		case "credentials":
			if path := os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
				get("http://169.254.170.2"+path, "")
			} else {
				get(os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"), os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"))
			}
		case "lookup":
			addresses, err := net.LookupHost(value)
			fmt.Println("lookup", value, addresses, err)
		case "proc":
			proc()
		case "write":
			err := os.WriteFile(value, []byte("x"), 0o644)
			fmt.Println("write", value, err)
		case "log":
			b, err := os.ReadFile(value)
			fmt.Println("log", string(b), err)
		case "id":
			fmt.Println("id", os.Getpid(), os.Getuid())
		case "sleep":
			d, err := time.ParseDuration(value)
			check(err)
			time.Sleep(d)
		case "exit":
			os.Exit(number(value))
		case "term":
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGTERM)
			go func() {
				<-c
				fmt.Println("terminated")
				os.Exit(number(value))
			}()
		case "quit": // as term, upon SIGQUIT and SIGINT
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGQUIT, syscall.SIGINT)
			go func() {
				fmt.Println(<-c)
				os.Exit(number(value))
			}()
		case "ignore":
			signal.Ignore(syscall.SIGTERM)
		case "kill":
			check(syscall.Kill(os.Getpid(), syscall.Signal(number(value))))
			time.Sleep(time.Second)
		case "orphans":
			for range number(value) {
				check(exec.Command("/proc/self/exe", "fork").Run())
			}
		case "fork":
			check(exec.Command("/proc/self/exe", "sleep=300ms").Start())
		case "daemon":
			c := exec.Command("/proc/self/exe", "term=0", "wait")
			c.Stdout, c.Stderr, c.SysProcAttr = os.Stdout, os.Stderr, &syscall.SysProcAttr{Setsid: true}
			check(c.Start())
		case "neighbour":
			c := exec.Command("/proc/self/exe", "be-neighbour")
			c.Stdout, c.SysProcAttr = os.Stdout, &syscall.SysProcAttr{Setsid: true}
			check(c.Start())
		case "be-neighbour":
			c := make(chan os.Signal, 1)
			signal.Notify(c, syscall.SIGTERM)
			<-c
			fmt.Println("neighbour terminated")
		case "init":
			initProcess(os.Args[i+2:])
		case "zombies":
			zombies()
		case "wait":
			for {
				time.Sleep(time.Hour)
			}
		default:
			check(fmt.Errorf("unknown argument %q", arg))
		}
	}
}

func initProcess(args []string) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	child, err := os.StartProcess(args[0], args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	check(err)
	go func() {
		for s := range signals {
			_ = child.Signal(s)
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		check(err)
		if pid == child.Pid && status.Signaled() {
			os.Exit(128 + int(status.Signal()))
		} else if pid == child.Pid {
			os.Exit(status.ExitStatus())
		}
		fmt.Println("init reaped", pid)
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	check(err)
	return n
}

func expand(text string) string {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok {
		return text
	}
	name, path, found := strings.Cut(rest, "/")
	if found {
		path = "/" + path
	}
	return os.Getenv(name) + path
}

func get(url, token string) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	check(err)
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Println("get", err)
		return
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	fmt.Println("get", res.StatusCode, strings.TrimSpace(string(body)))
}

func proc() {
	lines := map[string][]string{}
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, entry := range entries {
		b, _ := os.ReadFile(entry)
		lines[filepath.Base(filepath.Dir(entry))] = strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	}
	printJSON(lines)
}

func zombies() {
	count := 0
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, entry := range entries {
		b, _ := os.ReadFile(entry)
		if _, rest, ok := strings.Cut(string(b), ") "); ok && strings.HasPrefix(rest, "Z") {
			count++
		}
	}
	fmt.Println("zombies", count)
}

func printJSON(v any) {
	b, err := json.Marshal(v)
	check(err)
	fmt.Println(string(b))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
}
