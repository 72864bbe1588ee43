package firestore

import (
	"context"
	"time"

	"cloud.google.com/go/firestore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gcpconnect/shared/connect"
)

// CreateLogin stores a login under its state's hash.
func (s *Store) CreateLogin(ctx context.Context, l *connect.Login) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := s.login(l.StateHash).Create(ctx, l)
	switch {
	case status.Code(err) == codes.AlreadyExists:
		return connect.Errorf(connect.Conflict, "This login exists already.").Because(err)
	case err != nil:
		return classify("create login", err)
	}
	return nil
}

// ConsumeLogin returns the login of that state and marks it used.
func (s *Store) ConsumeLogin(ctx context.Context, stateHash string, now time.Time) (*connect.Login, error) {
	var l *connect.Login
	err := s.transact(ctx, "consume login", func(t *firestore.Transaction) error {
		ref := s.login(stateHash)
		snapshots, err := t.GetAll([]*firestore.DocumentRef{ref})
		if err != nil {
			return err
		}
		l = new(connect.Login)
		if snapshots[0].Exists() {
			if err := snapshots[0].DataTo(l); err != nil {
				return refusal{err}
			}
		}
		// Expired ones are not deleted at once.
		if !snapshots[0].Exists() || !l.ConsumedAt.IsZero() || !now.Before(l.ExpireAt) {
			return refusal{connect.Errorf(connect.NotFound, "This login is unknown, used or expired.")}
		}
		l.ConsumedAt = now
		return t.Set(ref, l)
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}
