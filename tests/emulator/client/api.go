package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// API calls ssm about sessions, signed.
type API struct {
	URL         string // AWS_ENDPOINT_URL
	Region      string
	Credentials aws.Credentials
	TLS         *tls.Config
}

// Sign signs a request for a service with SigV4.
func (a *API) Sign(r *http.Request, body []byte, service string) error {
	sum := sha256.Sum256(body)
	return v4.NewSigner().SignHTTP(r.Context(), a.Credentials, r, hex.EncodeToString(sum[:]), service, a.Region, time.Now())
}

// APIError is an error answer.
type APIError struct {
	Status        int
	Code, Message string
}

func (e *APIError) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Message) }

// Call makes one call of ssm.
func (a *API) Call(ctx context.Context, action string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "AmazonSSM."+action)
	if err := a.Sign(req, body, "ssm"); err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: a.TLS, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		e := struct {
			Type    string `json:"__type"`
			Message string
		}{}
		_ = json.Unmarshal(answer, &e)
		return &APIError{resp.StatusCode, e.Type, e.Message}
	}
	return json.Unmarshal(answer, out)
}

// Start calls StartSession and returns what Open needs: the answer, and ResumeSession for losses.
func (a *API) Start(ctx context.Context, target, document string, parameters map[string][]string) (Options, error) {
	var out struct{ SessionId, StreamUrl, TokenValue string }
	in := map[string]any{"Target": target, "DocumentName": document, "Parameters": parameters}
	if err := a.Call(ctx, "StartSession", in, &out); err != nil {
		return Options{}, err
	}
	return Options{SessionID: out.SessionId, StreamURL: out.StreamUrl, Token: out.TokenValue, TLS: a.TLS,
		Sign:   func(r *http.Request) error { return a.Sign(r, nil, "ssmmessages") },
		Resume: func(ctx context.Context) (string, error) { return a.Resume(ctx, out.SessionId) }}, nil
}

// Resume calls ResumeSession; "" means that the session has ended.
func (a *API) Resume(ctx context.Context, session string) (string, error) {
	var out struct{ TokenValue *string }
	if err := a.Call(ctx, "ResumeSession", map[string]string{"SessionId": session}, &out); err != nil || out.TokenValue == nil {
		return "", err
	}
	return *out.TokenValue, nil
}

// Terminate calls TerminateSession.
func (a *API) Terminate(ctx context.Context, session string) error {
	return a.Call(ctx, "TerminateSession", map[string]string{"SessionId": session}, &struct{}{})
}
