package edge

import (
	"context"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// TestStreamURLVectors signs the StreamUrls of tests/unit/test_stream_url.c with AWS's SDK: its table holds what the SDK
// makes of them, so that the C code is compared with the signer that AWS's plugin uses.
func TestStreamURLVectors(t *testing.T) {
	source, err := os.ReadFile("../../unit/test_stream_url.c")
	if err != nil {
		t.Fatal(err)
	}
	base := regexp.MustCompile(`#define BASE +"([^"]+)"`).FindSubmatch(source)
	_, table, found := strings.Cut(string(source), "} VECTORS[] = {\n")
	table, _, _ = strings.Cut(table, "\n};")
	rows := regexp.MustCompile(`\{(BASE )?"([^"]*)",\s*"([^"]*)",\s*"([0-9a-f]{64})"\}`).FindAllStringSubmatch(table, -1)
	if base == nil || !found || len(rows) < 9 {
		t.Fatalf("the table is not where it was: %d rows", len(rows))
	}
	emptyHash := "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	keys := aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
		SessionToken: "IQoJb3JpZ2luX2VjEXAMPLE/token+with=signs=="}
	for _, row := range rows {
		url := row[2]
		if row[1] != "" {
			url = string(base[1]) + url
		}
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := v4.NewSigner().SignHTTP(context.Background(), keys, req, emptyHash, "ssmmessages", "eu-west-1", time.UnixMilli(1700000000123)); err != nil {
			t.Fatal(err)
		}
		if req.URL.RawQuery != row[3] {
			t.Errorf("%s: the query is %s, the table says %s", url, req.URL.RawQuery, row[3])
		}
		if signed := req.Header.Get("Authorization"); !strings.HasSuffix(signed, ", SignedHeaders=host;x-amz-date;x-amz-security-token, Signature="+row[4]) {
			t.Errorf("%s: %s", url, signed)
		}
	}
}
