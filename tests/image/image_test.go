//go:build image

// Package image tests what `make image` has made: dist/, named by FUMIDAI_DIST.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const maxLayer = 300_000 // bytes, compressed

var platforms = []string{"amd64", "arm64"}

type descriptor struct {
	MediaType   string
	Digest      string
	Size        int64
	Platform    struct{ Architecture, OS string }
	Annotations map[string]string
}

type manifest struct {
	SchemaVersion int
	MediaType     string
	Config        descriptor
	Layers        []descriptor
	Manifests     []descriptor
}

type configuration struct {
	Created, Architecture, OS string
	Config                    struct {
		User       string
		Entrypoint []string
		Cmd        []string
		Env        []string
		Labels     map[string]string
		Volumes    map[string]any
	}
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	}
}

// dist is the path of a released file; suffix is what follows the version in its name.
func dist(t *testing.T, suffix string) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(os.Getenv("FUMIDAI_DIST"), "fumidai-*.oci.tar"))
	if len(found) != 1 {
		t.Fatalf("FUMIDAI_DIST=%s has %d archives, want one: run make image", os.Getenv("FUMIDAI_DIST"), len(found))
	}
	return strings.TrimSuffix(found[0], ".oci.tar") + suffix
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func decode(t *testing.T, b []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
}

// layout is an OCI layout as files in memory; a blob has been held against its name.
type layout map[string][]byte

func open(t *testing.T, archive string) layout {
	t.Helper()
	l := layout{}
	r := tar.NewReader(bytes.NewReader(read(t, archive)))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return l
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s: the archive says of what machine or when it is: %v %d:%d %q", h.Name, h.ModTime, h.Uid, h.Gid, h.Uname)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if name, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok && sum(b) != name {
			t.Errorf("%s has the sum %s", h.Name, sum(b))
		}
		l[h.Name] = b
	}
}

func (l layout) blob(t *testing.T, d descriptor) []byte {
	t.Helper()
	b, ok := l["blobs/sha256/"+strings.TrimPrefix(d.Digest, "sha256:")]
	if !ok || int64(len(b)) != d.Size {
		t.Fatalf("%s of %d bytes: there are %d", d.Digest, d.Size, len(b))
	}
	return b
}

// image finds what there is of one platform.
func (l layout) image(t *testing.T, architecture string) (descriptor, manifest, configuration) {
	t.Helper()
	var top, index, m manifest
	var c configuration
	decode(t, l["index.json"], &top)
	decode(t, l.blob(t, top.Manifests[0]), &index)
	i := slices.IndexFunc(index.Manifests, func(d descriptor) bool { return d.Platform.Architecture == architecture && d.Platform.OS == "linux" })
	if i < 0 || len(index.Manifests) != len(platforms) {
		t.Fatalf("the index has %+v", index.Manifests)
	}
	decode(t, l.blob(t, index.Manifests[i]), &m)
	decode(t, l.blob(t, m.Config), &c)
	return top.Manifests[0], m, c
}

func entries(t *testing.T, uncompressed []byte) map[string]*tar.Header {
	t.Helper()
	all := map[string]*tar.Header{}
	r := tar.NewReader(bytes.NewReader(uncompressed))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		h.PAXRecords = map[string]string{"sum": sum(b)} // the reader is done with them
		all[strings.TrimPrefix(h.Name, "./")] = h
	}
}

