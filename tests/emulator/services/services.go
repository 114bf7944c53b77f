// Package services is the rest of AWS that the tools around fumidai call, as far as they call it: CloudWatch Logs,
// Application Auto Scaling, STS, IAM, ECR and its registry, parameters and secrets, Redshift and Redshift Serverless.
package services

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/iam"
)

// Options say what exists.
type Options struct {
	Region, Account string
	Edge            *edge.Edge
	// Roles exist in IAM, by name: who may assume them ("ecs-tasks.amazonaws.com").
	Roles map[string]string
	// LogGroups exist before anything is written to them.
	LogGroups []string
	// Parameters and Secrets, by name.
	Parameters, Secrets map[string]string
	// Repositories are OCI layouts (directories), by repository name.
	Repositories map[string]string
	// Workgroups are Redshift Serverless workgroups, Clusters are provisioned Redshift clusters, by name.
	Workgroups, Clusters map[string]Endpoint
	// CredentialLifetime of database credentials and assumed roles that ask for none; default 15 min.
	CredentialLifetime time.Duration
}

// Endpoint is where a database is, and what its temporary users' passwords are there.
type Endpoint struct {
	Host     string
	Port     int
	Database string
	User     string // of serverless: who GetCredentials says one is; of a cluster: its master user
	Password string
}

// Services are the emulated services' state.
type Services struct {
	Options
	Logs *Logs
}

// New makes the services.
func New(o Options) *Services {
	if o.CredentialLifetime == 0 {
		o.CredentialLifetime = 15 * time.Minute
	}
	return &Services{Options: o, Logs: &Logs{groups: slices.Clone(o.LogGroups), streams: map[string]*stream{}}}
}

// Services are what the edge serves. SSM's are not among them: see ServeSSM.
func (s *Services) Services() []*edge.Service {
	return []*edge.Service{
		s.json("logs", "Logs_20140328.", nil, s.Logs.operations()),
		s.json("application-autoscaling", "AnyScaleFrontendService.", nil, map[string]jsonOperation{
			"DescribeScalableTargets":  empty("ScalableTargets"),
			"DescribeScalingPolicies":  empty("ScalingPolicies"),
			"DescribeScheduledActions": empty("ScheduledActions"),
		}),
		s.json("ecr", "AmazonEC2ContainerRegistry_V20150921.", []string{"api.ecr"}, map[string]jsonOperation{"GetAuthorizationToken": s.authorizationToken}),
		s.json("secretsmanager", "secretsmanager.", nil, map[string]jsonOperation{"GetSecretValue": s.secretValue, "DescribeSecret": s.describeSecret}),
		s.json("redshift-serverless", "RedshiftServerless.", nil, map[string]jsonOperation{
			"GetCredentials": s.serverlessCredentials, "GetWorkgroup": s.workgroup, "ListWorkgroups": s.workgroups,
		}),
		s.query("sts", "2011-06-15", map[string]queryOperation{"GetCallerIdentity": s.callerIdentity, "AssumeRole": s.assumeRole}),
		s.query("iam", "2010-05-08", map[string]queryOperation{"GetRole": s.role}),
		s.query("redshift", "2012-12-01", map[string]queryOperation{
			"DescribeClusters": s.describeClusters, "GetClusterCredentials": s.clusterCredentials, "GetClusterCredentialsWithIAM": s.clusterCredentialsWithIAM,
		}),
		s.registry(),
	}
}

// document is a JSON object, in or out.
type document map[string]any

func (d document) text(name string) string {
	text, _ := d[name].(string)
	return text
}

func (d document) number(name string) int {
	n, _ := d[name].(float64)
	return int(n)
}

type jsonOperation func(c *edge.Call, in document) (document, error)

func (s *Services) json(name, prefix string, hosts []string, operations map[string]jsonOperation) *edge.Service {
	made := &edge.Service{Name: name, Hosts: hosts, TargetPrefix: prefix, Serve: serveJSON(name, operations)}
	if name == "redshift-serverless" {
		made.Needs = s.workgroupNeeds
	}
	return made
}

// workgroupNeeds are the permissions that a call of Redshift Serverless takes.
func (s *Services) workgroupNeeds(c *edge.Call) []iam.Request {
	var in struct{ WorkgroupName string }
	_ = json.Unmarshal(c.Body, &in)
	resource := "*"
	if in.WorkgroupName != "" {
		resource = s.workgroupARN(in.WorkgroupName)
	}
	return []iam.Request{{Action: "redshift-serverless:" + c.Action, Resource: resource}}
}

func serveJSON(name string, operations map[string]jsonOperation) func(http.ResponseWriter, *edge.Call) error {
	return func(w http.ResponseWriter, c *edge.Call) error {
		operation := operations[c.Action]
		if operation == nil {
			return edge.NotEmulated(name + ":" + c.Action)
		}
		in := document{}
		if err := edge.DecodeJSON(c, &in); err != nil {
			return err
		}
		out, err := operation(c, in)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		return json.NewEncoder(w).Encode(out)
	}
}

// empty answers with an empty list: nothing of that kind exists.
func empty(list string) jsonOperation {
	return func(*edge.Call, document) (document, error) { return document{list: []any{}}, nil }
}

type queryOperation func(c *edge.Call, in url.Values) (element, error)

func (s *Services) query(name, version string, operations map[string]queryOperation) *edge.Service {
	return &edge.Service{Name: name, QueryVersion: version, AuthStatus: http.StatusForbidden, Serve: func(w http.ResponseWriter, c *edge.Call) error {
		operation := operations[c.Action]
		if operation == nil {
			return edge.NotEmulated(name + ":" + c.Action)
		}
		in, err := url.ParseQuery(string(c.Body))
		if err != nil {
			return &edge.Error{Code: "MalformedQueryString", Message: err.Error()}
		}
		result, err := operation(c, in)
		if err != nil {
			return err
		}
		result.name = c.Action + "Result"
		var b bytes.Buffer
		element{c.Action + "Response", []element{result, {"ResponseMetadata", []element{{"RequestId", c.RequestID}}}}}.write(&b)
		w.Header().Set("Content-Type", "text/xml")
		_, err = w.Write(b.Bytes())
		return err
	}}
}

// element is an XML element: its content is text or further elements.
type element struct {
	name    string
	content any
}

func (e element) write(b *bytes.Buffer) {
	fmt.Fprintf(b, "<%s>", e.name)
	switch content := e.content.(type) {
	case []element:
		for _, child := range content {
			child.write(b)
		}
	default:
		xml.EscapeText(b, fmt.Append(nil, content)) //nolint:errcheck // into memory
	}
	fmt.Fprintf(b, "</%s>", e.name)
}

func notFound(code, message string) error { return &edge.Error{Code: code, Message: message} }
