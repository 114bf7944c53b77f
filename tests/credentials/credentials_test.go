// How a client comes to its keys and its region, beside AWS's SDK for Go on the same environment and files: the same choice, the same
// questions to the same services, the same keys at the end.

package credentials

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

// result is what one of the two has come to; the C program prints it, and so does this program when it plays the SDK.
type result struct {
	OK       bool
	Key      string
	Region   string
	Endpoint string // of ECS; empty: the settings contradict each other
	Error    string
}

const playSDK = "FUMIDAI_TEST_PLAYS_THE_SDK"

// The SDK looks at the home directory when a program starts, so it is a program of its own, too.
func TestMain(m *testing.M) {
	if os.Getenv(playSDK) != "" {
		json.NewEncoder(os.Stdout).Encode(askSDK(os.Args[1:]))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func askSDK(profile []string) (r result) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	options := []func(*config.LoadOptions) error{config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} })}
	if len(profile) > 0 {
		options = append(options, config.WithSharedConfigProfile(profile[0]))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err == nil {
		r.Region = loaded.Region
		r.Endpoint = endpointOfECS(ctx, loaded)
		var keys aws.Credentials
		keys, err = loaded.Credentials.Retrieve(ctx)
		r.Key = keys.AccessKeyID
	}
	if r.OK = err == nil; !r.OK {
		r.Key, r.Error = "", err.Error()
	}
	return r
}

func endpointOfECS(ctx context.Context, loaded aws.Config) string {
	options := ecs.NewFromConfig(loaded).Options()
	endpoint, err := options.EndpointResolverV2.ResolveEndpoint(ctx, ecs.EndpointParameters{
		Region:       aws.String(options.Region),
		Endpoint:     options.BaseEndpoint,
		UseFIPS:      aws.Bool(options.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
		UseDualStack: aws.Bool(options.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
	})
	if err != nil || options.Region == "" {
		return ""
	}
	return strings.TrimRight(endpoint.URI.String(), "/")
}

// place is a home directory and the environment that goes with it.
type place struct {
	home string
	env  []string
}

// prepare writes the files. $URL and $HOME stand for the server's address and the home directory, in files and variables.
func (c configuration) prepare(t *testing.T, s *server) place {
	home := t.TempDir()
	fill := strings.NewReplacer("$URL", s.URL, "$HOME", home).Replace
	files := map[string]string{".aws/config": c.config, ".aws/credentials": c.credentials}
	for name, text := range c.files {
		files[name] = text
	}
	for name, text := range files {
		path := filepath.Join(home, name)
		if text == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(fill(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
	defaults := "AWS_REGION=eu-west-1 AWS_EC2_METADATA_SERVICE_ENDPOINT=$URL AWS_ENDPOINT_URL_STS=$URL/sts AWS_ENDPOINT_URL_SSO=$URL/sso " +
		"AWS_ENDPOINT_URL_SSO_OIDC=$URL/oidc AWS_ENDPOINT_URL_SIGNIN=$URL/signin"
	given := strings.Fields(c.env)
	for _, variable := range append(strings.Fields(defaults), given...) {
		name, value, _ := strings.Cut(variable, "=")
		env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if value != "" {
			env = append(env, fill(variable))
		}
	}
	return place{home, env}
}

func run(t *testing.T, program string, p place, profile string, extra ...string) (r result) {
	t.Helper()
	command := exec.Command(program)
	if profile != "" {
		command.Args = append(command.Args, profile)
	}
	command.Env = append(slices.Clone(p.env), extra...)
	command.Dir = p.home
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", filepath.Base(program), err, out, stderr.Bytes())
	}
	return r
}

// fetch is built by make from fetch/fetch.c.
func fetchProgram(t *testing.T) string {
	path := cmp.Or(os.Getenv("FUMIDAI_FETCH"), "../../build/unit/tests/credentials/fetch")
	absolute, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(absolute)
	}
	if errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%s is not there: `make credentials` builds it", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return absolute
}

func TestCredentialsAsTheSDK(t *testing.T) {
	program := fetchProgram(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if len(configurations) < 60 {
		t.Errorf("%d configurations, 60 are wanted", len(configurations))
	}
	succeeded := 0
	for _, c := range configurations {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			sdk := run(t, self, c.prepare(t, s), c.profile, playSDK+"=yes")
			askedBySDK := s.take()
			ours := run(t, program, c.prepare(t, s), c.profile)
			asked := s.take()
			if sdk.OK != ours.OK || sdk.Key != ours.Key {
				t.Errorf("the SDK has key %q (%s), we have %q (%s)", sdk.Key, sdk.Error, ours.Key, ours.Error)
			}
			if sdk.OK && sdk.Region != ours.Region {
				t.Errorf("the SDK has region %q, we have %q", sdk.Region, ours.Region)
			}
			if sdk.OK && sdk.Endpoint != ours.Endpoint {
				t.Errorf("the SDK has endpoint %q, we have %q", sdk.Endpoint, ours.Endpoint)
			}
			if sdk.OK && !slices.Equal(askedBySDK, asked) {
				t.Errorf("the SDK asked for\n%s\nwe asked for\n%s", strings.Join(askedBySDK, "\n"), strings.Join(asked, "\n"))
			}
			if sdk.OK != c.ok {
				t.Errorf("the SDK: ok is %v, the table says %v: %s", sdk.OK, c.ok, sdk.Error)
			}
			if !ours.OK && ours.Error == "" {
				t.Error("there is no reason")
			}
			if sdk.OK {
				succeeded++
			}
		})
	}
	t.Logf("%d configurations, %d of them with keys", len(configurations), succeeded)
}

// What fumidai does and the SDK for Go does not, on purpose.
func TestCredentialsBeyondTheSDK(t *testing.T) {
	program := fetchProgram(t)
	for _, c := range beyond {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			ours := run(t, program, c.prepare(t, s), c.profile)
			if ours.OK != c.ok || ours.Key != c.key {
				t.Errorf("key %q, %q is wanted (%s)", ours.Key, c.key, ours.Error)
			}
			if asked := strings.Join(s.take(), "\n"); asked != c.asked {
				t.Errorf("asked for\n%s\n%s is wanted", asked, c.asked)
			}
		})
	}
}

// Each of these says what to do.
func TestCredentialsErrors(t *testing.T) {
	program := fetchProgram(t)
	for name, c := range map[string]struct {
		configuration
		words string
	}{
		"no such profile":      {configuration{profile: "nowhere"}, "there is no profile nowhere"},
		"nobody has logged in": {configuration{config: ssoConfig}, "`aws sso login` writes"},
		"login has expired":    {configuration{config: "[default]\nlogin_session = arn:me\n", files: map[string]string{loginFile: loginCacheWith("2020-01-01T00:00:00Z", "spent")}}, "log in again with `aws login`"},
		"denied":               {configuration{config: "[default]\nrole_arn = denied\n" + keys("A")}, "your credentials lack sts:AssumeRole"},
		"nothing":              {configuration{env: "AWS_EC2_METADATA_DISABLED=true"}, "AWS_EC2_METADATA_DISABLED is true"},
	} {
		t.Run(name, func(t *testing.T) {
			ours := run(t, program, c.prepare(t, newServer(t)), c.profile)
			if ours.OK || !strings.Contains(ours.Error, c.words) {
				t.Errorf("%q does not say %q", ours.Error, c.words)
			}
		})
	}
}

func keys(id string) string {
	return fmt.Sprintf("aws_access_key_id = %s\naws_secret_access_key = secret\n", id)
}
