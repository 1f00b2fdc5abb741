package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// certificate makes a self-signed pair and returns the paths of its files.
func certificate(t testing.TB) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, bytes []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
	}
	return write(t, "cert.pem", encode("CERTIFICATE", der), 0o644), write(t, "key.pem", encode("PRIVATE KEY", pkcs8), 0o600)
}

func TestDigestIsReadFromItsFile(t *testing.T) {
	for text, want := range map[string]string{
		"user:pass": "user:pass", "user:pass\n": "user:pass", "user:pass\r\n": "user:pass",
		"user:with:colons and space \n": "user:with:colons and space ",
	} {
		c := mustLoad(t, given{args: []string{"--digest-file", write(t, "digest", text, 0o400)}})
		if got, err := c.Digest(); got != want || err != nil {
			t.Errorf("Digest of %q is %q, %v", text, got, err)
		}
		if shown := fmt.Sprintf("%+v %#v", c, c); strings.Contains(shown, "pass") {
			t.Errorf("the configuration shows the secret: %s", shown)
		}
	}
	if got, err := mustLoad(t, given{}).Digest(); got != "" || err != nil {
		t.Errorf("Digest without a file is %q, %v", got, err)
	}
}

func TestADigestFileThatOthersCanReachIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o620, 0o602} {
		path := write(t, "digest", "user:hunter2\n", mode)
		got := refusals(t, given{args: []string{"--digest-file", path}})
		wantOne(t, got, fmt.Sprintf(`parse config: --digest-file "digest": mode %04o lets others at the password; type: chmod 600 digest`, mode))
	}
}

func TestABadDigestFileIsRefusedWithoutItsContent(t *testing.T) {
	for _, text := range []string{"", "\n", "hunter2", ":hunter2", "hunter2:", "user:hunter2\nuser:hunter2\n", "\nuser:hunter2\n", "user:hunter2\x00"} {
		got := refusals(t, given{args: []string{"--digest-file", write(t, "digest", text, 0o600)}})
		wantOne(t, got, `parse config: --digest-file "digest": not one line of user:password; write exactly that into it`)
	}
}

func TestADigestFileThatIsNone(t *testing.T) {
	dir := filepath.Dir(write(t, "x", "", 0o600))
	got := refusals(t, given{args: []string{"--digest-file", filepath.Join(dir, "none")}})
	wantOne(t, got, `parse config: --digest-file "none": stat: no such file or directory; name a file that this user can read`)
	got = refusals(t, given{args: []string{"--digest-file", dir + "/."}})
	wantOne(t, got, `parse config: --digest-file ".": not a regular file; name a file that this user can read`)
	got = refusals(t, given{env: []string{"TURNSTILE_ZOOKEEPER_DIGEST_FILE=user:hunter2"}})
	wantOne(t, got, `parse config: TURNSTILE_ZOOKEEPER_DIGEST_FILE: stat: no such file or directory; `+
		`name a file that holds one line, user:password; the secret itself does not belong here`)
}

func TestDigestSaysWhatChangedSinceLoad(t *testing.T) {
	path := write(t, "digest", "user:old\n", 0o600)
	c := mustLoad(t, given{args: []string{"--digest-file", path}})
	if err := os.WriteFile(path, []byte("user:new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Digest(); got != "user:new" || err != nil {
		t.Errorf("Digest is %q, %v; want the new one", got, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := c.Digest()
	if err == nil || !strings.Contains(err.Error(), "zookeeper.digest_file") || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Digest of a file made readable: %v", err)
	}
}

func TestNoTLSSettingMeansNoTLS(t *testing.T) {
	if got, err := mustLoad(t, given{}).TLS(); got != nil || err != nil {
		t.Errorf("TLS is %v, %v", got, err)
	}
}

func TestTLSIsBuiltFromItsFiles(t *testing.T) {
	cert, key := certificate(t)
	got, err := mustLoad(t, given{args: []string{"--tls-ca", cert, "--tls-cert", cert, "--tls-key", key, "--tls-server-name", "zk"}}).TLS()
	if err != nil {
		t.Fatal(err)
	}
	if got.RootCAs == nil || len(got.Certificates) != 1 || got.ServerName != "zk" || got.MinVersion != tls.VersionTLS12 || got.InsecureSkipVerify {
		t.Errorf("TLS is %+v", got)
	}
	got, err = mustLoad(t, given{args: []string{"--tls-server-name", "zk"}}).TLS()
	if err != nil || got == nil || got.RootCAs != nil || got.Certificates != nil {
		t.Errorf("TLS with a server name alone is %+v, %v; want the system's authorities", got, err)
	}
}

func TestTLSFilesAreCheckedAtLoad(t *testing.T) {
	cert, key := certificate(t)
	_, otherKey := certificate(t)
	junk := write(t, "junk.pem", "hello\n", 0o644)
	none := filepath.Join(filepath.Dir(junk), "none.pem")
	const (
		readable = "; name a file that this user can read"
		missing  = ": stat: no such file or directory" + readable
		apair    = "; name a PEM certificate and the key that belongs to it"
	)
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"cert alone", []string{"--tls-cert", cert}, `--tls-cert "cert.pem": a certificate without its key; set zookeeper.tls.key_file too`},
		{"key alone", []string{"--tls-key", key}, `--tls-key "key.pem": a key without its certificate; set zookeeper.tls.cert_file too`},
		{"no authorities", []string{"--tls-ca", none}, `--tls-ca "none.pem"` + missing},
		{"no certificate", []string{"--tls-cert", none, "--tls-key", key}, `--tls-cert "none.pem"` + missing},
		{"no key", []string{"--tls-cert", cert, "--tls-key", none}, `--tls-key "none.pem"` + missing},
		{"no pair", []string{"--tls-cert", cert, "--tls-key", otherKey},
			`--tls-cert "cert.pem": no pair with key_file "key.pem": private key does not match public key` + apair},
		{"junk as authorities", []string{"--tls-ca", junk}, `--tls-ca "junk.pem": no PEM certificate in it; name the authorities' certificates, in PEM`},
		{"a directory", []string{"--tls-ca", filepath.Dir(junk) + "/."}, `--tls-ca ".": not a regular file` + readable},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantOne(t, refusals(t, given{args: c.args}), "parse config: "+c.want)
		})
	}
}

func TestTLSSaysWhatChangedSinceLoad(t *testing.T) {
	cert, _ := certificate(t)
	c := mustLoad(t, given{args: []string{"--tls-ca", cert}})
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if got, err := c.TLS(); err == nil || got != nil || !strings.Contains(err.Error(), "zookeeper.tls.ca_file") {
		t.Errorf("TLS without its file is %v, %v", got, err)
	}
}
