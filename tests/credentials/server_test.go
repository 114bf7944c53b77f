package credentials

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// server is everything that hands out keys: STS, IAM Identity Center, EC2's metadata service, a container's endpoint, GitHub's tokens.
// It says what it was asked for, in words that do not depend on who asks.
type server struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

func newServer(t *testing.T) *server {
	s := &server{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// take returns what was asked since the last call.
func (s *server) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *server) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf(format, args...))
}

var (
	scope = regexp.MustCompile(`Credential=([^/]+)/\d+/([^/]+)/(\w+)/aws4_request`)
	// The SDK for Go and fumidai each have their own names for sessions that have none.
	ownName = regexp.MustCompile(`^(aws-go-sdk-|fumidai-)?\d+$`)
)

const far = "2099-01-01T00:00:00Z"

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	switch {
	case r.Method == "POST" && strings.HasSuffix(path, "/token") && strings.Contains(path, "oidc"):
		s.refresh(w, r)
	case r.Method == "POST" && strings.HasSuffix(path, "/v1/token"):
		s.signIn(w, r)
	case r.Method == "POST":
		s.assumeRole(w, r)
	case strings.HasSuffix(path, "/federation/credentials"):
		q := r.URL.Query()
		s.note("sso %s account=%s role=%s token=%s", strings.TrimSuffix(path, "/federation/credentials"), q.Get("account_id"), q.Get("role_name"),
			r.Header.Get("X-Amz-Sso_bearer_token"))
		writeJSON(w, map[string]any{"roleCredentials": map[string]any{"accessKeyId": "SSO", "secretAccessKey": "s", "sessionToken": "t",
			"expiration": time.Now().Add(time.Hour).UnixMilli()}})
	case path == "/container":
		s.note("container authorization=%s", r.Header.Get("Authorization"))
		writeJSON(w, map[string]any{"AccessKeyId": "CONTAINER", "SecretAccessKey": "s", "Token": "t", "Expiration": far})
	case path == "/refused":
		s.note("refused")
		http.Error(w, `{"code": "no", "message": "no"}`, http.StatusForbidden)
	case path == "/github":
		s.note("github audience=%s authorization=%s", r.URL.Query().Get("audience"), r.Header.Get("Authorization"))
		writeJSON(w, map[string]any{"value": "github.jwt"})
	case strings.HasPrefix(path, "/latest/"):
		s.instance(w, r)
	default:
		s.note("%s %s", r.Method, path)
		http.NotFound(w, r)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func (s *server) refresh(w http.ResponseWriter, r *http.Request) {
	var in struct{ ClientID, ClientSecret, GrantType, RefreshToken string }
	json.NewDecoder(r.Body).Decode(&in)
	s.note("oidc client=%s secret=%s grant=%s token=%s", in.ClientID, in.ClientSecret, in.GrantType, in.RefreshToken)
	if in.RefreshToken == "spent" {
		w.Header().Set("X-Amzn-ErrorType", "InvalidGrantException")
		w.WriteHeader(http.StatusBadRequest)
		writeJSON(w, map[string]any{"error": "invalid_grant"})
		return
	}
	writeJSON(w, map[string]any{"accessToken": "renewed", "expiresIn": 3600, "refreshToken": "next", "tokenType": "Bearer"})
}

// signIn renews the keys of aws login for whoever proves to have the session's key (RFC 9449).
func (s *server) signIn(w http.ResponseWriter, r *http.Request) {
	var in struct{ ClientID, GrantType, RefreshToken string }
	json.NewDecoder(r.Body).Decode(&in)
	s.note("signin client=%s grant=%s token=%s proof=%s", in.ClientID, in.GrantType, in.RefreshToken, s.proof(r))
	if in.RefreshToken == "spent" {
		w.Header().Set("X-Amzn-ErrorType", "AccessDeniedException")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(map[string]any{"error": "TOKEN_EXPIRED", "message": "it is over"})
		return
	}
	writeJSON(w, map[string]any{"accessToken": map[string]any{"accessKeyId": "RENEWED", "secretAccessKey": "s", "sessionToken": "t"}, "tokenType": "aws_sigv4",
		"expiresIn": 900, "refreshToken": "next"})
}

// proof says what is wrong with a request's proof, or "good".
func (s *server) proof(r *http.Request) string {
	parts := strings.Split(r.Header.Get("DPoP"), ".")
	if len(parts) != 3 {
		return "not a JWT"
	}
	var header struct {
		Typ, Alg string
		Jwk      struct{ Kty, Crv, X, Y string }
	}
	var payload struct {
		Jti, Htm, Htu string
		Iat           int64
	}
	decode := func(text string) []byte { b, _ := base64.RawURLEncoding.DecodeString(text); return b }
	if json.Unmarshal(decode(parts[0]), &header) != nil || json.Unmarshal(decode(parts[1]), &payload) != nil {
		return "not JSON"
	}
	if header.Typ != "dpop+jwt" || header.Alg != "ES256" || header.Jwk.Kty != "EC" || header.Jwk.Crv != "P-256" {
		return fmt.Sprintf("header %+v", header)
	}
	if payload.Htm != "POST" || payload.Htu != s.URL+r.URL.Path || payload.Jti == "" || time.Since(time.Unix(payload.Iat, 0)).Abs() > time.Minute {
		return fmt.Sprintf("payload %+v", payload)
	}
	x, y := new(big.Int).SetBytes(decode(header.Jwk.X)), new(big.Int).SetBytes(decode(header.Jwk.Y))
	if x.Cmp(loginKey.X) != 0 || y.Cmp(loginKey.Y) != 0 {
		return "another key"
	}
	digest, signature := sha256.Sum256([]byte(parts[0]+"."+parts[1])), decode(parts[2])
	if len(signature) != 64 || !ecdsa.Verify(&loginKey.PublicKey, digest[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		return "wrong signature"
	}
	return "good"
}

func (s *server) assumeRole(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	f := r.PostForm
	action, signed := f.Get("Action"), ""
	if m := scope.FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
		signed = " by " + m[1] + " in " + m[2] + " for " + m[3]
	}
	session := f.Get("RoleSessionName")
	if ownName.MatchString(session) {
		session = ""
	}
	duration := f.Get("DurationSeconds")
	if duration == "900" { // the SDK for Go's own choice; fumidai leaves it to STS
		duration = ""
	}
	s.note("%s%s role=%s session=%s external=%s duration=%s token=%s%s", action, r.URL.Path, f.Get("RoleArn"), session, f.Get("ExternalId"), duration,
		f.Get("WebIdentityToken"), signed)
	if f.Get("RoleArn") == "denied" {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`)
		return
	}
	fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials><AccessKeyId>%[2]s</AccessKeyId>`+
		`<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%[3]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
		action, "OF-"+f.Get("RoleArn"), far)
}

func (s *server) instance(w http.ResponseWriter, r *http.Request) {
	s.note("instance %s", r.URL.Path)
	switch r.URL.Path {
	case "/latest/api/token":
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
		fmt.Fprint(w, "token")
	case "/latest/meta-data/iam/security-credentials/":
		fmt.Fprint(w, "the-role")
	default:
		writeJSON(w, map[string]any{"Code": "Success", "AccessKeyId": "INSTANCE", "SecretAccessKey": "s", "Token": "t", "Expiration": far})
	}
}
