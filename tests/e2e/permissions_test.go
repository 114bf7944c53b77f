package e2e

import (
	"context"
	"errors"
	"hash/fnv"
	"strings"
	"testing"
	"time"

	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/iam"
	"fumidai/tests/infra"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// The policies of infra/iam hold in all tests: for the tasks' role, and for the users who open sessions. A test's user is, by the
// test's name, an IAM user, somebody who came through the single sign-on, or a session of a role.

// people are the users: a name for each kind.
var people = map[string]string{
	"IAM user": "arn:aws:iam::123456789012:user/taro",
	"SSO user": "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Bastion_0123456789abcdef/taro.yamada@example.com",
	"role":     "arn:aws:sts::123456789012:assumed-role/deploy/GitHubActions",
}

// anyDocument lets users of tests start sessions with documents that the shipped policies do not name.
const anyDocument = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ssm:StartSession","Resource":"arn:aws:ssm:*:*:document/*"}]}`

// policy is a policy of infra/iam for a service of this world.
func (w *world) policy(name, service string) *iam.Document {
	w.Helper()
	d, err := infra.Policy(name, infra.Names{Region: w.Region, Account: w.Account, Cluster: cluster, Service: service})
	w.must(err)
	return d
}

// permitTask gives the tasks' role what it needs for a service.
func (w *world) permitTask(role, service string) {
	w.Helper()
	w.Edge.Keys.Permit(role, w.policy("task-role.json", service))
}

// user makes keys for a principal, who may do what these policies allow.
func (w *world) user(arn string, policies ...*iam.Document) aws.Credentials {
	w.Helper()
	p := edge.Principal{ARN: arn}
	w.Edge.Keys.Permit(arn, policies...)
	if strings.Contains(arn, ":user/") {
		key := w.Edge.Keys.Static("AKIA"+strings.ToUpper(arn[len(arn)-4:])+"0000000000TEST", "secret/of/"+strings.ReplaceAll(arn, ":", "+"), p)
		return aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey}
	}
	key := w.Edge.Keys.Temporary(p, time.Now().Add(time.Hour))
	return aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey, SessionToken: key.Token}
}

// who is the user of a test.
func (w *world) who() (arn string) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(w.Name()))
	return people[[]string{"IAM user", "SSO user", "role"}[h.Sum32()%3]]
}

// somebody are the keys of that user.
func (w *world) somebody() aws.Credentials {
	w.Helper()
	any, err := iam.Parse([]byte(anyDocument))
	w.must(err)
	return w.user(w.who(), w.policy("user.json", family), w.policy("user-fixed-relay.json", family), any)
}

// toolEnv is the environment of a tool that a site's user runs.
func (s *site) toolEnv() []string {
	c := s.api.Credentials
	env := append(s.ToolEnv(false), "AWS_ACCESS_KEY_ID="+c.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+c.SecretAccessKey)
	if c.SessionToken != "" {
		env = append(env, "AWS_SESSION_TOKEN="+c.SessionToken)
	}
	return env
}

func isDenied(err error) bool {
	var e *client.APIError
	return errors.As(err, &e) && e.Code == "AccessDeniedException"
}

// Each kind of user can do with user.json what they need, with their own sessions only, and nothing else.
func TestPermissionsOfUsers(t *testing.T) {
	for kind, arn := range people {
		for _, policy := range []string{"user.json", "user-fixed-relay.json"} {
			t.Run(kind+", "+policy, func(t *testing.T) {
				s := isolated(t, nil)
				s.Gateway.Set(func(g *gateway.Settings) { g.RefuseUnsigned = true })
				another := *s.api
				s.api.Credentials = s.user(arn+"-2", s.policy(policy, family))
				target := s.remote
				if policy == "user-fixed-relay.json" {
					target = endpoint{"", s.fixed}
				}
				d := s.openAt(target)
				s.converse(d)
				for _, lose := range []func(){func() { d.session.Bye("client") }, func() { d.session.Cut("client") }} {
					lose()
					s.converse(d) // with ResumeSession, and a websocket that is signed
				}
				documents := map[string]map[string][]string{
					"AWS-StartPortForwardingSession": {"portNumber": {s.fixed}}, toRemoteHost: remoteHost(s.remote.host, s.remote.port),
					"SSM-SessionManagerRunShell": nil, "AWS-StartSSHSession": nil, "AWS-StartInteractiveCommand": nil,
				}
				allowed := map[string]string{"user.json": toRemoteHost, "user-fixed-relay.json": "AWS-StartPortForwardingSession"}[policy]
				for document, parameters := range documents {
					if _, err := s.api.Start(s.Context(), s.target, document, parameters); isDenied(err) == (document == allowed) {
						t.Errorf("%s: %v", document, err)
					}
				}
				if _, err := s.api.Start(s.Context(), "ecs:another_"+strings.Repeat("0", 32)+"_0", allowed, documents[allowed]); !isDenied(err) {
					t.Errorf("a task of another cluster: %v", err)
				}
				var out map[string]any
				err := s.api.Call(s.Context(), "StartSession", map[string]any{"Target": s.target}, &out)
				if !isDenied(err) {
					t.Errorf("no document: %v", err)
				}
				o, err := another.Start(s.Context(), s.target, toRemoteHost, documents[toRemoteHost])
				s.must(err)
				if _, err := s.api.Resume(s.Context(), o.SessionID); !isDenied(err) {
					t.Errorf("another's session was resumed: %v", err)
				}
				if err := s.api.Terminate(s.Context(), o.SessionID); !isDenied(err) {
					t.Errorf("another's session was ended: %v", err)
				}
				s.must(s.api.Terminate(s.Context(), d.session.ID))
				s.eventually("its end", 5*time.Second, func() bool { return d.session.Task() != nil })
			})
		}
	}
}

// Users start the bastion, find its task and see its runtime id; they stop nothing and deploy nothing.
func TestPermissionsOfUsersAtECS(t *testing.T) {
	for kind, arn := range people {
		t.Run(kind, func(t *testing.T) {
			s := isolated(t, nil)
			c := s.user(arn+"-2", s.policy("user.json", family))
			as := func(o *sdk.Options) {
				o.Credentials = aws.CredentialsProviderFunc(func(_ context.Context) (aws.Credentials, error) { return c, nil })
			}
			_, err := s.sdk.DescribeServices(ctx, &sdk.DescribeServicesInput{Services: []string{family}}, as)
			s.must(err)
			_, err = s.sdk.UpdateService(ctx, &sdk.UpdateServiceInput{Service: aws.String(family), DesiredCount: aws.Int32(1)}, as)
			s.must(err)
			list, err := s.sdk.ListTasks(ctx, &sdk.ListTasksInput{ServiceName: aws.String(family)}, as)
			s.must(err)
			_, err = s.sdk.DescribeTasks(ctx, &sdk.DescribeTasksInput{Tasks: list.TaskArns}, as)
			s.must(err)
			for what, call := range map[string]func() error{
				"StopTask": func() error {
					_, err := s.sdk.StopTask(ctx, &sdk.StopTaskInput{Task: &list.TaskArns[0]}, as)
					return err
				},
				"another service": func() error {
					_, err := s.sdk.UpdateService(ctx, &sdk.UpdateServiceInput{Service: aws.String("another")}, as)
					return err
				},
				"another cluster": func() error {
					_, err := s.sdk.ListTasks(ctx, &sdk.ListTasksInput{Cluster: aws.String("another")}, as)
					return err
				},
				"RegisterTaskDefinition": func() error {
					_, err := s.sdk.RegisterTaskDefinition(ctx, &sdk.RegisterTaskDefinitionInput{Family: aws.String("x"), ContainerDefinitions: []types.ContainerDefinition{}}, as)
					return err
				},
			} {
				if err := call(); err == nil || !strings.Contains(err.Error(), "AccessDeniedException") {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}
