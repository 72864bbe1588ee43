package firestore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/firestore"
)

// watching returns a store whose requests see sees; an error of its is their
// answer.
func watching(t *testing.T, emulator string, see func(req any) error) *firestore.Store {
	t.Helper()
	s, err := firestore.New(t.Context(), firestore.Options{
		Project: "watched", Emulator: emulator,
		DialOptions: []grpc.DialOption{grpc.WithUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				if err := see(req); err != nil {
					return err
				}
				return invoke(ctx, method, req, reply, cc, opts...)
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
	return s
}

// testWrites: what has not changed is not written, and what is written fits.
func testWrites(t *testing.T, emulator string) {
	var writes, largest atomic.Int64
	s := watching(t, emulator, func(req any) error {
		if commit, ok := req.(*firestorepb.CommitRequest); ok {
			writes.Add(int64(len(commit.GetWrites())))
			for _, w := range commit.GetWrites() {
				largest.Store(max(largest.Load(), int64(len(w.GetUpdate().GetFields()["Bulk"].GetBytesValue()))))
			}
		}
		return nil
	})
	ctx, user := t.Context(), "user-"+connect.NewID()
	_, err := s.UpdateConnection(ctx, user, func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
		c.SetupID = "setup-" + user
		made := &connect.Setup{ID: c.SetupID, UserID: user}
		for i := range connect.MaxProjects { // each with much to say
			p := connect.Project{ID: fmt.Sprintf("customer-project-%04d", i), Name: fmt.Sprintf("Customer project %d", i)}
			for _, step := range []string{"enable-apis", "grant-access", "update-org-policies"} {
				p.Fail(step, connect.ProjectError{Code: connect.Forbidden, Message: fmt.Sprintf("Google refused to change project %d. Ask its owner for the role Project IAM Admin, then retry. This message is as long as messages are.", i)})
			}
			made.Projects = append(made.Projects, p)
		}
		return made, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := writes.Load(); n != 2 {
		t.Errorf("a new connection with a setup took %d writes, want 2", n)
	}
	if size := largest.Load(); size == 0 || size > 200<<10 {
		t.Errorf("1,000 projects take %d bytes of a document's 1 MiB", size)
	}
	for _, c := range []struct {
		what   string
		change int
		want   int64
	}{{"an update that changes nothing", 0, 0}, {"an update of the setup", 1, 1}} {
		writes.Store(0)
		if _, _, err := s.UpdateSetup(ctx, "setup-"+user, func(_ *connect.Connection, setup *connect.Setup) error { setup.Attempt += c.change; return nil }); err != nil {
			t.Fatal(err)
		}
		if n := writes.Load(); n != c.want {
			t.Errorf("%s took %d writes, want %d", c.what, n, c.want)
		}
	}
}

// testClosuresErrors: an error of a closure that looks like one of Firestore's
// is the closure's.
func testClosuresErrors(t *testing.T, emulator string) {
	s := watching(t, emulator, func(any) error { return nil })
	runs := 0
	_, err := s.UpdateConnection(t.Context(), "user", func(*connect.Connection, *connect.Setup) (*connect.Setup, error) {
		runs++
		return nil, status.Error(codes.Aborted, "mine")
	})
	if runs != 1 || status.Code(err) != codes.Aborted {
		t.Errorf("the closure ran %d times, and its error came back as %v", runs, err)
	}
}

func TestAWriteInBulkThatFailsIsReported(t *testing.T) {
	t.Parallel()
	s := watching(t, "127.0.0.1:1", func(req any) error {
		if _, bulk := req.(*firestorepb.BatchWriteRequest); bulk {
			return status.Error(codes.PermissionDenied, "no")
		}
		return nil
	})
	if err := s.SaveChanges(t.Context(), "user", []connect.Change{{ID: "a"}, {ID: "b"}}); connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("SaveChanges: %v, want Unavailable", err)
	}
	if err := s.SaveResources(t.Context(), "user", []connect.Resource{{ID: "a"}}); connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("SaveResources: %v, want Unavailable", err)
	}
}
