package etcdstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Access is how etcd is reached. Files are PEM.
type Access struct {
	Endpoints              []string
	CA, Cert, Key          string // files; "" for the system's CAs and no certificate
	Username, PasswordFile string
}

// A Client speaks to etcd, for any number of networks.
type Client = clientv3.Client

// Dial returns a client. It does not wait for a connection, which comes and goes.
func Dial(a Access) (*Client, error) {
	c := clientv3.Config{
		Endpoints: a.Endpoints, DialTimeout: 2 * time.Second, DialKeepAliveTime: 5 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		Username: a.Username, Logger: zap.NewNop(), // its errors come back to us
		MaxUnaryRetries: 10, DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(failFast)},
	}
	if a.PasswordFile != "" {
		b, err := os.ReadFile(a.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("etcd.passwordFile: %w", err)
		}
		c.Password = strings.TrimSpace(string(b))
	}
	secure := func(endpoint string) bool { return strings.HasPrefix(strings.ToLower(endpoint), "https:") }
	if cmp.Or(a.CA, a.Cert) != "" || slices.ContainsFunc(a.Endpoints, secure) {
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		if err := a.loadFiles(c.TLS); err != nil {
			return nil, err
		}
	}
	return clientv3.New(c)
}

func (a Access) loadFiles(c *tls.Config) error {
	if a.CA != "" {
		pem, err := os.ReadFile(a.CA)
		if err != nil {
			return fmt.Errorf("etcd.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("etcd.ca: %s holds no certificate in PEM form", a.CA)
		}
	}
	if a.Cert != "" {
		pair, err := tls.LoadX509KeyPair(a.Cert, a.Key)
		if err != nil {
			return fmt.Errorf("etcd.cert, etcd.key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return nil
}

// failFast has a call fail for what the connection fails for. By default a call
// waits for one until its deadline, which is then all that the error says.
func failFast(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return explain(cc, invoke(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...))
}

// explain says what a connection that ends may end for: of a client's certificate
// TLS 1.3 judges after the handshake, and the reason comes too late as often as not.
func explain(cc *grpc.ClientConn, err error) error {
	if status.Code(err) != codes.Unavailable {
		return err
	}
	text := err.Error()
	if strings.Contains(text, "handshake failed") || strings.Contains(text, "dial ") {
		return err
	}
	return fmt.Errorf("%w; if %s wants a certificate of its clients, does it take etcd.cert?", err, cc.Target())
}
