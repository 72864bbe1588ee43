package secretmanager_test

import (
	"net"
	"strings"
	"testing"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	emulator "gcpconnect/emulators/secretmanager"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/secretmanager"
)

// start serves versions and returns a client of them.
func start(t *testing.T, versions map[string]emulator.Version) *secretmanager.Secrets {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := emulator.NewServer(versions)
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	secrets := secretmanager.New(option.WithEndpoint(listener.Addr().String()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	t.Cleanup(func() {
		if err := secrets.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
	})
	return secrets
}

func TestAccess(t *testing.T) {
	t.Parallel()
	const secret = "projects/p/secrets/s"
	payload := []byte("very-secret")
	tests := map[string]struct {
		version  string
		versions map[string]emulator.Version
		want     string
		code     connect.Code
		words    string
	}{
		"a secret is read": {secret + "/versions/2", map[string]emulator.Version{secret + "/versions/2": {Payload: payload}}, "very-secret", "", ""},
		"latest is the newest": {
			secret + "/versions/latest",
			map[string]emulator.Version{secret + "/versions/9": {Payload: []byte("old")}, secret + "/versions/10": {Payload: payload}}, "very-secret", "", "",
		},
		"a missing one is named": {secret + "/versions/latest", nil, "", connect.NotFound, secret + "/versions/latest does not exist"},
		"one that may not be read": {
			secret + "/versions/1", map[string]emulator.Version{secret + "/versions/1": {Payload: payload, Refuse: codes.PermissionDenied}},
			"", connect.Forbidden, "roles/secretmanager.secretAccessor",
		},
		"one that is disabled": {
			secret + "/versions/1", map[string]emulator.Version{secret + "/versions/1": {Payload: payload, Refuse: codes.FailedPrecondition}},
			"", connect.Precondition, "disabled or destroyed",
		},
		"a name that is none": {"secret", nil, "", connect.Invalid, "not the name"},
		"a payload that was damaged": {
			secret + "/versions/1", map[string]emulator.Version{secret + "/versions/1": {Payload: payload, Damaged: true}}, "", connect.Unavailable, "damaged",
		},
		"a service that fails": {
			secret + "/versions/1", map[string]emulator.Version{secret + "/versions/1": {Payload: payload, Refuse: codes.Internal}}, "", connect.Unavailable, "did not answer",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, number, err := start(t, tt.versions).Access(t.Context(), tt.version)
			if got.Reveal() != tt.want || connect.CodeOf(err) != tt.code || tt.code != "" && !strings.Contains(connect.MessageOf(err), tt.words) {
				t.Errorf("Access = %q, %v, want %q, %s with %q", got.Reveal(), err, tt.want, tt.code, tt.words)
			}
			if want := map[bool]string{true: "10", false: "2"}[strings.HasSuffix(tt.version, "latest")]; err == nil && number != want {
				t.Errorf("the version is %q, want %q", number, want)
			}
			if err != nil && strings.Contains(err.Error(), "very-secret") {
				t.Errorf("the error holds the secret: %v", err)
			}
		})
	}
}

func TestNothingIsConnectedUntilASecretIsAskedFor(t *testing.T) {
	t.Parallel()
	if err := secretmanager.New().Close(); err != nil {
		t.Error(err)
	}
}
