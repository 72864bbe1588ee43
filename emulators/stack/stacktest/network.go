package stacktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// network is a network of net.Pipes. Inside a testing/synctest bubble
// everything that waits on it waits on the bubble's own clock, so that a setup
// of minutes takes milliseconds and is timed exactly.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	transport *http.Transport
	outward   http.RoundTripper // what the functions send through
}

func newNetwork() *network {
	n := &network{listeners: map[string]*listener{}}
	n.transport = &http.Transport{DialContext: n.dial, MaxIdleConnsPerHost: 100, DisableCompression: true}
	n.outward = n.transport
	return n
}

// Listen implements stack.Network. The address is made up.
func (n *network) Listen(context.Context, string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{
		address: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8000 + len(n.listeners)},
		dialed:  make(chan net.Conn), closed: make(chan struct{}),
	}
	n.listeners[l.address.String()] = l
	return l, nil
}

// Transport implements stack.Network.
func (n *network) Transport() http.RoundTripper { return n.outward }

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[address]
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("connection to %s refused", address)
	}
	near, far := net.Pipe()
	select {
	case l.dialed <- far:
		return near, nil
	case <-l.closed:
		return nil, fmt.Errorf("connection to %s refused", address)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// listener is one address of a network.
type listener struct {
	address net.Addr
	dialed  chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *listener) Addr() net.Addr { return l.address }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.dialed:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// TokenEndpoint is a transport whose answers of Google's token endpoint a test can
// change.
type TokenEndpoint struct {
	next http.RoundTripper

	mu     sync.Mutex
	change func(answer map[string]any) // nil: none
}

// CloseIdleConnections closes the connections that are not in use.
func (e *TokenEndpoint) CloseIdleConnections() {
	if closer, ok := e.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// Tamper changes answers of the token endpoint from now on. Nil ends that.
func (e *TokenEndpoint) Tamper(change func(answer map[string]any)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.change = change
}

// RoundTrip implements http.RoundTripper.
func (e *TokenEndpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := e.next.RoundTrip(r)
	e.mu.Lock()
	change := e.change
	e.mu.Unlock()
	if err != nil || r.URL.Path != "/token" || change == nil {
		return resp, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, err
	}
	change(answer)
	content, err := json.Marshal(answer)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(content)), int64(len(content))
	resp.Header.Del("Content-Length")
	return resp, err
}
