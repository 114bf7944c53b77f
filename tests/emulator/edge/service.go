package edge

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"time"

	"fumidai/tests/emulator/iam"
)

// Names of what is not an AWS API, for the fault switchboard: the endpoints in a task (the recorder has these, too), and TLS
// connections.
const (
	ServiceMetadata    = "metadata"
	ServiceCredentials = "credentials"
	ServiceTLS         = "tls"
)

// Service is one AWS API behind the edge. The edge finds it for a request by host name, target prefix, path or
// query version, checks the signature, lets the fault switchboard have its say, records the call.
type Service struct {
	// Name is the signing name; also the first label of the host unless Hosts says otherwise.
	Name string
	// Hosts are the first labels of the host names it answers to, if they differ from Name ("api.ecr" has two).
	Hosts []string
	// TargetPrefix of X-Amz-Target, up to and with the dot ("AmazonSSM."); empty for REST and Query APIs.
	TargetPrefix string
	// QueryVersion is the Version parameter of a Query API ("2011-06-15").
	QueryVersion string
	// PathPrefixes of a REST API, for clients that reach it through the one port of AWS_ENDPOINT_URL.
	PathPrefixes []string
	// Unsigned reports requests that carry no signature by design (a client's data channel); nil means none.
	Unsigned func(r *http.Request) bool
	// Action names the operation of a REST request, for faults and recorder. JSON and Query APIs need none.
	Action func(r *http.Request) string
	// Subject names what the call is about (a task or session id), for faults; nil means nothing.
	Subject func(r *http.Request) string
	// AuthStatus is the HTTP status of a refused signature; 0 means 400, as awsJson services answer.
	AuthStatus int
	// Needs are the permissions that a call takes; nil: its action on "*".
	Needs func(c *Call) []iam.Request
	// WriteError writes an error in the service's own shape; nil means awsJson1.1 (or XML, for a Query API).
	WriteError func(w http.ResponseWriter, c *Call, e *Error)
	// Serve does what was asked. An error returned (an *Error, or anything else as a 500) is written in the
	// service's shape; after nil the answer must have been written. A websocket is served inside Serve.
	Serve func(w http.ResponseWriter, c *Call) error
}

// Call is one request on its way through the edge.
type Call struct {
	*http.Request
	Service   *Service
	Action    string
	Region    string
	Body      []byte
	Principal Principal // zero if the request needs no signature
	RequestID string
	Now       time.Time // the service's clock, which a fault may have shifted
	Resource  string    // for Serve to set: the ARN acted upon, for the recorder

	edge  *Edge
	fault *Fault
	error string
}

// Edge is the edge the call came through.
func (c *Call) Edge() *Edge { return c.edge }

// Error is an error answer of an AWS service.
type Error struct {
	Status  int // 0 means 400
	Code    string
	Message string
	Body    string // what is sent instead of the two, if not empty
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Invalid is ECS's and SSM's answer to a parameter they do not like.
func Invalid(message string) *Error {
	return &Error{Code: "InvalidParameterException", Message: message}
}

// NotEmulated is what everything gets that the emulator does not do: 400, and the log says so.
func NotEmulated(what string) *Error {
	return &Error{Code: "UnknownOperationException", Message: "not emulated: " + what}
}

func writeJSONError(w http.ResponseWriter, e *Error) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-ErrorType", e.Code)
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(map[string]string{"__type": e.Code, "message": e.Message}) //nolint:errcheck // the client went away
}

func writeQueryError(w http.ResponseWriter, requestID string, e *Error) {
	kind := "Sender"
	if e.Status >= 500 {
		kind = "Receiver"
	}
	answer := struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		Error   struct {
			Type, Code, Message string
		}
		RequestID string `xml:"RequestId"`
	}{RequestID: requestID}
	answer.Error.Type, answer.Error.Code, answer.Error.Message = kind, e.Code, e.Message
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(e.Status)
	xml.NewEncoder(w).Encode(answer) //nolint:errcheck // the client went away
}
