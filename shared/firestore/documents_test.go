package firestore_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"cloud.google.com/go/firestore"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/connect/connecttest"
	store "gcpconnect/shared/firestore"
)

// testFields: what is stored outlives a release, and a field that is renamed in Go is another
// field in the database. Whoever changes this list writes how old documents
// are read.
func testFields(t *testing.T, emulator string) {
	ctx := t.Context()
	s, project := open(t, emulator)
	conn, err := grpc.NewClient(emulator, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := firestore.NewClient(ctx, project, option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.CreateLogin(ctx, connecttest.Login(t, "user", "state", "browser", time.Now())))
	_, err = s.UpdateConnection(ctx, "user", func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
		c.SetupID = "setup"
		return &connect.Setup{ID: "setup", UserID: "user", Projects: []connect.Project{{ID: "p"}}}, nil
	})
	must(err)
	at := time.Now()
	must(s.SaveChanges(ctx, "user", []connect.Change{{ID: "change"}, {
		ID: "whole", SetupID: "s", ProjectID: "p", UniqueID: "1", Role: "r", Member: "m", Before: "b", Unanswered: true, DoneAt: at, UndoneAt: at,
	}}))
	must(s.SaveResources(ctx, "user", []connect.Resource{{ID: "resource"}}))
	_, _, err = s.UpdateDiscovery(ctx, "user", "project", func(_ *connect.Connection, d *connect.Discovery) error {
		d.Run = "run"
		return nil
	})
	must(err)
	testEarlierConnection(t, s, raw)
	for path, want := range map[string][]string{
		"logins/" + connect.Hash("state"): {
			"BrowserHash", "ConfirmHash", "ConfirmedAt", "ConsumedAt", "CreatedAt", "Email", "ExpireAt", "ID", "KeyVersion", "Name", "OrgID", "ParkedAt",
			"ReleasedAt", "Scopes", "StateHash", "Subject", "Tx", "UserID", "Version",
		},
		"connections/user": {
			"Accounts", "Bulk", "BusyUntil", "Connected", "ConnectedAt", "Email", "Generation", "LeftAt", "LookAt", "Name", "NeedsReauth", "PreferredRoot", "Projects", "Scopes",
			"SetupID", "Stale", "StaleAt", "Subject", "Tokens", "Tx", "UpdatedAt", "UserID", "Version",
		},
		"setups/setup": {
			"Accounts", "AccountsAt", "Attempt", "Billing", "Bulk", "ChangesMade", "ChangesStood", "Code", "CreatedAt", "DisableAPIs", "DueAt", "Eligible",
			"EndedAt", "Executions", "ExpireAt", "Generation", "ID", "Interrupted", "Kind", "Lease", "MadeAccounts", "Message", "PreferredRoot", "Progress", "Projects",
			"Propagation", "RootProject", "Selected", "StalledSince", "StallsAt", "State", "Step", "Steps", "Tx", "UpdatedAt", "UserID", "Version", "Warnings",
		},
		"connections/user/changes/change": {"ID", "Kind", "PlannedAt", "State", "Target", "UserID", "Version"},
		"connections/user/changes/whole": {
			"Before", "DoneAt", "ID", "Kind", "Member", "PlannedAt", "ProjectID", "Role", "SetupID", "State", "Target", "Unanswered", "UndoneAt", "UniqueID",
			"UserID", "Version",
		},
		"connections/user/resources/resource": {
			"AssetType", "CreatedAt", "DiscoveredAt", "Endpoint", "ID", "Labels", "Name", "Network", "ProjectID", "Region", "Run", "State", "Type", "Version", "Zone",
		},
		"connections/user/discoveries/project": {
			"Attempt", "Counts", "DueAt", "FinishedAt", "Generation", "Lease", "Message", "PageToken", "ProjectID", "Run", "StallsAt", "StartedAt", "State", "Tx", "UserID", "Version",
		},
	} {
		snapshot, err := raw.Doc(path).Get(ctx)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(snapshot.Data()))); diff != "" {
			t.Errorf("fields of %s (-want +got):\n%s", path, diff)
		}
		if path == "setups/setup" && (snapshot.Data()["ExpireAt"] != nil || snapshot.Data()["Projects"] != nil) {
			t.Errorf("a setup without end is stored with %v: the TTL policy deletes what has a time, and projects belong into Bulk", snapshot.Data())
		}
	}
}

