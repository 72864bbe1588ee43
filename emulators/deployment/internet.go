package deployment

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"time"
)

// Internet serves host names over TLS on this machine. Programs reach it through a
// proxy and a certificate that their environment names (Environment).
type Internet struct {
	trust string // file of the certificate
	pool  *x509.CertPool
	proxy string // URL
	front string // address of the server of all hosts

	mu      sync.Mutex
	hosts   map[string]http.Handler
	unknown []string // hosts that were asked for and do not exist

	servers []*http.Server
}

// newInternet starts an internet without hosts. Its certificate goes to a file.
func newInternet(certificate string) (*Internet, error) {
	authority, key, der, err := newAuthority()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("write certificate: %w", err)
	}
	n := &Internet{trust: certificate, pool: x509.NewCertPool(), hosts: map[string]http.Handler{}}
	n.pool.AddCert(authority)
	front := &http.Server{Handler: n, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	front.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return certify(authority, key, hello.ServerName)
	}}
	if n.front, err = n.serve(front, true); err != nil {
		return nil, err
	}
	address, err := n.serve(&http.Server{Handler: http.HandlerFunc(n.tunnel), ReadHeaderTimeout: time.Minute}, false)
	if err != nil {
		return nil, err
	}
	n.proxy = "http://" + address
	return n, nil
}

func (n *Internet) serve(server *http.Server, secure bool) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it lives until close
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	n.servers = append(n.servers, server)
	go func() {
		if secure {
			_ = server.ServeTLS(l, "", "") // until close
			return
		}
		_ = server.Serve(l) // likewise
	}()
	return l.Addr().String(), nil
}

func (n *Internet) close() {
	for _, s := range n.servers {
		_ = s.Close() // the process or the test ends
	}
}

// Environment leads a program to the internet.
func (n *Internet) Environment() []string {
	return []string{"HTTPS_PROXY=" + n.proxy, "SSL_CERT_FILE=" + n.trust}
}

// Client returns an HTTP client on the internet. It follows no redirect.
func (n *Internet) Client() *http.Client {
	proxy, _ := url.Parse(n.proxy) // our own
	return &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: n.pool, MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Serve has a host answer requests.
func (n *Internet) Serve(host string, h http.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[host] = h
}

// Unknown returns the hosts that programs asked for and that do not exist.
func (n *Internet) Unknown() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.unknown...)
}

func (n *Internet) find(hostport string) http.Handler {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[host]
	if h == nil {
		n.unknown = append(n.unknown, host)
	}
	return h
}

// ServeHTTP implements http.Handler.
func (n *Internet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := n.find(r.Host); h != nil {
		h.ServeHTTP(w, r)
		return
	}
	http.Error(w, "no such host", http.StatusMisdirectedRequest)
}

// tunnel connects a client of the proxy to the server of all hosts.
func (n *Internet) tunnel(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect || n.find(r.Host) == nil {
		http.Error(w, "no such host", http.StatusBadGateway)
		return
	}
	there, err := new(net.Dialer).DialContext(r.Context(), "tcp", n.front)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = there.Close() }()
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = here.Close() }()
	if _, err := io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(there, here)
		_ = there.Close()
	}()
	_, _ = io.Copy(here, there)
}

// newAuthority makes a certificate authority.
func newAuthority() (*x509.Certificate, *ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("make key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("make certificate: %w", err)
	}
	authority, err := x509.ParseCertificate(der)
	return authority, key, der, err
}

// certify makes a certificate of a host.
func certify(authority *x509.Certificate, key *ecdsa.PrivateKey, host string) (*tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: authority.NotAfter, DNSNames: []string{host},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("certify %s: %w", host, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// proxied passes requests on to an address on this machine. With plainHTTP2, it
// speaks HTTP/2 without TLS, as gRPC servers do.
func proxied(address string, plainHTTP2 bool, rewrite func(*httputil.ProxyRequest)) http.Handler {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	if plainHTTP2 {
		transport.Protocols.SetUnencryptedHTTP2(true)
	} else {
		transport.Protocols.SetHTTP1(true)
	}
	return &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
		Rewrite: func(r *httputil.ProxyRequest) {
			host := r.In.Host
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = host
			if rewrite != nil {
				rewrite(r)
			}
		},
	}
}
