package emulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"fumidai/tests/emulator/ecs"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/gateway"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// ControlHelp says what the control endpoint understands.
const ControlHelp = `GET    /calls[?service=ecs&action=StopTask]  every call so far: principal, action, resource, outcome, fault
DELETE /calls                                forget them
GET    /faults                               the faults that are on, by id
POST   /faults                               switch one on: {"service":"ecs","action":"","subject":"","probability":0.3,
                                             "times":0,"within":"10s","effect":"error","status":500,"code":"ServerException",
                                             "message":"","body":"","delay":"0s"}; services are signing names, "metadata",
                                             "credentials" and "tls" (connections, by the first label of the host name);
                                             effects are error, latency, reset-before, reset-after, hang; of connections
                                             reset-before, hang, tls-garbage, tls-alert, tls-bad-record, tls-wrong-name
DELETE /faults[/ID]                          switch one off, or all
PUT    /clock                                {"skew":"7m"} shifts the services' clock
GET    /tasks                                every task as DescribeTasks shows it
GET    /tasks/ID/output                      what its containers have written
POST   /tasks/ID/expire                      make its credentials expire now
POST   /tasks/ID/sessions/SID                exec agent: start a session
DELETE /tasks/ID/sessions/SID[?unlogged=1]   exec agent: end it
POST   /tasks/ID/log/rotate|truncate|remove  exec agent: what happens to its log
` + gateway.ControlHelp

// Control is the emulator's own API, for whoever drives it from outside. It must not be reachable by tasks.
func (e *Emulator) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, ControlHelp) })
	mux.HandleFunc("GET /calls", e.controlCalls)
	mux.HandleFunc("DELETE /calls", func(http.ResponseWriter, *http.Request) { e.Edge.Recorder.Reset() })
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { reply(w, e.Edge.Faults.List()) })
	mux.HandleFunc("POST /faults", e.controlAddFault)
	mux.HandleFunc("DELETE /faults", func(http.ResponseWriter, *http.Request) { e.Edge.Faults.Clear() })
	mux.HandleFunc("DELETE /faults/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		refuse(w, err)
		e.Edge.Faults.Remove(id)
	})
	mux.HandleFunc("PUT /clock", e.controlClock)
	mux.HandleFunc("GET /tasks", func(w http.ResponseWriter, _ *http.Request) {
		states := []types.Task{}
		for _, t := range e.ECS.Tasks(nil) {
			states = append(states, t.State())
		}
		if err := edge.WriteJSON(w, edge.CamelCase, states); err != nil {
			refuse(w, err)
		}
	})
	mux.HandleFunc("GET /tasks/{id}/output", e.onTask(func(t *ecs.Task, w http.ResponseWriter, _ *http.Request) error {
		_, err := fmt.Fprint(w, t.Output())
		return err
	}))
	mux.HandleFunc("POST /tasks/{id}/expire", e.onTask(func(t *ecs.Task, _ http.ResponseWriter, _ *http.Request) error {
		e.Edge.Keys.Expire(t.Key().Principal.ARN, e.Edge.Now())
		return nil
	}))
	mux.HandleFunc("POST /tasks/{id}/sessions/{session}", e.onAgent(func(a *ecs.ExecAgent, r *http.Request) error {
		return a.StartSession(r.PathValue("session"))
	}))
	mux.HandleFunc("DELETE /tasks/{id}/sessions/{session}", e.onAgent(func(a *ecs.ExecAgent, r *http.Request) error {
		return a.EndSession(r.PathValue("session"), r.FormValue("unlogged") == "")
	}))
	mux.HandleFunc("POST /tasks/{id}/log/rotate", e.onAgent(func(a *ecs.ExecAgent, _ *http.Request) error { return a.Rotate() }))
	mux.HandleFunc("POST /tasks/{id}/log/truncate", e.onAgent(func(a *ecs.ExecAgent, _ *http.Request) error { return a.Truncate() }))
	mux.HandleFunc("POST /tasks/{id}/log/remove", e.onAgent(func(a *ecs.ExecAgent, _ *http.Request) error { return a.Remove() }))
	e.Gateway.Control(mux)
	return mux
}

func (e *Emulator) controlCalls(w http.ResponseWriter, r *http.Request) {
	service, action := r.FormValue("service"), r.FormValue("action")
	reply(w, e.Edge.Recorder.Calls(func(rec edge.Record) bool {
		return (service == "" || rec.Service == service) && (action == "" || rec.Action == action)
	}))
}

func (e *Emulator) controlAddFault(w http.ResponseWriter, r *http.Request) {
	var in struct {
		edge.Fault
		Within string `json:"within"` // durations as people write them, instead of Fault's own
		Delay  string `json:"delay"`
	}
	err := json.NewDecoder(r.Body).Decode(&in)
	if err == nil {
		in.Fault.Within, err = duration(in.Within)
	}
	if err == nil {
		in.Fault.Delay, err = duration(in.Delay)
	}
	if err == nil && in.Effect == "" {
		err = fmt.Errorf("the fault has no effect")
	}
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, map[string]int{"id": e.Edge.Faults.Add(in.Fault)})
}

func (e *Emulator) controlClock(w http.ResponseWriter, r *http.Request) {
	var in struct{ Skew string }
	err := json.NewDecoder(r.Body).Decode(&in)
	if err == nil {
		var skew time.Duration
		if skew, err = duration(in.Skew); err == nil {
			e.Edge.SetSkew(skew)
			return
		}
	}
	refuse(w, err)
}

func (e *Emulator) onTask(f func(*ecs.Task, http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, t := range e.ECS.Tasks(nil) {
			if t.ID() == r.PathValue("id") {
				refuse(w, f(t, w, r))
				return
			}
		}
		http.Error(w, "no such task", http.StatusNotFound)
	}
}

func (e *Emulator) onAgent(f func(*ecs.ExecAgent, *http.Request) error) http.HandlerFunc {
	return e.onTask(func(t *ecs.Task, _ http.ResponseWriter, r *http.Request) error {
		agent, err := t.ExecAgent()
		if err != nil {
			return err
		}
		return f(agent, r)
	})
}

func duration(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	return time.ParseDuration(text)
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the client went away
}

func refuse(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}
