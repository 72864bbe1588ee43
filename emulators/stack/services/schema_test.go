package services_test

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	apiv1 "cloud.google.com/go/firestore/apiv1"
	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack"
	"gcpconnect/emulators/stack/stacktest"
	"gcpconnect/functions"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/vault"
)

// schema1 is what the release with schema version 1 had stored of a setup of two
// projects, in the middle of it: create-service-accounts had failed three times.
//
//go:embed testdata/schema1.json
var schema1 []byte

// task1 is the task that the queue held then.
const task1 = `{"setup":"EQ5LY3UWAF2BNCW5Q47KGDL5CT","generation":1,"step":"create-service-accounts","attempt":0}`

// database is a client of the Firestore emulator that knows nothing of ours.
func database(t *testing.T, emulator string) *apiv1.Client {
	t.Helper()
	conn, err := grpc.NewClient(emulator, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	client, err := apiv1.NewClient(t.Context(), option.WithGRPCConn(conn))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// load writes stored documents as they are, as if they had been written a moment
// ago.
func load(t *testing.T, client *apiv1.Client, project string, stored []byte) {
	t.Helper()
	var documents map[string]json.RawMessage
	if err := json.Unmarshal(stored, &documents); err != nil {
		t.Fatal(err)
	}
	var all []*firestorepb.Document
	var newest time.Time
	for _, text := range documents {
		document := new(firestorepb.Document)
		if err := protojson.Unmarshal(text, document); err != nil {
			t.Fatal(err)
		}
		document.Name = "projects/" + project + "/databases/(default)/documents/" + document.GetName()
		all = append(all, document)
		if at := document.GetFields()["UpdatedAt"].GetTimestampValue().AsTime(); at.After(newest) {
			newest = at
		}
	}
	late := time.Since(newest)
	for _, document := range all {
		move(document.GetFields(), late)
		_, err := client.Commit(t.Context(), &firestorepb.CommitRequest{
			Database: "projects/" + project + "/databases/(default)",
			Writes:   []*firestorepb.Write{{Operation: &firestorepb.Write_Update{Update: document}}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// move moves all times but the zero one.
func move(fields map[string]*firestorepb.Value, by time.Duration) {
	for _, v := range fields {
		if at := v.GetTimestampValue(); at != nil && !at.AsTime().IsZero() {
			v.ValueType = &firestorepb.Value_TimestampValue{TimestampValue: timestamppb.New(at.AsTime().Add(by))}
		}
		move(v.GetMapValue().GetFields(), by)
	}
}

// asItWas enables the APIs that the setup of schema 1 had enabled.
func asItWas(t *testing.T) func(*google.Scenario) {
	t.Helper()
	var documents map[string]struct {
		Fields map[string]struct{ StringValue string }
	}
	if err := json.Unmarshal(schema1, &documents); err != nil {
		t.Fatal(err)
	}
	return func(s *google.Scenario) {
		server, err := google.NewServer(google.Options{Scenario: s})
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.Projects[1:] {
			p := &s.Projects[1+i]
			at, _ := server.Project(p.ID)
			p.EnabledAPIs = new(slices.Clone(at.EnabledAPIs))
			for _, d := range documents {
				if d.Fields["Kind"].StringValue == "enable_api" && d.Fields["ProjectID"].StringValue == p.ID {
					*p.EnabledAPIs = append(*p.EnabledAPIs, d.Fields["Target"].StringValue)
				}
			}
		}
	}
}

// restore puts the setup of schema 1 into the system's services, with tokens.
func restore(y *stacktest.System, environment map[string]string, client *apiv1.Client) {
	y.T.Helper()
	load(y.T.(*testing.T), client, environment["GOOGLE_CLOUD_PROJECT"], schema1)
	tokens, err := vault.New(vault.Options{
		Address: environment["VAULT_ADDR"], Mount: "gcpconnect",
		Auth: vault.Auth{RoleID: environment["VAULT_ROLE_ID"], SecretID: connect.Secret(environment["VAULT_SECRET_ID"])},
	})
	if err != nil {
		y.T.Fatal(err)
	}
	defer tokens.Close()
	access, err := y.Google.MintToken(googletest.Owner)
	if err != nil {
		y.T.Fatal(err)
	}
	const ref = "c6c289e49e9c05b2145860387b73bcb1/SITGNG3OPLNWIBLFX7ZPMNDXLO"
	if err := tokens.Delete(y.T.Context(), ref); err != nil { // of a test before
		y.T.Fatal(err)
	}
	_, err = tokens.Put(y.T.Context(), ref, connect.Token{Access: connect.Secret(access), Refresh: "1//r", Expiry: time.Now().Add(time.Hour)}, 0)
	if err != nil {
		y.T.Fatal(err)
	}
}

// deliverTask1 delivers the task that the queue held, as the queue does.
func deliverTask1(y *stacktest.System) int {
	y.T.Helper()
	return y.Send(http.MethodPost, functions.TaskPath("create-service-accounts"), task1, "X-CloudTasks-TaskName", "t", "Content-Type", "application/json").Status
}

func TestSchema_SetupOfVersion1Completes(t *testing.T) {
	t.Parallel()
	environment := stacktest.SharedServices(t).Environment()
	client := database(t, environment["FIRESTORE_EMULATOR_HOST"])
	const id = "EQ5LY3UWAF2BNCW5Q47KGDL5CT"
	stacktest.RunServices(t, stack.Options{Environment: environment}, googletest.Scenario(2, asItWas(t)), func(y *stacktest.System) {
		restore(y, environment, client)
		before, err := y.User.Status(t.Context(), id)
		if err != nil || before.State != "PROGRESS" || before.Step != 3 || len(before.Projects) != 2 {
			t.Fatalf("the setup is %s, %v", stacktest.Show(before), err)
		}
		if status := deliverTask1(y); status/100 != 2 {
			t.Fatalf("its task is answered %d", status)
		}
		y.WantSuccess(y.Await(id), 2, 2)
		y.WantDiscovered("project-001", "project-002")
		y.Call(http.StatusOK, http.MethodPost, "/api/gcp/force-disconnect", nil, nil)
	})
}

// While a release is deployed, instances of the one before meet what the new
// one has written. They leave it alone, and the queue brings the task again.
func TestSchema_LaterVersionIsNotTouched(t *testing.T) {
	t.Parallel()
	environment := stacktest.SharedServices(t).Environment()
	client := database(t, environment["FIRESTORE_EMULATOR_HOST"])
	later := bytes.ReplaceAll(schema1, []byte(`"Version":{"integerValue":"1"}`), []byte(`"Version":{"integerValue":"99"}`))
	stacktest.RunServices(t, stack.Options{Environment: environment}, googletest.Scenario(2), func(y *stacktest.System) {
		load(t, client, environment["GOOGLE_CLOUD_PROJECT"], later)
		if status := deliverTask1(y); status != http.StatusServiceUnavailable {
			t.Errorf("the task of a later release's setup is answered %d, want 503", status)
		}
		y.Call(http.StatusServiceUnavailable, http.MethodGet, "/gcp/setup/status/EQ5LY3UWAF2BNCW5Q47KGDL5CT", nil, nil)
		load(t, client, environment["GOOGLE_CLOUD_PROJECT"], later)
		document, err := client.GetDocument(t.Context(), &firestorepb.GetDocumentRequest{
			Name: "projects/" + environment["GOOGLE_CLOUD_PROJECT"] + "/databases/(default)/documents/setups/EQ5LY3UWAF2BNCW5Q47KGDL5CT",
		})
		if err != nil || document.GetFields()["Version"].GetIntegerValue() != 99 {
			t.Errorf("the setup is of version %d, %v", document.GetFields()["Version"].GetIntegerValue(), err)
		}
	})
}
