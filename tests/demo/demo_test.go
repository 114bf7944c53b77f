package main

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The demo from its first line to its last, with a recording.
func TestDemo(t *testing.T) {
	out := demo(t, false)
	wantInOrder(t, out, "$ ecspresso --envfile=.env deploy", "$ fumidai forward", "starting service", "leads to", "4995000",
		"4000000\n", "--sessions 4", "4000000\n", " MB/s", `"msg":"session ended"`, `"bytes_to_client":40`, "status", "desired:0 pending:0 running:0", "the task is gone")
}

// The same with separate tools.
func TestDemoTools(t *testing.T) {
	out := demo(t, true)
	wantInOrder(t, out, "$ ecspresso --envfile=.env deploy", "$ ecspresso --envfile=.env scale --tasks=1", "desired:0 pending:0 running:0", "RUNNING",
		"portforward", "Reached ", "4995000", "2000000\n", " MB/s", `"msg":"session ended"`, `"bytes_to_client":20`, "status", "desired:0 pending:0 running:0", "the task is gone")
}

func wantInOrder(t *testing.T, out string, all ...string) {
	t.Helper()
	at := 0
	for _, want := range all {
		i := strings.Index(out[at:], want)
		if i < 0 {
			t.Fatalf("no %q behind what came before:\n%s", want, out)
		}
		at += i
	}
}

// demo runs it and returns what it prints.
func demo(t *testing.T, tools bool) string {
	t.Helper()
	t.Chdir("..") // as make runs it
	binary := cmp.Or(os.Getenv("FUMIDAI_BINARY"), "../build/fumidai")
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	printed := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(read)
		printed <- all
	}()
	record := filepath.Join(t.TempDir(), "demo.svg")
	began, stdout := time.Now(), os.Stdout
	os.Stdout = write
	err = run(t.Context(), binary, false, tools, record)
	os.Stdout = stdout
	write.Close() //nolint:errcheck // a pipe
	out := string(<-printed)
	t.Logf("it took %v", time.Since(began).Round(time.Second))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	svg, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the recording: %v", err)
		}
	}
	if !bytes.Contains(svg, []byte("the task is gone")) {
		t.Error("the recording lacks the end")
	}
	return out
}
