package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
)

// load builds the client's settings: nil when TLS is not asked for.
func (t TLS) load() (*tls.Config, []*Error) {
	if t == (TLS{}) {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	var errs []*Error
	var err *Error
	if c.RootCAs, err = t.roots(); err != nil {
		errs = append(errs, err)
	}
	if c.Certificates, err = t.pair(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return c, nil
}

// roots are the authorities of ca_file; nil means the system's.
func (t TLS) roots() (*x509.CertPool, *Error) {
	const key = "zookeeper.tls.ca_file"
	if t.CAFile == "" {
		return nil, nil
	}
	pem, err := readRegular(key, t.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fileError(key, t.CAFile, "no PEM certificate in it", "name the authorities' certificates, in PEM")
	}
	return pool, nil
}

// pair is this agent's own certificate, if it has one.
func (t TLS) pair() ([]tls.Certificate, *Error) {
	const certKey, keyKey = "zookeeper.tls.cert_file", "zookeeper.tls.key_file"
	switch {
	case t.CertFile == "" && t.KeyFile == "":
		return nil, nil
	case t.KeyFile == "":
		return nil, fileError(certKey, t.CertFile, "a certificate without its key", "set "+keyKey+" too")
	case t.CertFile == "":
		return nil, fileError(keyKey, t.KeyFile, "a key without its certificate", "set "+certKey+" too")
	}
	cert, err := readRegular(certKey, t.CertFile)
	if err != nil {
		return nil, err
	}
	key, err := readRegular(keyKey, t.KeyFile)
	if err != nil {
		return nil, err
	}
	pair, fault := tls.X509KeyPair(cert, key)
	if fault != nil {
		e := fileError(certKey, t.CertFile, fmt.Sprintf("no pair with key_file %q: %s", t.KeyFile, strings.TrimPrefix(fault.Error(), "tls: ")),
			"name a PEM certificate and the key that belongs to it")
		e.also = keyKey
		return nil, e
	}
	return []tls.Certificate{pair}, nil
}

// readDigest reads user:password from the file; "" when there is no file. No
// error repeats what is in it.
func readDigest(path string) (string, *Error) {
	const key = "zookeeper.digest_file"
	if path == "" {
		return "", nil
	}
	text, err := readPrivate(key, path)
	if err != nil {
		if strings.Contains(path, ":") {
			// It may well be the secret itself, typed where its file belongs.
			err.Value = ""
			err.Hint = "name a file that holds one line, user:password; the secret itself does not belong here"
		}
		return "", err
	}
	line := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	user, password, ok := strings.Cut(line, ":")
	if !ok || user == "" || password == "" || strings.ContainsFunc(line, unicode.IsControl) {
		return "", fileError(key, path, "not one line of user:password", "write exactly that into it")
	}
	return line, nil
}

// readPrivate reads a file that nobody but its owner may read or replace. The mode
// is that of the file that is read: looked at through the open descriptor.
func readPrivate(key, path string) ([]byte, *Error) {
	return read(key, path, func(info os.FileInfo) *Error {
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			return fileError(key, path, fmt.Sprintf("mode %04o lets others at the password", mode), "type: chmod 600 "+path)
		}
		return nil
	})
}

func readRegular(key, path string) ([]byte, *Error) {
	return read(key, path, func(os.FileInfo) *Error { return nil })
}

// read reads a small regular file that passes check. It looks before it opens,
// because opening a pipe would wait for a writer.
func read(key, path string, check func(os.FileInfo) *Error) ([]byte, *Error) {
	const hint = "name a file that this user can read"
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileError(key, path, reason(err), hint)
	}
	if !info.Mode().IsRegular() {
		return nil, fileError(key, path, "not a regular file", hint)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(key, path, reason(err), hint)
	}
	defer func() { _ = f.Close() }() // only read
	if info, err = f.Stat(); err != nil {
		return nil, fileError(key, path, reason(err), hint)
	}
	if e := check(info); e != nil {
		return nil, e
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fileError(key, path, reason(err), hint)
	}
	if len(text) > maxFile {
		return nil, fileError(key, path, "larger than 1 MiB", "name the right file")
	}
	return text, nil
}

func fileError(key, path, what, hint string) *Error {
	return &Error{Key: key, Value: strconv.Quote(path), Problem: what, Hint: hint}
}
