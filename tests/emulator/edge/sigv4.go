package edge

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// allowedSkew is how far a request's date may be from the service's (as IAM documents it).
const allowedSkew = 5 * time.Minute

const amzDate = "20060102T150405Z"

// authorization is a parsed Authorization header of AWS Signature Version 4.
type authorization struct {
	accessKeyID, date, region, service string
	signedHeaders                      []string
	signature                          string
}

func parseAuthorization(value string) (authorization, error) {
	var a authorization
	rest, ok := strings.CutPrefix(value, "AWS4-HMAC-SHA256 ")
	if !ok {
		return a, incompleteSignature("Authorization header requires 'AWS4-HMAC-SHA256'. Authorization=" + value)
	}
	fields := map[string]string{}
	for _, part := range strings.Split(rest, ",") {
		name, v, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return a, incompleteSignature(fmt.Sprintf("'%s' not a valid key=value pair (missing equal-sign) in Authorization header: '%s'.", part, value))
		}
		fields[name] = v
	}
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if fields[name] == "" {
			return a, incompleteSignature(fmt.Sprintf("Authorization header requires '%s' parameter. Authorization=%s", name, value))
		}
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" {
		return a, incompleteSignature(fmt.Sprintf("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", fields["Credential"]))
	}
	a.accessKeyID, a.date, a.region, a.service = scope[0], scope[1], scope[2], scope[3]
	a.signedHeaders = strings.Split(fields["SignedHeaders"], ";")
	a.signature = fields["Signature"]
	return a, nil
}

// verify proves who sent a request: it rebuilds it from the parts the client says it signed, has the AWS SDK's own
// signer sign that with the secret on record, and compares.
func (k *Keys) verify(r *http.Request, body []byte, service string, now time.Time) (Principal, string, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return Principal{}, "", &Error{Code: "MissingAuthenticationTokenException", Message: "Missing Authentication Token"}
	}
	auth, err := parseAuthorization(header)
	if err != nil {
		return Principal{}, "", err
	}
	key, ok := k.find(auth.accessKeyID)
	if !ok || key.Token != r.Header.Get("X-Amz-Security-Token") {
		return Principal{}, auth.region, &Error{Code: "UnrecognizedClientException",
			Message: "The security token included in the request is invalid."}
	}
	if !key.Expiration.IsZero() && now.After(key.Expiration) {
		return Principal{}, auth.region, &Error{Code: "ExpiredTokenException",
			Message: "The security token included in the request is expired"}
	}
	date, err := signedDate(r, auth, now)
	if err != nil {
		return Principal{}, auth.region, err
	}
	if auth.service != service {
		return Principal{}, auth.region, invalidSignature(fmt.Sprintf("Credential should be scoped to correct service: '%s'. ", service))
	}
	want, err := resign(r, body, auth, key, date)
	if err != nil {
		return Principal{}, auth.region, err
	}
	if subtle.ConstantTimeCompare([]byte(want), []byte(auth.signature)) != 1 {
		return Principal{}, auth.region, invalidSignature("The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return key.Principal, auth.region, nil
}

func signedDate(r *http.Request, auth authorization, now time.Time) (time.Time, error) {
	stamp := r.Header.Get("X-Amz-Date")
	date, err := time.Parse(amzDate, stamp)
	if err != nil {
		return date, incompleteSignature(fmt.Sprintf("Date must be in ISO-8601 'basic format'. Got '%s'.", stamp))
	}
	if date.Format("20060102") != auth.date {
		return date, invalidSignature(fmt.Sprintf("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.",
			auth.date, date.Format("20060102"), stamp))
	}
	if earliest := now.Add(-allowedSkew); date.Before(earliest) {
		return date, invalidSignature(fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 5 min.)",
			stamp, earliest.UTC().Format(amzDate), now.UTC().Format(amzDate)))
	}
	if latest := now.Add(allowedSkew); date.After(latest) {
		return date, invalidSignature(fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 5 min.)",
			stamp, latest.UTC().Format(amzDate), now.UTC().Format(amzDate)))
	}
	return date, nil
}

// resign returns the signature the SDK's signer gives the request. Only what the client named as signed goes in; the
// signer adds host, x-amz-date and the token by itself, so leaving those out of the signed headers does not verify.
func resign(r *http.Request, body []byte, auth authorization, key Key, date time.Time) (string, error) {
	at := *r.URL // the signer writes the query anew, sorted and escaped in its way: the service is to see what was sent
	clone := &http.Request{Method: r.Method, URL: &at, Host: r.Host, Header: http.Header{}}
	for _, name := range auth.signedHeaders {
		switch name {
		case "host", "x-amz-date", "x-amz-security-token":
		case "content-length":
			n, err := strconv.ParseInt(r.Header.Get("Content-Length"), 10, 64)
			if err != nil {
				n = r.ContentLength
			}
			clone.ContentLength = n
		default:
			if values := r.Header.Values(name); len(values) > 0 {
				clone.Header[http.CanonicalHeaderKey(name)] = values
			}
		}
	}
	sum := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey, SessionToken: key.Token}
	err := v4.NewSigner().SignHTTP(context.Background(), creds, clone, hex.EncodeToString(sum[:]), auth.service, auth.region, date)
	if err != nil {
		return "", err
	}
	again, err := parseAuthorization(clone.Header.Get("Authorization"))
	if err != nil {
		return "", err
	}
	if strings.Join(again.signedHeaders, ";") != strings.Join(auth.signedHeaders, ";") {
		return "", invalidSignature("'SignedHeaders' must name host, x-amz-date and, with temporary credentials, x-amz-security-token, sorted; got '" +
			strings.Join(auth.signedHeaders, ";") + "'")
	}
	return again.signature, nil
}

func invalidSignature(message string) error {
	return &Error{Code: "InvalidSignatureException", Message: message}
}

func incompleteSignature(message string) error {
	return &Error{Code: "IncompleteSignatureException", Message: message}
}
