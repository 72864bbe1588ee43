// Package secretmanager reads the platform's own secrets from Google Secret
// Manager, where a configuration value names one instead of holding it.
package secretmanager

import (
	"context"
	"fmt"
	"hash/crc32"
	"path"
	"sync"
	"time"

	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gcpconnect/shared/connect"
)

// accessTimeout bounds the reading of one secret, the client's own retries
// included. A program that cannot read its secrets does not start.
const accessTimeout = 15 * time.Second

// Secrets reads secrets. Its client is made when the first one is asked for:
// a deployment that names none needs no credentials.
type Secrets struct {
	options []option.ClientOption
	once    sync.Once
	client  *secretmanager.Client
	err     error
}

// New returns Secrets. The options are for the client; none are needed on
// Google Cloud.
func New(options ...option.ClientOption) *Secrets { return &Secrets{options: options} }

// Access returns the payload of a secret's version, e.g.
// projects/P/secrets/S/versions/latest, and the version's number. The payload's checksum is compared
// (https://cloud.google.com/secret-manager/docs/data-integrity). Errors say
// what to do, and are NotFound, Forbidden, Precondition (disabled or
// destroyed) or Unavailable.
func (s *Secrets) Access(ctx context.Context, version string) (payload connect.Secret, number string, err error) {
	s.once.Do(func() {
		// The client outlives the context of the one who asked first.
		s.client, s.err = secretmanager.NewClient(context.WithoutCancel(ctx), s.options...)
	})
	if s.err != nil {
		return "", "", connect.Errorf(connect.Unavailable, "Secret Manager cannot be asked: there are no credentials for it.").Because(s.err)
	}
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	answer, err := s.client.AccessSecretVersion(ctx, &secretmanagerpb.AccessSecretVersionRequest{Name: version})
	if err != nil {
		return "", "", classify(version, err)
	}
	data := answer.GetPayload()
	if sum := crc32.Checksum(data.GetData(), crc32.MakeTable(crc32.Castagnoli)); data.DataCrc32C != nil && int64(sum) != data.GetDataCrc32C() {
		return "", "", connect.Errorf(connect.Unavailable, "%s arrived damaged.", version)
	}
	return connect.Secret(data.GetData()), path.Base(answer.GetName()), nil
}

// classify decides what an error of Secret Manager means.
func classify(version string, err error) error {
	cause := fmt.Errorf("access %s: %w", version, err)
	switch status.Code(err) {
	case codes.NotFound:
		return connect.Errorf(connect.NotFound, "%s does not exist. Create the secret and add a version to it.", version).Because(cause)
	case codes.PermissionDenied, codes.Unauthenticated:
		return connect.Errorf(connect.Forbidden, "%s may not be read. Grant roles/secretmanager.secretAccessor on it to the service account that runs this.", version).Because(cause)
	case codes.FailedPrecondition:
		return connect.Errorf(connect.Precondition, "%s is disabled or destroyed. Enable it, or name another version.", version).Because(cause)
	case codes.InvalidArgument:
		return connect.Errorf(connect.Invalid, "%s is not the name of a secret's version.", version).Because(cause)
	}
	return connect.Errorf(connect.Unavailable, "%s could not be read: Secret Manager did not answer.", version).Because(cause)
}

// Close closes the client, if one was made.
func (s *Secrets) Close() error {
	if s.client == nil {
		return nil
	}
	return s.client.Close()
}
