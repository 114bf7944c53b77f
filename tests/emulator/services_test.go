package emulator_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/services"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// ask makes one signed call under a service's real host name, through the intercepting proxy.
func (f *fixture) ask(service, host, target, body string) (int, string) {
	f.Helper()
	req, err := http.NewRequest(http.MethodPost, "https://"+host+"/", strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if target != "" {
		req.Header.Set("Content-Type", "application/x-amz-json-1.1")
		req.Header.Set("X-Amz-Target", target)
	}
	sum := sha256.Sum256([]byte(body))
	creds := aws.Credentials{AccessKeyID: emulator.AccessKeyID, SecretAccessKey: emulator.SecretAccessKey}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, req, hex.EncodeToString(sum[:]), service, "ap-northeast-1", time.Now()); err != nil {
		f.Fatal(err)
	}
	return f.do(req)
}

func (f *fixture) do(req *http.Request) (int, string) {
	f.Helper()
	proxy, _ := url.Parse(f.ProxyURL())
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: f.Edge.CA.Pool()}}}
	res, err := client.Do(req)
	if err != nil {
		f.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		f.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

func TestOtherServices(t *testing.T) {
	t.Parallel()
	f := start(t, false, func(o *emulator.Options) {
		o.Services = services.Options{
			Roles:      map[string]string{"execution": "ecs-tasks.amazonaws.com", "person": "arn:aws:iam::123456789012:root"},
			Parameters: map[string]string{"/gate/x": "a<b"},
			Secrets:    map[string]string{"gate": "s3cret"},
			Workgroups: map[string]services.Endpoint{"default": {Host: "wg.internal", Port: 5439, User: "IAMR:ci", Password: "pw"}},
			Clusters:   map[string]services.Endpoint{"dwh": {Host: "dwh.internal", Port: 5439, User: "awsuser", Database: "dev", Password: "pw&"}},
		}
	})
	for _, test := range []struct {
		service, target, body string
		status                int
		words                 []string
	}{
		{"application-autoscaling", "AnyScaleFrontendService.DescribeScalableTargets", "{}", 200, []string{`"ScalableTargets":[]`}},
		{"sts", "", "Action=GetCallerIdentity&Version=2011-06-15", 200, []string{"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/operator</Arn>"}},
		{"sts", "", "Action=AssumeRole&Version=2011-06-15&RoleSessionName=x&RoleArn=arn:aws:iam::123456789012:role/person", 200, []string{"<SessionToken>", "assumed-role/person/x"}},
		{"sts", "", "Action=AssumeRole&Version=2011-06-15&RoleSessionName=x&RoleArn=arn:aws:iam::123456789012:role/execution", 403, []string{"<Code>AccessDenied</Code>"}},
		{"iam", "", "Action=GetRole&Version=2010-05-08&RoleName=execution", 200, []string{"Service%22%3A%22ecs-tasks.amazonaws.com"}},
		{"iam", "", "Action=GetRole&Version=2010-05-08&RoleName=nobody", 404, []string{"NoSuchEntity"}},
		{"ssm", "AmazonSSM.GetParameter", `{"Name":"/gate/x","WithDecryption":true}`, 200, []string{`"Value":"a\u003cb"`}},
		{"ssm", "AmazonSSM.GetParameter", `{"Name":"/gate/y"}`, 400, []string{"ParameterNotFound"}},
		{"secretsmanager", "secretsmanager.GetSecretValue", `{"SecretId":"arn:aws:secretsmanager:ap-northeast-1:123456789012:secret:gate-AbCdEf"}`, 200, []string{`"SecretString":"s3cret"`}},
		{"redshift-serverless", "RedshiftServerless.GetCredentials", `{"workgroupName":"default"}`, 200, []string{`"dbUser":"IAMR:ci"`}},
		{"redshift-serverless", "RedshiftServerless.ListWorkgroups", `{}`, 200, []string{`"address":"wg.internal"`}},
		{"redshift", "", "Action=DescribeClusters&Version=2012-12-01", 200, []string{"<ClusterIdentifier>dwh</ClusterIdentifier>", "<Address>dwh.internal</Address>"}},
		{"redshift", "", "Action=GetClusterCredentials&Version=2012-12-01&ClusterIdentifier=dwh&DbUser=awsuser", 200, []string{"<DbUser>IAM:awsuser</DbUser><DbPassword>pw&amp;</DbPassword>"}},
		{"redshift", "", "Action=GetClusterCredentialsWithIAM&Version=2012-12-01&ClusterIdentifier=nothing", 404, []string{"ClusterNotFound"}},
		{"redshift", "", "Action=CreateCluster&Version=2012-12-01", 400, []string{"not emulated"}},
		{"logs", "Logs_20140328.CreateLogStream", `{"logGroupName":"g","logStreamName":"s"}`, 400, []string{"ResourceNotFoundException"}},
		{"logs", "Logs_20140328.CreateLogGroup", `{"logGroupName":"g"}`, 200, nil},
		{"logs", "Logs_20140328.CreateLogStream", `{"logGroupName":"g","logStreamName":"s"}`, 200, nil},
		{"logs", "Logs_20140328.PutLogEvents", `{"logGroupName":"g","logStreamName":"s","logEvents":[{"timestamp":1700000000000,"message":"one"},{"timestamp":1700000000001,"message":"two"}]}`, 200, nil},
		{"logs", "Logs_20140328.GetLogEvents", `{"logGroupName":"g","logStreamName":"s","limit":1,"startFromHead":true}`, 200, []string{`"message":"one"`, `"nextForwardToken":"f/1"`}},
		{"logs", "Logs_20140328.GetLogEvents", `{"logGroupName":"g","logStreamName":"s","nextToken":"f/1"}`, 200, []string{`"timestamp":1700000000001`, `"nextForwardToken":"f/2"`}},
		{"logs", "Logs_20140328.GetLogEvents", `{"logGroupName":"g","logStreamName":"s","nextToken":"f/2"}`, 200, []string{`"events":[]`, `"nextForwardToken":"f/2"`}},
	} {
		host := test.service + ".ap-northeast-1.amazonaws.com"
		if test.service == "iam" {
			host = "iam.amazonaws.com"
		}
		status, answer := f.ask(test.service, host, test.target, test.body)
		if status != test.status {
			t.Errorf("%s %s: status %d: %s", test.target, test.body, status, answer)
		}
		for _, w := range test.words {
			if !strings.Contains(answer, w) {
				t.Errorf("%s %s: no %s in %s", test.target, test.body, w, answer)
			}
		}
	}
}

func TestTaskOutputIsLogged(t *testing.T) {
	t.Parallel()
	f := start(t, false)
	task := f.run(func(c *types.ContainerDefinition) {
		c.LogConfiguration = &types.LogConfiguration{LogDriver: types.LogDriverAwslogs,
			Options: map[string]string{"awslogs-group": "/ecs/gate", "awslogs-stream-prefix": "ecs", "awslogs-region": "ap-northeast-1"}}
	}, "id")
	_, answer := f.ask("logs", "logs.ap-northeast-1.amazonaws.com", "Logs_20140328.GetLogEvents",
		fmt.Sprintf(`{"logGroupName":"/ecs/gate","logStreamName":"ecs/gate/%s"}`, task.ID()))
	if !strings.Contains(answer, `"message":"id `) {
		t.Errorf("the log says %s", answer)
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	layout := t.TempDir()
	blob := func(body string) string {
		sum := sha256.Sum256([]byte(body))
		if err := os.MkdirAll(filepath.Join(layout, "blobs/sha256"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(layout, "blobs/sha256", hex.EncodeToString(sum[:])), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
		return "sha256:" + hex.EncodeToString(sum[:])
	}
	config := blob(`{"architecture":"amd64","os":"linux"}`)
	manifest := blob(`{"schemaVersion":2,"config":{"digest":"` + config + `"}}`)
	index := fmt.Sprintf(`{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`, manifest)
	if err := os.WriteFile(filepath.Join(layout, "index.json"), []byte(index), 0o644); err != nil {
		t.Fatal(err)
	}
	f := start(t, false, func(o *emulator.Options) { o.Services.Repositories = map[string]string{"fumidai": layout} })
	_, answer := f.ask("ecr", "api.ecr.ap-northeast-1.amazonaws.com", "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", "{}")
	var token struct {
		AuthorizationData []struct{ AuthorizationToken, ProxyEndpoint string }
	}
	if err := json.Unmarshal([]byte(answer), &token); err != nil {
		t.Fatal(err, answer)
	}
	get := func(method, path string, auth bool) (int, string) {
		req, _ := http.NewRequest(method, token.AuthorizationData[0].ProxyEndpoint+path, nil)
		if auth {
			req.Header.Set("Authorization", "Basic "+token.AuthorizationData[0].AuthorizationToken)
		}
		return f.do(req)
	}
	for _, test := range []struct {
		method, path string
		auth         bool
		status       int
		words        string
	}{
		{"GET", "/v2/", false, 401, "UNAUTHORIZED"},
		{"GET", "/v2/", true, 200, ""},
		{"HEAD", "/v2/fumidai/manifests/v1", true, 200, ""},
		{"GET", "/v2/fumidai/manifests/v1", true, 200, config},
		{"GET", "/v2/fumidai/manifests/" + manifest, true, 200, config},
		{"GET", "/v2/fumidai/blobs/" + config, true, 200, "amd64"},
		{"GET", "/v2/fumidai/manifests/v2", true, 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/other/manifests/v1", true, 404, "NAME_UNKNOWN"},
		{"GET", "/v2/fumidai/blobs/sha256:../../index.json", true, 400, ""},
	} {
		status, answer := get(test.method, test.path, test.auth)
		if status != test.status || !strings.Contains(answer, test.words) {
			t.Errorf("%s %s: %d %s", test.method, test.path, status, answer)
		}
	}
}
