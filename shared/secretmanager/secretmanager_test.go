package secretmanager_test

import (
	"context"
	"hash/crc32"
	"net"
	"strings"
	"testing"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/secretmanager"
)

// server is as much of Secret Manager as is used, over gRPC: there is no
// emulator of it.
type server struct {
	secretmanagerpb.UnimplementedSecretManagerServiceServer
	answers map[string]any // by version: the payload, or a status code
}

func (s *server) AccessSecretVersion(_ context.Context, r *secretmanagerpb.AccessSecretVersionRequest) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	switch answer := s.answers[r.GetName()].(type) {
	case codes.Code:
		return nil, status.Error(answer, "as the test wants it")
	case string:
		sum := int64(crc32.Checksum([]byte(answer), crc32.MakeTable(crc32.Castagnoli)))
		data, damaged := strings.CutPrefix(answer, "damaged ")
		if damaged {
			sum++
		}
		return &secretmanagerpb.AccessSecretVersionResponse{Name: r.GetName(), Payload: &secretmanagerpb.SecretPayload{Data: []byte(data), DataCrc32C: &sum}}, nil
	}
	return nil, status.Errorf(codes.NotFound, "Secret [%s] not found or has no versions.", r.GetName())
}

// start serves answers and returns a client of them.
func start(t *testing.T, answers map[string]any) *secretmanager.Secrets {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	secretmanagerpb.RegisterSecretManagerServiceServer(g, &server{answers: answers})
	go g.Serve(listener)
	secrets := secretmanager.New(option.WithEndpoint(listener.Addr().String()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	t.Cleanup(func() {
		if err := secrets.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
	})
	return secrets
}

func TestAccess(t *testing.T) {
	t.Parallel()
	const version = "projects/p/secrets/s/versions/latest"
	tests := map[string]struct {
		answer any
		want   string
		code   connect.Code
		words  string
	}{
		"a secret is read":           {"very-secret", "very-secret", "", ""},
		"a missing one is named":     {nil, "", connect.NotFound, version + " does not exist"},
		"one that may not be read":   {codes.PermissionDenied, "", connect.Forbidden, "roles/secretmanager.secretAccessor"},
		"one that is disabled":       {codes.FailedPrecondition, "", connect.Precondition, "disabled or destroyed"},
		"a name that is none":        {codes.InvalidArgument, "", connect.Invalid, "not the name"},
		"a payload that was damaged": {"damaged very-secret", "", connect.Unavailable, "damaged"},
		"a service that fails":       {codes.Internal, "", connect.Unavailable, "did not answer"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := start(t, map[string]any{version: tt.answer}).Access(t.Context(), version)
			if got.Reveal() != tt.want || connect.CodeOf(err) != tt.code || tt.code != "" && !strings.Contains(connect.MessageOf(err), tt.words) {
				t.Errorf("Access = %q, %v, want %q, %s with %q", got.Reveal(), err, tt.want, tt.code, tt.words)
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
