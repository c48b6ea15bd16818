package flowmesh_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flowmesh/libflowmesh/bindings/go"
)

// certified is a certificate with its key, as PEM and in files.
type certified struct {
	certificate, key         []byte
	certificateFile, keyFile string
	parsed                   *x509.Certificate
	signer                   *ecdsa.PrivateKey
}

// certify makes a certificate by this authority, or a new authority without one.
func certify(t *testing.T, directory, name string, by *certified) *certified {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  by == nil,
		BasicConstraintsValid: true,
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.parsed, by.signer
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	made := &certified{
		signer:          key,
		certificateFile: filepath.Join(directory, name+".pem"),
		keyFile:         filepath.Join(directory, name+".key"),
		certificate:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	}
	if made.parsed, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	made.key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	put(t, made.certificateFile, made.certificate)
	put(t, made.keyFile, made.key)
	return made
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// newToken makes a token, and the file of those that a server knows.
func newToken(t *testing.T, tokens string) string {
	t.Helper()
	said, err := exec.Command(os.Getenv("FLOWMESH_SERVER"), "token", "new", "--tenant", "acme", "--permission", "kv.read", "kv.write").Output()
	if err != nil {
		t.Fatal(err)
	}
	put(t, tokens, said)
	return string(regexp.MustCompile(`fm_[0-9a-f]+`).Find(said))
}

// set stores a value, or says why not.
func set(t *testing.T, endpoint string, options ...flowmesh.ClientOption) error {
	t.Helper()
	var failed error
	in(t, endpoint, func(w *world) {
		settings, err := w.client.KV("acme", "test", "settings")
		w.must(err)
		failed = settings.Set(w.ctx, "key", []byte("value"))
	}, options...)
	return failed
}

func TestTLSAndTokens(t *testing.T) {
	if os.Getenv("FLOWMESH_SERVER") == "" {
		t.Skip("FLOWMESH_SERVER names no server")
	}
	directory := t.TempDir()
	authority := certify(t, directory, "authority", nil)
	of := certify(t, directory, "flowmesh.test", authority)
	me := certify(t, directory, "client", authority)
	other := certify(t, directory, "other", nil)
	tokens, tokenFile := filepath.Join(directory, "tokens.toml"), filepath.Join(directory, "token")
	token := newToken(t, tokens)
	put(t, tokenFile, []byte(token+"\n"))
	address, stop, err := launch("127.0.0.1:0", directory, "--fsync", "none", "--tls-cert", of.certificateFile,
		"--tls-key", of.keyFile, "--tls-client-ca", authority.certificateFile, "--tokens", tokens)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	endpoint := "https://" + address
	name := flowmesh.WithServerName("flowmesh.test")
	inMemory := []flowmesh.ClientOption{
		flowmesh.WithCA(authority.certificate), flowmesh.WithCertificate(me.certificate, me.key), flowmesh.WithToken(token), name,
	}
	files := []flowmesh.ClientOption{
		flowmesh.WithCAFile(authority.certificateFile), flowmesh.WithCertificateFile(me.certificateFile, me.keyFile), flowmesh.WithTokenFile(tokenFile), name,
	}
	for _, options := range [][]flowmesh.ClientOption{inMemory, files} {
		if err := set(t, endpoint, options...); err != nil {
			t.Error(err)
		}
	}
	// Each of them is needed.
	for missing := range inMemory {
		options := append(append([]flowmesh.ClientOption{}, inMemory[:missing]...), inMemory[missing+1:]...)
		want := flowmesh.ErrUnavailable
		if missing == 2 {
			want = flowmesh.ErrUnauthenticated
		}
		if err := set(t, endpoint, options...); !errors.Is(err, want) {
			t.Errorf("without option %d: %v", missing, err)
		}
	}
	if err := set(t, endpoint, append(inMemory, flowmesh.WithCA(other.certificate))...); !errors.Is(err, flowmesh.ErrUnavailable) {
		t.Errorf("another authority: %v", err)
	}
	if err := set(t, endpoint, append(inMemory, flowmesh.WithCAFile(directory+"/missing"))...); !errors.Is(err, flowmesh.ErrUnavailable) || !strings.Contains(err.Error(), "missing") {
		t.Errorf("no file: %v", err)
	}
	// A token that the server knows by now is read again.
	put(t, tokenFile, []byte("fm_old"))
	in(t, endpoint, func(w *world) {
		settings, err := w.client.KV("acme", "test", "settings")
		w.must(err)
		if err := settings.Set(w.ctx, "key", []byte("value")); !errors.Is(err, flowmesh.ErrUnauthenticated) {
			w.Fatalf("an old token: %v", err)
		}
		put(t, tokenFile, []byte(token))
		w.must(settings.Set(w.ctx, "key", []byte("value")))
	}, files...)
}

// What options refuse, they refuse when the client is opened, and without repeating a secret.
func TestRefusedOptions(t *testing.T) {
	pem := []byte("no certificate at all")
	for what, refused := range map[string]struct {
		endpoint string
		option   flowmesh.ClientOption
	}{
		"token":            {"localhost:1", flowmesh.WithToken("to\x00ken")},
		"token file":       {"localhost:1", flowmesh.WithTokenFile("to\x00ken")},
		"CA file":          {"https://localhost:1", flowmesh.WithCAFile("\x00")},
		"pem must":         {"https://localhost:1", flowmesh.WithCA(pem)},
		"certificate file": {"https://localhost:1", flowmesh.WithCertificateFile("\x00", "key")},
		"key file":         {"https://localhost:1", flowmesh.WithCertificateFile("certificate", "\x00")},
		"certificate must": {"https://localhost:1", flowmesh.WithCertificate(pem, pem)},
		"server name":      {"https://localhost:1", flowmesh.WithServerName("\x00")},
		"unencrypted":      {"flowmesh.test:1", flowmesh.WithToken("token")},
	} {
		client, err := flowmesh.Open(refused.endpoint, refused.option)
		if err == nil {
			client.Close()
		}
		if !errors.Is(err, flowmesh.ErrInvalidArgument) || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "ken\"") {
			t.Errorf("%s: %v", what, err)
		}
	}
	client, err := flowmesh.Open("flowmesh.test:1", flowmesh.WithToken("token"), flowmesh.WithPlaintextToken(true))
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
}