func gunzip(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if !r.ModTime.IsZero() || r.Name != "" {
		t.Errorf("the layer says when it was packed: %v %q", r.ModTime, r.Name)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// The image is one program for each platform, and says how it wants to be run.
func TestLayout(t *testing.T) {
	l := open(t, dist(t, ".oci.tar"))
	if len(l) != 2+1+3*len(platforms) {
		t.Errorf("%d files: something that nothing refers to, or something missing", len(l))
	}
	for _, architecture := range platforms {
		t.Run(architecture, func(t *testing.T) {
			index, m, c := l.image(t, architecture)
			if want := strings.TrimSpace(string(read(t, dist(t, ".digest")))); index.Digest != want {
				t.Errorf("the image is %s, not %s", index.Digest, want)
			}
			if len(m.Layers) != 1 || m.Layers[0].Size > maxLayer {
				t.Fatalf("layers: %+v; want one of at most %d bytes", m.Layers, maxLayer)
			}
			t.Logf("%d bytes compressed", m.Layers[0].Size)
			plain := gunzip(t, l.blob(t, m.Layers[0]))
			if got := "sha256:" + sum(plain); len(c.RootFS.DiffIDs) != 1 || c.RootFS.DiffIDs[0] != got {
				t.Errorf("diff_ids %q, the layer is %s", c.RootFS.DiffIDs, got)
			}
			files := entries(t, plain)
			h := files["fumidai"]
			if len(files) != 1 || h == nil || h.Mode != 0o755 || h.Uid != 0 || h.Gid != 0 || h.Typeflag != tar.TypeReg {
				t.Fatalf("the root has %v", files)
			}
			if want := sum(read(t, dist(t, "-linux-"+architecture))); h.PAXRecords["sum"] != want {
				t.Errorf("the program is %s, not %s", h.PAXRecords["sum"], want)
			}
			wantConfig(t, c, architecture)
		})
	}
}

func wantConfig(t *testing.T, c configuration, architecture string) {
	t.Helper()
	if c.Architecture != architecture || c.OS != "linux" || c.Config.User != "65532:65532" || !slices.Equal(c.Config.Entrypoint, []string{"/fumidai"}) ||
		len(c.Config.Cmd)+len(c.Config.Volumes) != 0 {
		t.Errorf("configured as %+v", c)
	}
	for _, label := range []string{"title", "description", "licenses", "version", "revision", "created"} {
		if c.Config.Labels["org.opencontainers.image."+label] == "" {
			t.Errorf("no label %s", label)
		}
	}
}

// run runs a command at the top of the repository.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

func need(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s", name)
	}
}

// build runs image/build again as it was run for dist/, in other circumstances.
func build(t *testing.T, umask string, env ...string) string {
	t.Helper()
	_, _, c := open(t, dist(t, ".oci.tar")).image(t, "amd64")
	labels := c.Config.Labels
	epoch := strings.TrimSpace(run(t, nil, "date", "-d", labels["org.opencontainers.image.created"], "+%s"))
	out := t.TempDir()
	run(t, env, "sh", "-c", `umask `+umask+` && exec image/build "$@"`, "build", labels["org.opencontainers.image.version"],
		labels["org.opencontainers.image.revision"], epoch, out)
	return out
}

// Every released file is the same, byte for byte, when it is made again: whoever, wherever, whenever.
func TestReproducible(t *testing.T) {
	want := string(read(t, filepath.Join(os.Getenv("FUMIDAI_DIST"), "SHA256SUMS")))
	if strings.Count(want, "\n") != 5 {
		t.Errorf("SHA256SUMS has %q", want)
	}
	for _, out := range []string{build(t, "022", "LC_ALL=C", "TZ=UTC"), build(t, "077", "LC_ALL=C.UTF-8", "TZ=Asia/Tokyo", "GZIP=-1", "TAR_OPTIONS=--format=gnu")} {
		if got := string(read(t, filepath.Join(out, "SHA256SUMS"))); got != want {
			t.Errorf("made again:\n%s\nthen:\n%s", got, want)
		}
	}
	run(t, nil, "sh", "-c", `cd "$FUMIDAI_DIST" && sha256sum --quiet --check SHA256SUMS`)
}

// The bill of materials names the programs and everything that is pinned for them, by the right sums.
func TestBillOfMaterials(t *testing.T) {
	var bill struct {
		SPDXVersion, DataLicense, SPDXID, Name, DocumentNamespace string
		CreationInfo                                              struct {
			Created  string
			Creators []string
		}
		Packages []struct {
			SPDXID, Name, DownloadLocation string
			LicenseConcluded               string
			Checksums                      []struct{ Algorithm, ChecksumValue string }
		}
		Files []struct {
			SPDXID, FileName string
			Checksums        []struct{ Algorithm, ChecksumValue string }
		}
		Relationships []struct{ SPDXElementID, RelationshipType, RelatedSPDXElement string }
	}
	decode(t, read(t, dist(t, ".spdx.json")), &bill)
	if bill.SPDXVersion != "SPDX-2.3" || bill.DataLicense != "CC0-1.0" || bill.SPDXID != "SPDXRef-DOCUMENT" || bill.Name == "" ||
		bill.CreationInfo.Created == "" || len(bill.CreationInfo.Creators) == 0 || !strings.HasPrefix(bill.DocumentNamespace, "https://") {
		t.Errorf("not an SPDX document: %+v", bill)
	}
	ids, sums := map[string]bool{bill.SPDXID: true}, map[string]bool{}
	element := func(id string, complete bool) {
		if ids[id] || !complete || !regexp.MustCompile(`^SPDXRef-[a-zA-Z0-9.-]+$`).MatchString(id) {
			t.Errorf("element %q is named twice, wrongly, or not complete", id)
		}
		ids[id] = true
	}
	for _, p := range bill.Packages {
		element(p.SPDXID, p.Name != "" && p.DownloadLocation != "" && p.LicenseConcluded != "")
		for _, c := range p.Checksums {
			sums[c.ChecksumValue] = true
		}
	}
	for _, f := range bill.Files {
		element(f.SPDXID, f.FileName != "" && len(f.Checksums) == 2 && f.Checksums[0].Algorithm == "SHA1") // which SPDX demands
		sums[f.Checksums[1].ChecksumValue] = true
	}
	described := false
	for _, r := range bill.Relationships {
		if !ids[r.SPDXElementID] || !ids[r.RelatedSPDXElement] {
			t.Errorf("%+v is between things that are not there", r)
		}
		described = described || r.RelationshipType == "DESCRIBES"
	}
	if !described {
		t.Error("it describes nothing")
	}
	for _, pin := range pins(t) {
		if !sums[pin] {
			t.Errorf("it lacks what is pinned as %s", pin)
		}
		delete(sums, pin)
	}
	for _, architecture := range platforms {
		delete(sums, sum(read(t, dist(t, "-linux-"+architecture))))
	}
	delete(sums, strings.TrimPrefix(strings.TrimSpace(string(read(t, dist(t, ".digest")))), "sha256:"))
	if len(sums) != 0 {
		t.Errorf("it has sums of something else: %v", sums)
	}
}

// pins lists the sums of what goes into the program: its libraries' sources and the certificates.
func pins(t *testing.T) (list []string) {
	t.Helper()
	for _, line := range strings.Split(string(read(t, "../../third_party/pins")), "\n") {
		f := strings.Fields(line)
		if len(f) == 3 && regexp.MustCompile(`^(bearssl_.*\.orig|libjsmn|musl-dev)`).MatchString(f[0]) {
			list = append(list, f[2])
		}
	}
	for _, line := range strings.Split(string(read(t, "../../third_party/trust_anchors/pins")), "\n") {
		if f := strings.Fields(line); len(f) == 2 && len(f[0]) == 64 {
			list = append(list, f[0])
		}
	}
	if len(list) < 9 {
		t.Fatalf("only %d pins found", len(list))
	}
	return list
}

// Dockerfile.scratch gives the same root and the same configuration.
func TestDockerfile(t *testing.T) {
	need(t, "buildah")
	ours := open(t, dist(t, ".oci.tar"))
	for _, architecture := range platforms {
		t.Run(architecture, func(t *testing.T) {
			_, m, want := ours.image(t, architecture)
			dir, labels := t.TempDir(), want.Config.Labels
			store := []string{"--storage-driver=vfs", "--root=" + dir + "/root", "--runroot=" + dir + "/run"}
			env := []string{"BUILDAH_ISOLATION=chroot"}
			run(t, env, "buildah", append(slices.Clone(store), "build", "--quiet", "--platform=linux/"+architecture, "--file=Dockerfile.scratch",
				"--build-arg=VERSION="+labels["org.opencontainers.image.version"], "--build-arg=REVISION="+labels["org.opencontainers.image.revision"],
				"--build-arg=CREATED="+want.Created, "--tag=localhost/fumidai:test", ".")...)
			run(t, env, "buildah", append(slices.Clone(store), "push", "--quiet", "localhost/fumidai:test", "oci-archive:"+dir+"/built.tar")...)

			built := layout{}
			r := tar.NewReader(bytes.NewReader(read(t, dir+"/built.tar")))
			for h, err := r.Next(); err == nil; h, err = r.Next() {
				b, _ := io.ReadAll(r)
				built[h.Name] = b
			}
			var top, theirs manifest
			var c configuration
			decode(t, built["index.json"], &top)
			decode(t, built.blob(t, top.Manifests[0]), &theirs)
			decode(t, built.blob(t, theirs.Config), &c)
			wantConfig(t, c, architecture)
			for name, value := range labels {
				if c.Config.Labels[name] != value {
					t.Errorf("label %s: %q, not %q", name, c.Config.Labels[name], value)
				}
			}
			wantFiles := entries(t, gunzip(t, ours.blob(t, m.Layers[0])))
			files := map[string]*tar.Header{}
			for _, layer := range theirs.Layers {
				z, err := gzip.NewReader(bytes.NewReader(built.blob(t, layer)))
				if err != nil {
					t.Fatal(err)
				}
				plain, err := io.ReadAll(z)
				if err != nil {
					t.Fatal(err)
				}
				for name, h := range entries(t, plain) {
					files[name] = h
				}
			}
			describe := func(files map[string]*tar.Header) (list []string) {
				for name, h := range files {
					list = append(list, fmt.Sprintf("%s %o %d:%d %s", name, h.Mode&0o7777, h.Uid, h.Gid, h.PAXRecords["sum"]))
				}
				slices.Sort(list)
				return list
			}
			if got, want := describe(files), describe(wantFiles); !slices.Equal(got, want) {
				t.Errorf("the root has\n%q, not\n%q", got, want)
			}
		})
	}
}
