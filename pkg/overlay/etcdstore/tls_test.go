package etcdstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// An authority signs certificates; its own is in the file ca.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	ca   string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.ca, _ = a.issue(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue writes a certificate and its key. The first of all is the authority's own.
func (a *authority) issue(t *testing.T, template *x509.Certificate) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: "test"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if a.cert == nil {
		a.cert, a.key = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func (a *authority) server(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	return a.issue(t, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, // its gateway is a client of it
	})
}

func (a *authority) client(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	return a.issue(t, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// An etcd that wants certificates has them from who should be let in, and trusts
// and is trusted by nobody else.
func TestTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	cert, key := ours.server(t)
	good := Access{CA: ours.ca}
	good.Cert, good.Key = ours.client(t)
	good.Endpoints = []string{start(t, "https", "--cert-file", cert, "--key-file", key, "--client-cert-auth", "--trusted-ca-file", ours.ca)}
	ready(t, good)

	cases := map[string]struct {
		change func(*Access)
		want   string
	}{
		"right":               {func(*Access) {}, ""},
		"another authority":   {func(a *Access) { a.CA = others.ca }, "certificate signed by unknown authority"},
		"the system's":        {func(a *Access) { a.CA = "" }, "certificate signed by unknown authority"},
		"no certificate":      {func(a *Access) { a.Cert, a.Key = "", "" }, "certificate"},
		"another's":           {func(a *Access) { a.Cert, a.Key = others.client(t) }, "certificate"},
		"no TLS":              {func(a *Access) { a.Endpoints = []string{strings.Replace(a.Endpoints[0], "https", "http", 1)} }, "etcd"},
		"no such CA":          {func(a *Access) { a.CA = "/nowhere/ca.pem" }, "etcd.ca: open /nowhere/ca.pem: no such file"},
		"no such certificate": {func(a *Access) { a.Cert = "/nowhere/cert.pem" }, "etcd.cert, etcd.key: open /nowhere/cert.pem: no such file"},
		"no such key":         {func(a *Access) { a.Key = "/nowhere/key.pem" }, "etcd.cert, etcd.key: open /nowhere/key.pem: no such file"},
		"a key as CA":         {func(a *Access) { a.CA = a.Key }, "holds no certificate in PEM form"},
		"another's key":       {func(a *Access) { _, a.Key = ours.client(t) }, "private key does not match"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a := good
			c.change(&a)
			judge(t, a, c.want)
		})
	}
}

// An etcd with users lets in who has the password, to what is theirs.
func TestAuth(t *testing.T) {
	a := Access{Endpoints: []string{start(t, "http")}}
	client := ready(t, a)
	for _, do := range []func() error{
		func() error { _, err := client.UserAdd(t.Context(), "root", "secret"); return err },
		func() error { _, err := client.UserGrantRole(t.Context(), "root", "root"); return err },
		func() error { _, err := client.RoleAdd(t.Context(), "overlay"); return err },
		func() error {
			_, err := client.RoleGrantPermission(t.Context(), "overlay", "/test/", clientv3.GetPrefixRangeEnd("/test/"), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := client.UserAdd(t.Context(), "host", "word"); return err },
		func() error { _, err := client.UserGrantRole(t.Context(), "host", "overlay"); return err },
		func() error { _, err := client.AuthEnable(t.Context()); return err },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "password")
	for password, want := range map[string]string{"word\n": "", "wrong": "authentication failed"} {
		if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
		judge(t, Access{Endpoints: a.Endpoints, Username: "host", PasswordFile: file}, want)
	}
	judge(t, a, "user name is empty")
	judge(t, Access{Endpoints: a.Endpoints, Username: "host", PasswordFile: "/nowhere"}, "etcd.passwordFile: open /nowhere: no such file")
}

// judge looks by a store, as the daemon does, and compares the error.
func judge(t *testing.T, a Access, want string) {
	t.Helper()
	client, err := Dial(a)
	if err == nil {
		defer func() { _ = client.Close() }()
		patience := testnet.Patience
		if want != "" {
			patience = 3 * time.Second // etcd's client tries again for as long as it may
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		s := member(t, client, 1)
		if _, _, err = s.Look(ctx); err == nil {
			_, err = s.Names(ctx, map[string]string{"c/eth0": "x"})
		}
	}
	switch {
	case want == "" && err != nil:
		t.Errorf("found error %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("found error %v, want %q in it", err, want)
	}
}
