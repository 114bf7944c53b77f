package edge

import (
	"sync"
	"time"
)

// Record is one call as the emulator saw it.
type Record struct {
	Time      time.Time `json:"time"`
	RequestID string    `json:"requestId"`
	Service   string    `json:"service"`
	Action    string    `json:"action"`
	Region    string    `json:"region,omitempty"`
	Principal string    `json:"principal,omitempty"` // empty: unsigned, or the signature was refused
	Role      string    `json:"role,omitempty"`
	Task      string    `json:"task,omitempty"`
	Resource  string    `json:"resource,omitempty"` // ARN of what was acted upon, where the service knows it
	Status    int       `json:"status"`             // 0: no answer was sent
	Error     string    `json:"error,omitempty"`    // the error's code
	Fault     Effect    `json:"fault,omitempty"`    // the fault that hit it
}

// Recorder keeps every call, the faulty and refused ones too.
type Recorder struct {
	mu    sync.Mutex
	calls []Record
}

// Add appends one call.
func (r *Recorder) Add(rec Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, rec)
}

// Calls returns the calls so far that every filter lets through, oldest first.
func (r *Recorder) Calls(filters ...func(Record) bool) []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Record
next:
	for _, rec := range r.calls {
		for _, keep := range filters {
			if !keep(rec) {
				continue next
			}
		}
		out = append(out, rec)
	}
	return out
}

// Reset forgets every call.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = nil
}

// ByAction keeps the calls of one operation.
func ByAction(service, action string) func(Record) bool {
	return func(r Record) bool { return r.Service == service && r.Action == action }
}

// ByTask keeps the calls signed with one task's credentials.
func ByTask(arn string) func(Record) bool {
	return func(r Record) bool { return r.Task == arn }
}