// testEarlierConnection: before schema version 3 a connection had its projects as
// fields, and a write keeps them.
func testEarlierConnection(t *testing.T, s *store.Store, raw *firestore.Client) {
	t.Helper()
	ctx := t.Context()
	projects := []connect.ConnectedProject{{ID: "p", Number: "1", Name: "P", Enabled: true}, {ID: "q"}}
	for _, write := range []func() error{
		func() error { return nil },
		func() error {
			_, _, err := s.UpdateDiscovery(ctx, "earlier", "p", func(c *connect.Connection, _ *connect.Discovery) error {
				c.NeedsReauth = true
				return nil
			})
			return err
		},
		func() error {
			_, err := s.UpdateConnection(ctx, "earlier", func(c *connect.Connection, _ *connect.Setup) (*connect.Setup, error) {
				c.Email = "other@example.com"
				return nil, nil
			})
			return err
		},
	} {
		stored := connect.Connection{UserID: "earlier", Generation: 1, Projects: projects, Version: 2}
		if _, err := raw.Doc("connections/earlier").Set(ctx, stored); err != nil {
			t.Fatal(err)
		}
		if err := write(); err != nil {
			t.Fatal(err)
		}
		c, err := s.Connection(ctx, "earlier")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(projects, c.Projects); diff != "" {
			t.Errorf("projects of an earlier schema (-want +got):\n%s", diff)
		}
		snapshot, err := raw.Doc("connections/earlier").Get(ctx)
		if err != nil {
			t.Fatal(err)
		}
		written := c.NeedsReauth || c.Email != ""
		if version := snapshot.Data()["Version"]; written != (version == int64(connect.SchemaVersion)) {
			t.Errorf("after a write (%t) the connection is of version %v", written, version)
		}
	}
}

func TestDatabaseThatIsDown(t *testing.T) {
	t.Parallel()
	s, err := store.New(t.Context(), store.Options{Project: "test", Emulator: "127.0.0.1:1", Timeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	_, err = s.Connection(t.Context(), "user")
	if connect.CodeOf(err) != connect.Unavailable {
		t.Errorf("reading failed with %v, want Unavailable", err)
	}
	ran := false
	_, _, err = s.UpdateSetup(t.Context(), "setup", func(*connect.Connection, *connect.Setup) error { ran = true; return nil })
	if connect.CodeOf(err) != connect.Unavailable || ran {
		t.Errorf("updating failed with %v, want Unavailable and no run of the closure", err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("two calls took %v to fail", took)
	}
}

func TestClassesOfErrors(t *testing.T) {
	t.Parallel()
	for code, want := range map[codes.Code]connect.Code{
		codes.Aborted: connect.Unavailable, codes.Unavailable: connect.Unavailable, codes.DeadlineExceeded: connect.Unavailable,
		codes.ResourceExhausted: connect.Unavailable, codes.Internal: connect.Unavailable, codes.Canceled: connect.Unavailable,
		codes.PermissionDenied: connect.Unavailable, codes.Unauthenticated: connect.Unavailable, codes.NotFound: connect.Unavailable,
		codes.AlreadyExists: connect.Conflict, codes.InvalidArgument: connect.Internal, codes.FailedPrecondition: connect.Internal,
	} {
		if got := connect.CodeOf(store.Classify("read", status.Error(code, "text"))); got != want {
			t.Errorf("%v is of class %q, want %q", code, got, want)
		}
	}
	if got := connect.CodeOf(store.Classify("commit", status.Error(codes.InvalidArgument, "The referenced transaction has expired or is no longer valid."))); got != connect.Unavailable {
		t.Errorf("a commit that was repeated is of class %q, want Unavailable", got)
	}
}
