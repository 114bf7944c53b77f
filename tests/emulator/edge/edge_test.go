package edge_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"crypto/tls"

	"fumidai/tests/emulator/edge"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"
)

// fixture is an edge with one service: an ECS that knows one cluster.
type fixture struct {
	*edge.Edge
	addr   string
	served int
}

func start(t *testing.T) *fixture {
	t.Helper()
	e, err := edge.New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	f := &fixture{Edge: e}
	e.Handle(&edge.Service{Name: "ecs", TargetPrefix: "AmazonEC2ContainerServiceV20141113.",
		Serve: func(w http.ResponseWriter, c *edge.Call) error {
			f.served++
			var in ecs.DescribeClustersInput
			if err := edge.DecodeJSON(c, &in); err != nil {
				return err
			}
			c.Resource = in.Clusters[0]
			return edge.WriteJSON(w, edge.CamelCase, ecs.DescribeClustersOutput{
				Clusters: []types.Cluster{{ClusterName: &in.Clusters[0], Tags: []types.Tag{{Key: aws.String("CamelKey"), Value: aws.String("v")}}}},
			})
		}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	e.Serve(l)
	e.Keys.Static("AKIA1", "secret", edge.Principal{ARN: "arn:aws:iam::123456789012:user/someone"})
	return f
}

// client is the SDK's client, which reaches the edge by its address, or as a proxy under the real host name.
func (f *fixture) client(proxy bool, provider aws.CredentialsProvider) *ecs.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.CA.Pool()}}
	o := ecs.Options{Region: "ap-northeast-1", Credentials: provider,
		HTTPClient: &http.Client{Transport: transport}, Retryer: retry.AddWithMaxAttempts(retry.NewStandard(), 1)}
	if proxy {
		transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: f.addr})
	} else {
		o.BaseEndpoint = aws.String("https://" + f.addr)
	}
	return ecs.New(o)
}

func describe(c *ecs.Client) error {
	out, err := c.DescribeClusters(context.Background(), &ecs.DescribeClustersInput{Clusters: []string{"gate"}})
	if err == nil && (len(out.Clusters) != 1 || *out.Clusters[0].ClusterName != "gate" || *out.Clusters[0].Tags[0].Key != "CamelKey") {
		return errors.New("the answer does not read as it was written")
	}
	return err
}

func wantCode(t *testing.T, err error, code, words string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), words) {
		t.Errorf("got %v, want %s: …%s…", err, code, words)
	}
}

func TestSignedCallsPass(t *testing.T) {
	f := start(t)
	static := credentials.NewStaticCredentialsProvider("AKIA1", "secret", "")
	key := f.Keys.Temporary(edge.Principal{ARN: "arn:aws:sts::123456789012:assumed-role/gate/1"}, time.Now().Add(time.Hour))
	role := credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, key.Token)
	for _, proxy := range []bool{false, true} {
		for _, provider := range []aws.CredentialsProvider{static, role} {
			if err := describe(f.client(proxy, provider)); err != nil {
				t.Errorf("proxy %v: %v", proxy, err)
			}
		}
	}
	calls := f.Recorder.Calls(edge.ByAction("ecs", "DescribeClusters"))
	if len(calls) != 4 || calls[0].Resource != "gate" || calls[0].Status != 200 || calls[0].Region != "ap-northeast-1" ||
		calls[0].Principal != "arn:aws:iam::123456789012:user/someone" {
		t.Errorf("recorded %+v", calls)
	}
}

func TestRefusals(t *testing.T) {
	f := start(t)
	expired := f.Keys.Temporary(edge.Principal{}, time.Now().Add(-time.Second))
	for _, test := range []struct {
		name, id, secret, token string
		skew                    time.Duration
		code, words             string
	}{
		{"wrong secret", "AKIA1", "Secret", "", 0, "InvalidSignatureException", "does not match"},
		{"unknown key", "AKIA2", "secret", "", 0, "UnrecognizedClientException", "invalid"},
		{"wrong token", "AKIA1", "secret", "token", 0, "UnrecognizedClientException", "invalid"},
		{"expired", expired.AccessKeyID, expired.SecretAccessKey, expired.Token, 0, "ExpiredTokenException", "expired"},
		{"service's clock ahead", "AKIA1", "secret", "", 6 * time.Minute, "InvalidSignatureException", "Signature expired"},
		{"service's clock behind", "AKIA1", "secret", "", -6 * time.Minute, "InvalidSignatureException", "Signature not yet current"},
		{"within what is allowed", "AKIA1", "secret", "", 4 * time.Minute, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.SetSkew(test.skew)
			defer f.SetSkew(0)
			before := f.served
			err := describe(f.client(false, credentials.NewStaticCredentialsProvider(test.id, test.secret, test.token)))
			if test.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantCode(t, err, test.code, test.words)
			if f.served != before {
				t.Error("the service saw a refused call")
			}
		})
	}
}

