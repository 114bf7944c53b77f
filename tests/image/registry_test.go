//go:build image

package image

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// registry runs Debian's docker-registry on a loopback port until the test ends and returns its name.
func registry(t *testing.T) string {
	t.Helper()
	need(t, "docker-registry")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	name := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir, name)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if r, err := http.Get("http://" + name + "/v2/"); err == nil {
			r.Body.Close()
			return name
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// commands are a page's blocks of shell code, in order.
func commands(t *testing.T, page string) string {
	t.Helper()
	var script strings.Builder
	inside := false
	for _, line := range strings.Split(string(read(t, page)), "\n") {
		if strings.HasPrefix(line, "```") {
			inside = line == "```sh"
		} else if inside {
			script.WriteString(line + "\n")
		}
	}
	return script.String()
}

// The page's commands, as written, bring the image to a registry that then has both platforms of it under its digest.
func TestAirGapped(t *testing.T) {
	need(t, "skopeo")
	name := registry(t)
	dir := t.TempDir()
	config := filepath.Join(dir, ".config/containers/registries.conf") // this registry speaks no TLS
	if err := os.MkdirAll(filepath.Dir(config), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, "[[registry]]\nlocation = %q\ninsecure = true\n", name), 0o600); err != nil {
		t.Fatal(err)
	}
	version := strings.TrimPrefix(filepath.Base(dist(t, "")), "fumidai-")
	script := strings.ReplaceAll(commands(t, "../../docs/air-gapped.md"), "0.1.0", version)
	if strings.Count(script, "skopeo") < 3 {
		t.Fatalf("the page has other commands now:\n%s", script)
	}
	cmd := exec.Command("sh", "-euxc", script)
	cmd.Dir = os.Getenv("FUMIDAI_DIST")
	cmd.Env = append(os.Environ(), "REGISTRY="+name, "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	digest := strings.TrimSpace(string(read(t, dist(t, ".digest"))))
	for _, repository := range []string{"fumidai", "mirror/fumidai"} {
		for _, reference := range []string{digest, version} {
			body, header := get(t, name, repository, "manifests/"+reference)
			if header.Get("Docker-Content-Digest") != digest || "sha256:"+sum(body) != digest {
				t.Errorf("%s:%s is %s, want %s", repository, reference, header.Get("Docker-Content-Digest"), digest)
			}
			var index manifest
			decode(t, body, &index)
			for _, d := range index.Manifests { // everything it refers to can be pulled
				var m manifest
				body, _ := get(t, name, repository, "manifests/"+d.Digest)
				decode(t, body, &m)
				for _, blob := range append(m.Layers, m.Config) {
					if body, _ := get(t, name, repository, "blobs/"+blob.Digest); "sha256:"+sum(body) != blob.Digest {
						t.Errorf("%s/%s: blob %s is another one", repository, d.Platform.Architecture, blob.Digest)
					}
				}
			}
			if len(index.Manifests) != len(platforms) {
				t.Errorf("%s has %d platforms", repository, len(index.Manifests))
			}
		}
	}
}

func get(t *testing.T, registry, repository, what string) ([]byte, http.Header) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, "http://"+registry+"/v2/"+repository+"/"+what, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header["Accept"] = []string{"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %v %s", repository, what, answer.Status, err, body)
	}
	return body, answer.Header
}
