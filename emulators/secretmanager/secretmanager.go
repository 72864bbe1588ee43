// Package secretmanager is as much of Google Secret Manager as a program needs
// that reads its secrets: AccessSecretVersion, over gRPC. Google offers no
// emulator of it.
package secretmanager

import (
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"net"
	"regexp"
	"strconv"
	"sync"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Version is a version of a secret.
type Version struct {
	Payload []byte
	// Refuse is the code that access to it is refused with, e.g.
	// FailedPrecondition for a disabled one; OK: it is given out.
	Refuse codes.Code
	// Damaged spoils the payload on its way.
	Damaged bool
}

// Server serves secrets. Its zero value has none.
type Server struct {
	secretmanagerpb.UnimplementedSecretManagerServiceServer
	grpc *grpc.Server

	mu       sync.Mutex
	versions map[string]Version
	latest   map[string]string // secret -> its newest version
}

// NewServer returns a server of these versions, by their full names,
// projects/P/secrets/S/versions/N.
func NewServer(versions map[string]Version) (*Server, error) {
	s := &Server{grpc: grpc.NewServer(), versions: maps.Clone(versions), latest: map[string]string{}}
	newest := map[string]int{}
	for name := range versions {
		parts := versionName.FindStringSubmatch(name)
		if parts == nil {
			return nil, fmt.Errorf("%q is no name of a secret's version", name)
		}
		if n, err := strconv.Atoi(parts[2]); err == nil && n > newest[parts[1]] {
			newest[parts[1]], s.latest[parts[1]] = n, name
		}
	}
	secretmanagerpb.RegisterSecretManagerServiceServer(s.grpc, s)
	return s, nil
}

// Serve serves until Stop.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Stop ends Serve.
func (s *Server) Stop() { s.grpc.Stop() }

var versionName = regexp.MustCompile(`^(projects/[^/]+/secrets/[^/]+)/versions/([^/]+)$`)

// AccessSecretVersion gives out a version's payload with its checksum.
func (s *Server) AccessSecretVersion(_ context.Context, r *secretmanagerpb.AccessSecretVersionRequest) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	parts := versionName.FindStringSubmatch(r.GetName())
	if parts == nil {
		return nil, status.Errorf(codes.InvalidArgument, "The provided Secret Version ID [%s] does not match the expected format [projects/*/secrets/*/versions/*]", r.GetName())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := r.GetName()
	if parts[2] == "latest" {
		name = s.latest[parts[1]]
	}
	v, found := s.versions[name]
	switch {
	case !found:
		return nil, status.Errorf(codes.NotFound, "Secret [%s] not found or has no versions.", parts[1])
	case v.Refuse != codes.OK:
		return nil, status.Errorf(v.Refuse, "Secret Version [%s] may not be accessed.", name)
	}
	sum := int64(crc32.Checksum(v.Payload, crc32.MakeTable(crc32.Castagnoli)))
	if v.Damaged {
		sum++
	}
	return &secretmanagerpb.AccessSecretVersionResponse{
		Name: name, Payload: &secretmanagerpb.SecretPayload{Data: v.Payload, DataCrc32C: &sum},
	}, nil
}
