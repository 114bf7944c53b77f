package edge

import (
	"fmt"
	"hash/fnv"
	"math"
	"sync"
	"time"
)

// Effect says what a fault does to a call.
type Effect string

const (
	// EffectError answers Status with Code and Message instead of doing what was asked.
	EffectError Effect = "error"
	// EffectLatency delays the call by Delay, then lets it through.
	EffectLatency Effect = "latency"
	// EffectResetBefore resets the connection without doing what was asked.
	EffectResetBefore Effect = "reset-before"
	// EffectResetAfter does what was asked, then resets the connection instead of answering.
	EffectResetAfter Effect = "reset-after"
	// EffectHang takes the request and never answers (until the client goes away).
	EffectHang Effect = "hang"

	// What follows happens to a TLS connection itself, before any request: Service is ServiceTLS, Action the first label of
	// the host name asked for ("ssmmessages"). EffectResetBefore and EffectHang do it there, too: a reset, or no word, as
	// the answer to the client's first message.

	// EffectGarbage answers the client's first message with bytes that are not TLS.
	EffectGarbage Effect = "tls-garbage"
	// EffectAlert answers it with the alert handshake_failure.
	EffectAlert Effect = "tls-alert"
	// EffectBadRecord completes the handshake; then comes a record that does not decrypt.
	EffectBadRecord Effect = "tls-bad-record"
	// EffectWrongName shows a certificate of another host.
	EffectWrongName Effect = "tls-wrong-name"
)

// Fault is one rule of the switchboard. A call suffers every latency that matches and the first other effect.
type Fault struct {
	// Service and Action say which calls: a signing name ("ecs", "ssm", "ssmmessages"), or "metadata" and
	// "credentials" for a task's own endpoints, or "tls" for connections, and an operation; empty means any. Any does
	// not include "metadata", "credentials" and "tls".
	Service string `json:"service,omitempty"`
	Action  string `json:"action,omitempty"`
	// Subject limits the fault to one task or session, by the id its service records; empty means any.
	Subject string `json:"subject,omitempty"`
	// Probability of hitting a matching call; 0 means always.
	Probability float64 `json:"probability,omitempty"`
	// Times is how many calls it hits before it is spent; 0 means no limit.
	Times int `json:"times,omitempty"`
	// Within limits it to the first so many seconds of the subject's life (a task's); 0 means no limit.
	Within time.Duration `json:"within,omitempty"`

	Effect  Effect        `json:"effect"`
	Status  int           `json:"status,omitempty"`
	Code    string        `json:"code,omitempty"`
	Message string        `json:"message,omitempty"`
	Body    string        `json:"body,omitempty"` // the answer's body as it is, instead of the service's form of Code and Message
	Delay   time.Duration `json:"delay,omitempty"`
}

// Throttling is the answer of a service that is asked too often.
func Throttling(service, action string, probability float64) Fault {
	return Fault{Service: service, Action: action, Probability: probability, Effect: EffectError,
		Status: 400, Code: "ThrottlingException", Message: "Rate exceeded"}
}

// ServerError is the answer of a service that is unwell.
func ServerError(service, action string, probability float64) Fault {
	return Fault{Service: service, Action: action, Probability: probability, Effect: EffectError,
		Status: 500, Code: "ServerException", Message: "Service Unavailable. Please try again later."}
}

// ExpiredToken is the answer to credentials that have run out.
func ExpiredToken(service, action string, probability float64) Fault {
	return Fault{Service: service, Action: action, Probability: probability, Effect: EffectError,
		Status: 400, Code: "ExpiredTokenException", Message: "The security token included in the request is expired"}
}

// Faults is the switchboard. Which calls a probability hits depends on the seed, the rule and the how-manieth
// matching call it is, and on nothing else: the same seed and the same calls give the same faults.
type Faults struct {
	Seed uint64

	mu    sync.Mutex
	next  int
	rules []*rule
}

type rule struct {
	Fault
	id    int
	seen  uint64
	fired int
}

// Add switches a fault on and returns its id.
func (f *Faults) Add(fault Fault) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	f.rules = append(f.rules, &rule{Fault: fault, id: f.next})
	return f.next
}

// Remove switches one fault off.
func (f *Faults) Remove(id int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range f.rules {
		if r.id == id {
			f.rules = append(f.rules[:i], f.rules[i+1:]...)
			return
		}
	}
}

// Clear switches all faults off.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// List returns the faults that are on, by id.
func (f *Faults) List() map[int]Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[int]Fault{}
	for _, r := range f.rules {
		all[r.id] = r.Fault
	}
	return all
}

// Decision is what the switchboard decided for one call.
type Decision struct {
	Delay time.Duration
	Fault *Fault // nil: let it through
}

// Decide asks the switchboard about one call. age is how long the subject has lived.
func (f *Faults) Decide(service, action, subject string, age time.Duration) Decision {
	f.mu.Lock()
	defer f.mu.Unlock()
	var v Decision
	for _, r := range f.rules {
		if !r.matches(service, action, subject, age) {
			continue
		}
		r.seen++
		if r.Probability > 0 && f.roll(r) >= r.Probability {
			continue
		}
		if r.Effect == EffectLatency {
			r.fired++
			v.Delay += r.Delay
			continue
		}
		if v.Fault == nil {
			r.fired++
			hit := r.Fault
			v.Fault = &hit
		}
	}
	return v
}

func (r *rule) matches(service, action, subject string, age time.Duration) bool {
	if r.Service == "" && (service == ServiceMetadata || service == ServiceCredentials || service == ServiceTLS) {
		return false
	}
	return (r.Service == "" || r.Service == service) &&
		(r.Action == "" || r.Action == action) &&
		(r.Subject == "" || r.Subject == subject) &&
		(r.Within == 0 || age < r.Within) &&
		(r.Times == 0 || r.fired < r.Times)
}

func (f *Faults) roll(r *rule) float64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/%d/%d", f.Seed, r.id, r.seen)
	x := h.Sum64() // FNV's low bits move little: mix before use (the finaliser of splitmix64)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return float64(x>>11) / math.Exp2(53)
}
