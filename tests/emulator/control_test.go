package emulator_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
)

func TestControl(t *testing.T) {
	t.Parallel()
	f := start(t, false)
	control := httptest.NewServer(f.Control())
	defer control.Close()
	do := func(method, path, body, want string) {
		t.Helper()
		req, _ := http.NewRequest(method, control.URL+path, strings.NewReader(body))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		got, _ := io.ReadAll(res.Body)
		if !strings.Contains(string(got), want) {
			t.Errorf("%s %s: %d %s, want %s", method, path, res.StatusCode, got, want)
		}
	}
	do("POST", "/faults", `{"service":"ecs","effect":"latency","delay":"150ms"}`, `{"id":1}`)
	do("GET", "/faults", "", `"effect":"latency"`)
	begin := time.Now()
	task := f.launch(nil, "wait")
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("two calls took %v", took)
	}
	do("DELETE", "/faults/1", "", "")
	do("GET", "/faults", "", "{}")
	do("POST", "/faults", `{"effect":""}`, "no effect")
	do("GET", "/calls?action=RunTask", "", `"principal":"arn:aws:iam::123456789012:user/operator"`)
	do("GET", "/tasks", "", `"taskArn":"`+task.ARN()+`"`)
	task.WaitStatus("RUNNING", 5*time.Second)
	do("GET", "/tasks/"+task.ID()+"/output", "", "")
	do("POST", "/tasks/"+task.ID()+"/expire", "", "")
	do("POST", "/tasks/"+task.ID()+"/sessions/x", "", "no exec agent runs")
	do("POST", "/tasks/nothing/expire", "", "no such task")
	do("PUT", "/clock", `{"skew":"7m"}`, "")
	if _, err := f.sdk.StopTask(ctx, &sdk.StopTaskInput{Task: aws.String(task.ID())}); err != nil {
		t.Errorf("the SDK corrects its clock by the Date header: %v", err)
	}
	do("DELETE", "/calls", "", "")
	do("GET", "/calls", "", "null")
}
