package firestore_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	"gcpconnect/shared/firestore"
)

// losing returns a store whose next commit takes effect while its answer is
// lost: the client gets that code.
func losing(t *testing.T, emulator string, code codes.Code) (s *firestore.Store, lose *atomic.Bool) {
	t.Helper()
	lose = new(atomic.Bool)
	s, err := firestore.New(t.Context(), firestore.Options{
		Project: "lost-" + strings.ToLower(code.String()), Emulator: emulator,
		DialOptions: []grpc.DialOption{grpc.WithUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				err := invoke(ctx, method, req, reply, cc, opts...)
				if _, commit := req.(*firestorepb.CommitRequest); commit && err == nil && lose.Swap(false) {
					return status.Error(code, "the answer was lost")
				}
				return err
			})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, lose
}

// testLostAnswers: what took effect is reported as such, and takes effect once.
func testLostAnswers(t *testing.T, emulator string) {
	for _, code := range []codes.Code{codes.Unavailable, codes.Aborted} {
		t.Run(code.String(), func(t *testing.T) {
			s, lose := losing(t, emulator, code)
			ctx, user := t.Context(), "user-"+connect.NewID()
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			if code == codes.Unavailable { // a single write is not repeated after an abort
				lose.Store(true)
				must(s.CreateLogin(ctx, connecttest.Login(t, user, "state", "browser", time.Now())))
				lose.Store(true)
				_, err := s.ConsumeLogin(ctx, connect.Hash("state"), time.Now())
				must(err)
				_, err = s.ConsumeLogin(ctx, connect.Hash("state"), time.Now())
				if connect.CodeOf(err) != connect.NotFound {
					t.Errorf("consuming a login twice: %v", err)
				}
			}
			runs := 0
			lose.Store(true)
			c, err := s.UpdateConnection(ctx, user, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
				runs++
				c.Generation++
				c.SetupID = "setup-" + user
				return &connect.Setup{ID: c.SetupID, UserID: user}, nil
			})
			must(err)
			if c.Generation != 1 || runs != 1 {
				t.Errorf("the connection has generation %d after %d runs", c.Generation, runs)
			}
			lose.Store(true)
			_, setup, err := s.UpdateSetup(ctx, "setup-"+user, func(_ *connect.Connection, setup *connect.Setup) error { setup.Attempt++; return nil })
			must(err)
			if setup.Attempt != 1 {
				t.Errorf("the setup has attempt %d", setup.Attempt)
			}
			lose.Store(true)
			_, d, err := s.UpdateDiscovery(ctx, user, "project", func(_ *connect.Connection, d *connect.Discovery) error { d.Attempt++; return nil })
			must(err)
			if d.Attempt != 1 {
				t.Errorf("the discovery has attempt %d", d.Attempt)
			}
		})
	}
}
