package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// ControlHelp says what Control adds to the emulator's control endpoint.
const ControlHelp = `GET    /gateway                              targets and sessions with their counters
GET    /gateway/settings                     limits, timeouts, policies
PUT    /gateway/settings                     change some: {"Limit":{"Lifted":true},"IdleTimeout":"5m"}
GET    /gateway/faults                       faults of channels (those of API calls: /faults)
PUT    /gateway/faults                       replace all: {"Seed":1,"AgentToClient":{"LoseData":0.01},"AgentChannel":{"CutBytes":400000}}
POST   /gateway/restart[?down=500ms]         every websocket dies
POST   /gateway/expire                       void the tokens that have not been used
PUT    /gateway/documents/NAME               add a session document
POST   /gateway/sessions/ID/terminate        as TerminateSession
POST   /gateway/sessions/ID/cut|bye|stall|resume?end=agent|client
POST   /gateway/targets/ID/cut|bye|stall|resume
`

// Control adds the gateway to the emulator's control endpoint. Durations are written as in Go: "1.5s".
func (g *Gateway) Control(mux *http.ServeMux) {
	mux.HandleFunc("GET /gateway", func(w http.ResponseWriter, _ *http.Request) { show(w, g.overview()) })
	mux.HandleFunc("GET /gateway/settings", func(w http.ResponseWriter, _ *http.Request) { show(w, g.Settings()) })
	mux.HandleFunc("PUT /gateway/settings", func(w http.ResponseWriter, r *http.Request) {
		s := g.Settings()
		if read(w, r, &s) {
			g.Set(func(current *Settings) { *current = s })
		}
	})
	mux.HandleFunc("GET /gateway/faults", func(w http.ResponseWriter, _ *http.Request) { show(w, g.Faults()) })
	mux.HandleFunc("PUT /gateway/faults", func(w http.ResponseWriter, r *http.Request) {
		var f Faults
		if read(w, r, &f) {
			g.SetFaults(f)
		}
	})
	mux.HandleFunc("POST /gateway/restart", func(w http.ResponseWriter, r *http.Request) {
		down, err := time.ParseDuration(r.FormValue("down"))
		if err != nil && r.FormValue("down") != "" {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		g.Restart(down)
	})
	mux.HandleFunc("POST /gateway/expire", func(http.ResponseWriter, *http.Request) { g.ExpireTokens() })
	mux.HandleFunc("PUT /gateway/documents/{name}", func(w http.ResponseWriter, r *http.Request) {
		var raw json.RawMessage
		if err := json.NewDecoder(r.Body).Decode(&raw); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		} else if err := g.PutDocument(r.PathValue("name"), string(raw)); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc("POST /gateway/sessions/{id}/{what}", g.controlSession)
	mux.HandleFunc("POST /gateway/targets/{id}/{what}", g.controlTarget)
}

func (g *Gateway) overview() any {
	out := struct {
		Targets  map[string]TargetStats
		Sessions []SessionStats
	}{map[string]TargetStats{}, []SessionStats{}}
	for _, id := range g.Targets() {
		out.Targets[id] = g.Target(id)
	}
	for _, s := range g.Sessions("") {
		out.Sessions = append(out.Sessions, s.Stats())
	}
	return out
}

func (g *Gateway) controlSession(w http.ResponseWriter, r *http.Request) {
	s, end := g.Session(r.PathValue("id")), r.FormValue("end")
	if s == nil {
		http.Error(w, "no such session", http.StatusNotFound)
		return
	}
	if end != "agent" && end != "client" && r.PathValue("what") != "terminate" {
		http.Error(w, "end must be agent or client", http.StatusBadRequest)
		return
	}
	switch r.PathValue("what") {
	case "terminate":
		s.Terminate()
	case "cut":
		s.Cut(end)
	case "bye":
		s.Bye(end)
	case "stall", "resume":
		s.Stall(end, r.PathValue("what") == "stall")
	default:
		http.NotFound(w, r)
	}
}

func (g *Gateway) controlTarget(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !g.Connected(id) {
		http.Error(w, "no such target", http.StatusNotFound)
		return
	}
	switch r.PathValue("what") {
	case "cut":
		g.CutControl(id)
	case "bye":
		g.ByeControl(id)
	case "stall", "resume":
		g.StallControl(id, r.PathValue("what") == "stall")
	default:
		http.NotFound(w, r)
	}
}

func show(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	_ = out.Encode(readable(reflect.ValueOf(v)))
}

// readable is v with durations as text.
func readable(v reflect.Value) any {
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		return time.Duration(v.Int()).String()
	case v.Type() == reflect.TypeFor[time.Time]():
		return v.Interface()
	case v.Kind() == reflect.Struct:
		m := map[string]any{}
		for i := range v.NumField() {
			m[v.Type().Field(i).Name] = readable(v.Field(i))
		}
		return m
	case v.Kind() == reflect.Map:
		m := map[string]any{}
		for _, k := range v.MapKeys() {
			m[k.String()] = readable(v.MapIndex(k))
		}
		return m
	case v.Kind() == reflect.Slice:
		list := []any{}
		for i := range v.Len() {
			list = append(list, readable(v.Index(i)))
		}
		return list
	}
	return v.Interface()
}

// read fills the struct that into points to with what the body says, durations as text; false if it answered an error.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	var m map[string]any
	err := json.NewDecoder(r.Body).Decode(&m)
	if err == nil {
		err = fill(reflect.ValueOf(into).Elem(), m, "")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return err == nil
}

func fill(v reflect.Value, m map[string]any, path string) error {
	for name, value := range m {
		field := v.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, name) })
		if !field.IsValid() {
			return fmt.Errorf("there is no %s%s", path, name)
		}
		if inner, ok := value.(map[string]any); ok && field.Kind() == reflect.Struct {
			if err := fill(field, inner, path+name+"."); err != nil {
				return err
			}
			continue
		}
		if text, ok := value.(string); ok && field.Type() == reflect.TypeFor[time.Duration]() {
			d, err := time.ParseDuration(text)
			if err != nil {
				return fmt.Errorf("%s%s: %w", path, name, err)
			}
			field.SetInt(int64(d))
			continue
		}
		raw, _ := json.Marshal(value)
		if err := json.Unmarshal(raw, field.Addr().Interface()); err != nil {
			return fmt.Errorf("%s%s: %w", path, name, err)
		}
	}
	return nil
}