func TestTamperedRequests(t *testing.T) {
	f := start(t)
	target := "AmazonEC2ContainerServiceV20141113.DescribeClusters"
	for _, test := range []struct {
		name, header, value, words string
	}{
		{"unsigned", "", "", "MissingAuthenticationTokenException"},
		{"not SigV4", "Authorization", "Bearer x", "IncompleteSignatureException"},
		{"short scope", "Authorization", "AWS4-HMAC-SHA256 Credential=AKIA1/x, SignedHeaders=host, Signature=0", "IncompleteSignatureException"},
	} {
		t.Run(test.name, func(t *testing.T) {
			req, _ := http.NewRequest("POST", "http://"+f.addr, strings.NewReader(`{}`))
			req.Header.Set("X-Amz-Target", target)
			if test.header != "" {
				req.Header.Set(test.header, test.value)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != 400 || !strings.Contains(string(body), test.words) {
				t.Errorf("%d %s", res.StatusCode, body)
			}
		})
	}
}

func TestNotEmulated(t *testing.T) {
	f := start(t)
	res, err := http.Post("http://"+f.addr+"/", "application/x-amz-json-1.1", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 400 {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestFaults(t *testing.T) {
	static := credentials.NewStaticCredentialsProvider("AKIA1", "secret", "")
	t.Run("error, so many times", func(t *testing.T) {
		f := start(t)
		fault := edge.Throttling("ecs", "DescribeClusters", 0)
		fault.Times = 1
		f.Faults.Add(fault)
		c := f.client(false, static)
		wantCode(t, describe(c), "ThrottlingException", "Rate exceeded")
		if err := describe(c); err != nil {
			t.Error(err)
		}
	})
	t.Run("other actions are spared", func(t *testing.T) {
		f := start(t)
		f.Faults.Add(edge.ServerError("ecs", "StopTask", 0))
		f.Faults.Add(edge.ServerError("ssm", "", 0))
		if err := describe(f.client(false, static)); err != nil {
			t.Error(err)
		}
	})
	for _, test := range []struct {
		effect edge.Effect
		served int
	}{{edge.EffectResetBefore, 0}, {edge.EffectResetAfter, 1}} {
		t.Run(string(test.effect), func(t *testing.T) {
			f := start(t)
			f.Faults.Add(edge.Fault{Effect: test.effect})
			if err := describe(f.client(false, static)); err == nil || !strings.Contains(err.Error(), "reset") {
				t.Errorf("got %v, want a reset", err)
			}
			if f.served != test.served {
				t.Errorf("served %d, want %d", f.served, test.served)
			}
		})
	}
	t.Run("latency", func(t *testing.T) {
		f := start(t)
		f.Faults.Add(edge.Fault{Effect: edge.EffectLatency, Delay: 50 * time.Millisecond})
		begin := time.Now()
		if err := describe(f.client(false, static)); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took < 50*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

func TestConnectionFaults(t *testing.T) {
	static := credentials.NewStaticCredentialsProvider("AKIA1", "secret", "")
	for effect, words := range map[edge.Effect]string{
		edge.EffectGarbage: "first record does not look like a TLS handshake", edge.EffectAlert: "handshake failure",
		edge.EffectBadRecord: "bad record MAC", edge.EffectWrongName: "another.example", edge.EffectResetBefore: "reset",
	} {
		t.Run(string(effect), func(t *testing.T) {
			f := start(t)
			f.Faults.Add(edge.Fault{Service: edge.ServiceTLS, Action: "ssm", Effect: effect})
			f.Faults.Add(edge.Fault{Service: edge.ServiceTLS, Action: "ecs", Effect: effect, Times: 1})
			if err := describe(f.client(true, static)); err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("got %v, want %s", err, words)
			}
			if f.served != 0 {
				t.Error("the service has been reached")
			}
			if err := describe(f.client(true, static)); err != nil {
				t.Errorf("the next connection: %v", err)
			}
		})
	}
	t.Run("hang", func(t *testing.T) {
		f := start(t)
		f.Faults.Add(edge.Fault{Service: edge.ServiceTLS, Effect: edge.EffectHang})
		conn, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if err := tls.Client(conn, &tls.Config{ServerName: "ecs.x.amazonaws.com", RootCAs: f.CA.Pool()}).Handshake(); err == nil || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("got %v", err)
		}
	})
}

// A refusal in a form that no service of the emulator has.
func TestAnswerAsItIs(t *testing.T) {
	f := start(t)
	f.Faults.Add(edge.Fault{Effect: edge.EffectError, Status: 400, Code: "BadRequest", Body: "<BadRequest/>"})
	req, err := http.NewRequest("POST", "http://"+f.addr, strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113.DescribeClusters")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != 400 || string(body) != "<BadRequest/>" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

func TestFaultsAreSeeded(t *testing.T) {
	roll := func(seed uint64) (hits []bool, total int) {
		f := edge.Faults{Seed: seed}
		f.Add(edge.ServerError("ecs", "", 0.3))
		for range 1000 {
			hit := f.Decide("ecs", "StopTask", "", 0).Fault != nil
			hits = append(hits, hit)
			if hit {
				total++
			}
		}
		return
	}
	first, total := roll(1)
	again, _ := roll(1)
	other, _ := roll(2)
	differ := 0
	for i := range first {
		if first[i] != again[i] {
			t.Fatal("the same seed gave other faults")
		}
		if first[i] != other[i] {
			differ++
		}
	}
	if total < 250 || total > 350 || differ < 300 {
		t.Errorf("%d of 1000 calls hit, another seed differs in %d", total, differ)
	}
}
