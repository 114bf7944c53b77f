package ecs

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/iam"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// This file is what a task finds at 169.254.170.2: metadata (version 3's and 4's paths, both with 4's answers), the
// role's credentials, and the agent's task protection.

// serveLocal serves the task's own endpoints until the task ends.
func (t *Task) serveLocal() {
	mux := http.NewServeMux()
	for _, version := range []string{"v3", "v4"} {
		mux.HandleFunc("GET /"+version+"/{id}", t.local(edge.ServiceMetadata, "Container", t.serveContainer))
		mux.HandleFunc("GET /"+version+"/{id}/task", t.local(edge.ServiceMetadata, "Task", t.serveTask))
		mux.HandleFunc("GET /"+version+"/{id}/stats", t.local(edge.ServiceMetadata, "Stats", serveEmpty))
		mux.HandleFunc("GET /"+version+"/{id}/task/stats", t.local(edge.ServiceMetadata, "TaskStats", serveEmpty))
	}
	mux.HandleFunc("GET /v2/credentials/{id}", t.local(edge.ServiceCredentials, "GetCredentials", t.serveCredentials))
	mux.HandleFunc("GET /api/{id}/task-protection/v1/state", t.local("agent", "GetTaskProtection", t.serveProtection))
	mux.HandleFunc("PUT /api/{id}/task-protection/v1/state", t.local("agent", "UpdateTaskProtection", t.serveProtection))
	t.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go t.server.Serve(t.sandbox.Local()) //nolint:errcheck // ends with Close
}

// local lets the fault switchboard and the recorder see a request of a task's own endpoints. A fault's Within counts
// from the start of the task's first container.
func (t *Task) local(service, action string, handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t.ecs.mu.Lock()
		age := time.Duration(0)
		if !t.born.IsZero() {
			age = time.Since(t.born)
		}
		t.ecs.mu.Unlock()
		t.ecs.Edge.ServeLocal(w, r, service, action, *t.state.TaskArn, t.id, age, handler)
	}
}

func serveEmpty(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]any{}) }

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the client went away
}

func (t *Task) serveContainer(w http.ResponseWriter, r *http.Request) {
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	for i, c := range t.state.Containers {
		if *c.RuntimeId == r.PathValue("id") {
			answer(w, t.containerMetadata(i))
			return
		}
	}
	http.Error(w, "V4 container metadata handler: unable to get container ID from request", http.StatusBadRequest)
}

func (t *Task) serveTask(w http.ResponseWriter, _ *http.Request) {
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	containers := []any{}
	for i := range t.state.Containers {
		containers = append(containers, t.containerMetadata(i))
	}
	document := map[string]any{
		"Cluster": t.state.ClusterArn, "TaskARN": t.state.TaskArn, "Family": t.definition.Family,
		"Revision": strconv.Itoa(int(t.definition.Revision)), "DesiredStatus": t.state.DesiredStatus, "KnownStatus": t.state.LastStatus,
		"Limits":        map[string]any{"CPU": units(t.definition.Cpu, 1024), "Memory": units(t.definition.Memory, 1)},
		"PullStartedAt": t.state.PullStartedAt, "PullStoppedAt": t.state.PullStoppedAt, "AvailabilityZone": t.state.AvailabilityZone,
		"LaunchType": t.state.LaunchType, "Containers": containers, "FaultInjectionEnabled": false,
		"ClockDrift":              map[string]any{"ClockErrorBound": 0.5, "ReferenceTimestamp": time.Now().UTC().Truncate(time.Second), "ClockSynchronizationStatus": "SYNCHRONIZED"},
		"EphemeralStorageMetrics": map[string]any{"Utilized": 0, "Reserved": 20496},
	}
	if !t.onFargate() {
		document["Cluster"] = last(*t.state.ClusterArn) // a name, where Fargate tells an ARN
		for _, name := range []string{"ClockDrift", "EphemeralStorageMetrics", "FaultInjectionEnabled", "Limits"} {
			delete(document, name)
		}
		if t.state.AvailabilityZone == nil {
			delete(document, "AvailabilityZone")
		}
	}
	if name, ok := strings.CutPrefix(*t.state.Group, "service:"); ok && !t.ecs.NoServiceName {
		document["ServiceName"] = name
	}
	answer(w, document)
}

func units(text *string, per float64) float64 {
	n, _ := strconv.ParseFloat(value(text), 64)
	return n / per
}

