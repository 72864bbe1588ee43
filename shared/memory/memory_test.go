package memory_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/memory"
)

func TestStore(t *testing.T) {
	connecttest.TestStore(t, func(*testing.T) connect.Store { return memory.NewStore() })
}

func TestVault(t *testing.T) {
	connecttest.TestVault(t, func(*testing.T) connect.Vault { return memory.NewVault() })
}

func TestQueue(t *testing.T) {
	connecttest.TestQueue(t, func(t *testing.T, h http.Handler) connect.Queue {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		q := memory.NewQueue(memory.Options{
			URL:        func(function string) string { return server.URL + "/" + function },
			MinBackoff: 10 * time.Millisecond,
			MaxBackoff: 40 * time.Millisecond,
		})
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := q.Close(ctx); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		return q
	})
}
