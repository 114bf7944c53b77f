package services

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"fumidai/tests/emulator/edge"
)

func (s *Services) callerIdentity(c *edge.Call, _ url.Values) (element, error) {
	return element{content: []element{{"Arn", c.Principal.ARN}, {"UserId", "AIDA" + strings.Repeat("E", 17)}, {"Account", s.Account}}}, nil
}

// assumeRole lets anybody assume a role that trusts AWS accounts; one that trusts only a service is refused, which is
// what ecspresso verify meets with execution roles.
func (s *Services) assumeRole(c *edge.Call, in url.Values) (element, error) {
	arn := in.Get("RoleArn")
	c.Resource = arn
	trusted, known := s.Roles[lastPart(arn)]
	if !known || strings.HasSuffix(trusted, ".amazonaws.com") {
		return element{}, &edge.Error{Status: 403, Code: "AccessDenied",
			Message: fmt.Sprintf("User: %s is not authorized to perform: sts:AssumeRole on resource: %s", c.Principal.ARN, arn)}
	}
	life := s.CredentialLifetime
	if seconds, err := strconv.Atoi(in.Get("DurationSeconds")); err == nil {
		life = time.Duration(seconds) * time.Second
	}
	session := fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", s.Account, lastPart(arn), in.Get("RoleSessionName"))
	key := s.Edge.Keys.Temporary(edge.Principal{ARN: session, Role: arn}, s.Edge.Now().Add(life))
	return element{content: []element{
		{"Credentials", []element{
			{"AccessKeyId", key.AccessKeyID}, {"SecretAccessKey", key.SecretAccessKey}, {"SessionToken", key.Token},
			{"Expiration", key.Expiration.UTC().Format(time.RFC3339)},
		}},
		{"AssumedRoleUser", []element{{"Arn", session}, {"AssumedRoleId", "AROA" + strings.Repeat("E", 17) + ":" + in.Get("RoleSessionName")}}},
	}}, nil
}

func (s *Services) role(c *edge.Call, in url.Values) (element, error) {
	name := in.Get("RoleName")
	trusted, known := s.Roles[name]
	if !known {
		return element{}, &edge.Error{Status: 404, Code: "NoSuchEntity", Message: "The role with name " + name + " cannot be found."}
	}
	arn := fmt.Sprintf("arn:aws:iam::%s:role/%s", s.Account, name)
	c.Resource = arn
	kind := "AWS"
	if strings.HasSuffix(trusted, ".amazonaws.com") {
		kind = "Service"
	}
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"%s":"%s"},"Action":"sts:AssumeRole"}]}`, kind, trusted)
	return element{content: []element{{"Role", []element{
		{"Path", "/"}, {"RoleName", name}, {"RoleId", "AROA" + strings.Repeat("E", 17)}, {"Arn", arn},
		{"CreateDate", "2023-11-17T00:00:00Z"}, {"AssumeRolePolicyDocument", url.QueryEscape(policy)},
	}}}}, nil
}

// ServeSSM serves SSM's calls that are not about sessions: parameters.
func (s *Services) ServeSSM(w http.ResponseWriter, c *edge.Call) error {
	return serveJSON("ssm", map[string]jsonOperation{"GetParameter": s.parameter})(w, c)
}

func (s *Services) parameter(c *edge.Call, in document) (document, error) {
	name := in.text("Name")
	if strings.HasPrefix(name, "arn:") {
		name = name[strings.Index(name, ":parameter")+len(":parameter"):]
	}
	value, known := s.Parameters[name]
	if !known {
		return nil, notFound("ParameterNotFound", "")
	}
	c.Resource = fmt.Sprintf("arn:aws:ssm:%s:%s:parameter/%s", s.Region, s.Account, strings.TrimPrefix(name, "/"))
	return document{"Parameter": document{"Name": name, "Type": "SecureString", "Value": value, "Version": 1, "ARN": c.Resource, "DataType": "text"}}, nil
}

func (s *Services) secret(c *edge.Call, in document) (string, string, error) {
	id := in.text("SecretId")
	if strings.HasPrefix(id, "arn:") { // …:secret:name-XXXXXX, six characters of AWS's own
		id = strings.TrimPrefix(id[strings.Index(id, ":secret:"):], ":secret:")
		if cut := strings.LastIndexByte(id, '-'); len(id)-cut == 7 {
			id = id[:cut]
		}
	}
	value, known := s.Secrets[id]
	if !known {
		return "", "", notFound("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	}
	c.Resource = fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:%s-AbCdEf", s.Region, s.Account, id)
	return id, value, nil
}

func (s *Services) secretValue(c *edge.Call, in document) (document, error) {
	name, value, err := s.secret(c, in)
	if err != nil {
		return nil, err
	}
	return document{"ARN": c.Resource, "Name": name, "SecretString": value, "VersionId": randomID(), "VersionStages": []string{"AWSCURRENT"}}, nil
}

func (s *Services) describeSecret(c *edge.Call, in document) (document, error) {
	name, _, err := s.secret(c, in)
	if err != nil {
		return nil, err
	}
	return document{"ARN": c.Resource, "Name": name}, nil
}

func lastPart(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

func randomID() string {
	b := make([]byte, 16)
	rand.Read(b) //nolint:errcheck // never fails
	return hex.EncodeToString(b)
}
