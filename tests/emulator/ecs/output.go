package ecs

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"sync"
)

// maxOutput is how much of a task's output is remembered; beyond it the beginning goes.
const maxOutput = 16 << 20

// Output remembers what a task writes.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len() > maxOutput {
		o.buf.Next(maxOutput / 2)
	}
	return o.buf.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// teeWriter is an io.MultiWriter that os/exec can compare, so that standard output and error share one pipe.
type teeWriter struct{ first, second io.Writer }

func (t teeWriter) Write(p []byte) (int, error) {
	if n, err := t.first.Write(p); err != nil {
		return n, err
	}
	return t.second.Write(p)
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // the SDK's structs of plain fields can always be printed
	}
	return string(b)
}

func sortTasks(tasks []*Task) {
	slices.SortFunc(tasks, func(a, b *Task) int { return a.state.CreatedAt.Compare(*b.state.CreatedAt) })
}
