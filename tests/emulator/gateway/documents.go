package gateway

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"fumidai/tests/emulator/edge"
)

// Document is a session document: its content as the agent gets it.
type Document struct {
	SchemaVersion string               `json:"schemaVersion"`
	Description   string               `json:"description,omitempty"`
	SessionType   string               `json:"sessionType"`
	Inputs        json.RawMessage      `json:"inputs,omitempty"`
	Parameters    map[string]Parameter `json:"parameters,omitempty"`
	Properties    json.RawMessage      `json:"properties,omitempty"`
}

// Parameter of a document.
type Parameter struct {
	Type           string   `json:"type"`
	Description    string   `json:"description,omitempty"`
	Default        *string  `json:"default,omitempty"`
	AllowedPattern string   `json:"allowedPattern,omitempty"`
	AllowedValues  []string `json:"allowedValues,omitempty"`
}

const portPattern = `^([1-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$`
const localPortPattern = `^([0-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$`

func builtinDocuments() map[string]Document {
	text := func(s string) *string { return &s }
	port := Parameter{Type: "String", Description: "port of the target", Default: text("80"), AllowedPattern: portPattern}
	local := Parameter{Type: "String", Description: "port of the client", Default: text("0"), AllowedPattern: localPortPattern}
	host := Parameter{Type: "String", Description: "host to connect to", Default: text("localhost"), AllowedPattern: `^[^,$^&\(\)!;'"<>\x60{}\[\]|#=]{3,}$`}
	ssh := Parameter{Type: "String", Description: "port of the SSH server", Default: text("22"), AllowedPattern: portPattern}
	inputs := json.RawMessage(`{"s3BucketName":"","s3KeyPrefix":"","s3EncryptionEnabled":false,"cloudWatchLogGroupName":"",` +
		`"cloudWatchEncryptionEnabled":false,"kmsKeyId":"","runAsEnabled":false,"runAsDefaultUser":""}`)
	return map[string]Document{
		"AWS-StartPortForwardingSession": {SchemaVersion: "1.0", SessionType: "Port",
			Description: "forward a port of the target", Inputs: inputs,
			Parameters: map[string]Parameter{"portNumber": port, "localPortNumber": local},
			Properties: json.RawMessage(`{"portNumber":"{{ portNumber }}","type":"LocalPortForwarding","localPortNumber":"{{ localPortNumber }}"}`)},
		"AWS-StartPortForwardingSessionToRemoteHost": {SchemaVersion: "1.0", SessionType: "Port",
			Description: "forward a port of a host that the target reaches", Inputs: inputs,
			Parameters: map[string]Parameter{"portNumber": port, "localPortNumber": local, "host": host},
			Properties: json.RawMessage(`{"portNumber":"{{ portNumber }}","host":"{{ host }}","type":"LocalPortForwarding","localPortNumber":"{{ localPortNumber }}"}`)},
		"AWS-StartSSHSession": {SchemaVersion: "1.0", SessionType: "Port",
			Description: "SSH through the target", Inputs: inputs,
			Parameters: map[string]Parameter{"portNumber": ssh},
			Properties: json.RawMessage(`{"portNumber":"{{ portNumber }}"}`)},
		"SSM-SessionManagerRunShell": {SchemaVersion: "1.0", SessionType: "Standard_Stream",
			Description: "a shell", Inputs: inputs},
		"AWS-StartInteractiveCommand": {SchemaVersion: "1.0", SessionType: "InteractiveCommands", Description: "a command",
			Parameters: map[string]Parameter{"command": {Type: "String", Default: text("")}},
			Properties: json.RawMessage(`{"linux":{"commands":"{{ command }}","runAsElevated":false}}`)},
		"AWS-StartNonInteractiveCommand": {SchemaVersion: "1.0", SessionType: "NonInteractiveCommands", Description: "a command",
			Parameters: map[string]Parameter{"command": {Type: "String", Default: text("")}},
			Properties: json.RawMessage(`{"linux":{"commands":"{{ command }}","runAsElevated":false}}`)},
	}
}

// PutDocument adds or replaces a document: an account's own, or a broken one for the agent to refuse. Content must be a
// JSON document; nothing else is checked.
func (g *Gateway) PutDocument(name, content string) error {
	var d Document
	if err := json.Unmarshal([]byte(content), &d); err != nil {
		return fmt.Errorf("document %s: %w", name, err)
	}
	g.mu.Lock()
	g.documents[name] = d
	g.mu.Unlock()
	return nil
}

// checkParameters is the service's validation of what StartSession was given.
func (d *Document) checkParameters(given map[string][]string) error {
	var unknown, missing []string
	for name, values := range given {
		p, ok := d.Parameters[name]
		if !ok {
			unknown = append(unknown, name)
			continue
		}
		if err := p.check(name, values); err != nil {
			return err
		}
	}
	for name, p := range d.Parameters {
		if _, ok := given[name]; !ok && p.Default == nil {
			missing = append(missing, name)
		}
	}
	if len(unknown) > 0 {
		return &edge.Error{Code: "ValidationException", Message: "Parameters are not in the document: " + strings.Join(unknown, ", ")}
	}
	if len(missing) > 0 {
		return &edge.Error{Code: "ValidationException", Message: "Parameters without a value: " + strings.Join(missing, ", ")}
	}
	return nil
}

func (p Parameter) check(name string, values []string) error {
	if len(values) != 1 {
		return &edge.Error{Code: "ValidationException", Message: fmt.Sprintf("Parameter %s takes one value, got %d", name, len(values))}
	}
	if p.AllowedPattern != "" && !regexp.MustCompile(p.AllowedPattern).MatchString(values[0]) {
		return &edge.Error{Code: "ValidationException", Message: fmt.Sprintf("Parameter %s: %q does not match %s", name, values[0], p.AllowedPattern)}
	}
	for _, v := range p.AllowedValues {
		if v == values[0] {
			return nil
		}
	}
	if len(p.AllowedValues) > 0 {
		return &edge.Error{Code: "ValidationException", Message: fmt.Sprintf("Parameter %s: %q is not one of %s", name, values[0],
			strings.Join(p.AllowedValues, ", "))}
	}
	return nil
}
