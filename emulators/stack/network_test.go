package stack_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"

	"google.golang.org/grpc/test/bufconn"
)

// network is a network in memory. Inside a testing/synctest bubble everything
// that waits on it waits on the bubble's own clock, so that a setup of minutes
// takes milliseconds and is timed exactly.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	transport *http.Transport
}

func newNetwork() *network {
	n := &network{listeners: map[string]*listener{}}
	n.transport = &http.Transport{DialContext: n.dial, MaxIdleConnsPerHost: 100, DisableCompression: true}
	return n
}

// listener is one address of a network.
type listener struct {
	*bufconn.Listener
	address net.Addr
}

func (l *listener) Addr() net.Addr { return l.address }

// Listen implements stack.Network. The address is made up.
func (n *network) Listen(context.Context, string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{bufconn.Listen(1 << 20), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8000 + len(n.listeners)}}
	n.listeners[l.address.String()] = l
	return l, nil
}

// Transport implements stack.Network.
func (n *network) Transport() http.RoundTripper { return n.transport }

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[address]
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("nobody listens on %s", address)
	}
	return l.DialContext(ctx)
}
