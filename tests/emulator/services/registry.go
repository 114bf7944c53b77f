package services

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"fumidai/tests/emulator/edge"
)

const registryPassword = "emulator-registry-password"

func (s *Services) authorizationToken(*edge.Call, document) (document, error) {
	return document{"authorizationData": []document{{
		"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:" + registryPassword)),
		"expiresAt":          time.Now().Add(12 * time.Hour).Unix(),
		"proxyEndpoint":      "https://" + s.registryHost(),
	}}}, nil
}

func (s *Services) registryHost() string {
	return s.Account + ".dkr.ecr." + s.Region + ".amazonaws.com"
}

// registry serves OCI layouts read-only, as a registry of the distribution specification does. It is asked with the
// password of GetAuthorizationToken instead of a signature.
func (s *Services) registry() *edge.Service {
	return &edge.Service{
		Name: "registry", Hosts: []string{s.Account + ".dkr.ecr"}, PathPrefixes: []string{"/v2/"},
		Unsigned: func(*http.Request) bool { return true },
		Action:   func(r *http.Request) string { return r.Method },
		Serve: func(w http.ResponseWriter, c *edge.Call) error {
			if _, password, _ := c.BasicAuth(); password != registryPassword {
				w.Header().Set("WWW-Authenticate", `Basic realm="https://`+s.registryHost()+`/",service="ecr.amazonaws.com"`)
				return &edge.Error{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Message: "Not Authorized"}
			}
			return s.serveRegistry(w, c)
		},
	}
}

var registryPath = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs)/([^/]+)$`)

func (s *Services) serveRegistry(w http.ResponseWriter, c *edge.Call) error {
	if c.URL.Path == "/v2/" {
		return nil
	}
	parts := registryPath.FindStringSubmatch(c.URL.Path)
	if parts == nil || (c.Method != http.MethodGet && c.Method != http.MethodHead) {
		return edge.NotEmulated("registry: " + c.Method + " " + c.URL.Path)
	}
	layout, known := s.Repositories[parts[1]]
	if !known {
		return &edge.Error{Status: http.StatusNotFound, Code: "NAME_UNKNOWN", Message: "The repository does not exist"}
	}
	digest, kind, err := resolve(layout, parts[2], parts[3])
	if err != nil {
		return err
	}
	body, err := os.ReadFile(filepath.Join(layout, "blobs", strings.Replace(digest, ":", string(filepath.Separator), 1)))
	if err != nil {
		return &edge.Error{Status: http.StatusNotFound, Code: "BLOB_UNKNOWN", Message: digest + " not found"}
	}
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if c.Method == http.MethodHead {
		return nil
	}
	_, err = w.Write(body)
	return err
}

var sha256Digest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// resolve finds the digest and media type that a tag or digest stands for.
func resolve(layout, what, reference string) (digest, kind string, err error) {
	if what == "blobs" {
		if !sha256Digest.MatchString(reference) {
			return "", "", &edge.Error{Code: "DIGEST_INVALID", Message: reference}
		}
		return reference, "application/octet-stream", nil
	}
	text, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil {
		return "", "", err
	}
	type descriptor struct {
		MediaType, Digest string
		Annotations       map[string]string
	}
	var index struct{ Manifests []descriptor }
	if err := json.Unmarshal(text, &index); err != nil {
		return "", "", err
	}
	for _, m := range index.Manifests {
		name := m.Annotations["org.opencontainers.image.ref.name"]
		if m.Digest == reference || name == reference || strings.HasSuffix(name, ":"+reference) || (name == "" && reference == "latest") {
			return m.Digest, m.MediaType, nil
		}
	}
	if sha256Digest.MatchString(reference) { // a manifest inside an index
		return reference, "application/vnd.oci.image.manifest.v1+json", nil
	}
	return "", "", &edge.Error{Status: http.StatusNotFound, Code: "MANIFEST_UNKNOWN", Message: reference + " not found"}
}