func (t *Task) containerMetadata(i int) map[string]any {
	c, d, n := t.state.Containers[i], t.definition.ContainerDefinitions[i], t.sandbox.Network()
	revision := strconv.Itoa(int(t.definition.Revision))
	document := map[string]any{
		"DockerId": c.RuntimeId, "Name": c.Name, "DockerName": c.Name, "Image": c.Image, "ImageID": "sha256:" + strings.Repeat("0", 64),
		"Labels": map[string]any{
			"com.amazonaws.ecs.cluster": t.state.ClusterArn, "com.amazonaws.ecs.container-name": c.Name, "com.amazonaws.ecs.task-arn": t.state.TaskArn,
			"com.amazonaws.ecs.task-definition-family": t.definition.Family, "com.amazonaws.ecs.task-definition-version": revision,
		},
		"DesiredStatus": t.state.DesiredStatus, "KnownStatus": c.LastStatus, "Limits": map[string]any{"CPU": d.Cpu},
		"CreatedAt": t.state.PullStoppedAt, "StartedAt": t.state.PullStoppedAt, "Type": "NORMAL", "ContainerARN": c.ContainerArn, "Snapshotter": "overlayfs",
		"Networks": []any{map[string]any{
			"NetworkMode": "awsvpc", "IPv4Addresses": []any{n.Address}, "AttachmentIndex": 0, "MACAddress": n.MAC,
			"IPv4SubnetCIDRBlock": n.Subnet, "DomainNameServers": []any{n.DNS}, "DomainNameSearchList": []string{t.ecs.Region + ".compute.internal"},
			"PrivateDNSName": n.Hostname, "SubnetGatewayIpv4Address": n.Subnet.Addr().Next().String() + "/" + strconv.Itoa(n.Subnet.Bits()),
		}},
	}
	switch mode := t.definition.NetworkMode; mode {
	case types.NetworkModeBridge: // behind the instance's own address; no subnet
		document["Networks"] = []any{map[string]any{"NetworkMode": mode, "IPv4Addresses": []any{"172.17.0.2"}}}
	case types.NetworkModeHost:
		document["Networks"] = []any{map[string]any{"NetworkMode": mode, "IPv4Addresses": []any{""}}}
	}
	if time.Since(t.born) < t.ecs.Timing.Networks {
		delete(document, "Networks")
	}
	if log := d.LogConfiguration; log != nil {
		document["LogDriver"] = log.LogDriver
		if log.LogDriver == types.LogDriverAwslogs {
			document["LogOptions"] = map[string]any{
				"awslogs-group": log.Options["awslogs-group"], "awslogs-region": log.Options["awslogs-region"],
				"awslogs-stream": log.Options["awslogs-stream-prefix"] + "/" + *c.Name + "/" + t.id,
			}
		}
	}
	return document
}

// serveCredentials serves the task role's credentials: the same ones until a third of their life is left.
func (t *Task) serveCredentials(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, code, message string) {
		w.WriteHeader(status)
		answer(w, map[string]any{"code": code, "message": message, "HTTPErrorCode": status})
	}
	if r.PathValue("id") != t.credentials || t.definition.TaskRoleArn == nil {
		refuse(http.StatusBadRequest, "InvalidIdInRequest", "CredentialsV2Request: Credentials not found")
		return
	}
	if !t.sandbox.LinkLocal() && r.Header.Get("Authorization") != t.credentials {
		refuse(http.StatusUnauthorized, "NoAuthorization", "the Authorization header must hold AWS_CONTAINER_AUTHORIZATION_TOKEN")
		return
	}
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	life, now := t.ecs.Timing.CredentialLifetime, t.ecs.Edge.Now()
	if t.key.Expiration.Before(now.Add(life / 3)) {
		t.key = t.ecs.Edge.Keys.Temporary(edge.Principal{ARN: t.roleSession(), Role: *t.definition.TaskRoleArn, Task: *t.state.TaskArn}, now.Add(life))
	}
	answer(w, map[string]any{
		"RoleArn": t.definition.TaskRoleArn, "AccessKeyId": t.key.AccessKeyID, "SecretAccessKey": t.key.SecretAccessKey,
		"Token": t.key.Token, "Expiration": t.key.Expiration.UTC().Truncate(time.Second),
	})
}

// RotateCredentials gives the task other keys of its role the next time it asks, long before those it has expire.
func (t *Task) RotateCredentials() {
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	t.key.Expiration = time.Time{}
}

// roleSession is the session of its role that the task is.
func (t *Task) roleSession() string {
	return "arn:aws:sts::" + t.ecs.Account + ":assumed-role/" + last(value(t.definition.TaskRoleArn)) + "/" + t.id
}

// serveProtection is the agent's way to GetTaskProtection and UpdateTaskProtection.
func (t *Task) serveProtection(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ProtectionEnabled *bool
		ExpiresInMinutes  int32
	}
	if r.Method == http.MethodPut {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.ProtectionEnabled == nil {
			w.WriteHeader(http.StatusBadRequest)
			answer(w, map[string]any{"error": map[string]any{"Arn": t.state.TaskArn, "Code": "InvalidParameterException", "Message": "Invalid request: does not contain 'ProtectionEnabled' field"}})
			return
		}
	}
	action := map[string]string{http.MethodGet: "Get", http.MethodPut: "Update"}[r.Method] + "TaskProtection"
	principal := edge.Principal{ARN: t.roleSession(), Role: value(t.definition.TaskRoleArn)}
	if err := t.ecs.Edge.Keys.Decide(principal, iam.Request{Action: "ecs:" + action, Resource: *t.state.TaskArn, Context: t.ecs.context(*t.state.TaskArn, last(*t.state.ClusterArn))}); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		answer(w, map[string]any{"error": map[string]any{"Arn": t.state.TaskArn, "Code": "AccessDeniedException", "Message": err.Error()}})
		return
	}
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	if in.ProtectionEnabled != nil {
		t.protect(*in.ProtectionEnabled, in.ExpiresInMinutes)
	}
	p := t.protection()
	answer(w, map[string]any{"protection": map[string]any{"TaskArn": p.TaskArn, "ProtectionEnabled": p.ProtectionEnabled, "ExpirationDate": p.ExpirationDate}})
}
