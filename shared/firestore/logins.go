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

// ConsumeLogin returns the login of that state and marks it used: the write
// holds only if nobody has written since the read. A transaction would do the
// same and lock; of many callers with one state each would wait for the others.
func (s *Store) ConsumeLogin(ctx context.Context, stateHash string, now time.Time) (*connect.Login, error) {
	errUsed := connect.Errorf(connect.NotFound, "This login is unknown, used or expired.")
	ref := s.login(stateHash)
	snapshot, err := s.read(ctx, "login", ref)
	if err != nil {
		return nil, err
	}
	l := new(connect.Login)
	if snapshot.Exists() {
		if err := snapshot.DataTo(l); err != nil {
			return nil, connect.Errorf(connect.Internal, "This login cannot be read.").Because(err)
		}
	}
	// Expired ones are not deleted at once.
	if !snapshot.Exists() || !l.ConsumedAt.IsZero() || !now.Before(l.ExpireAt) {
		return nil, errUsed
	}
	l.ConsumedAt = now
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = ref.Update(ctx, []firestore.Update{{Path: "ConsumedAt", Value: now}}, firestore.LastUpdateTime(snapshot.UpdateTime))
	switch status.Code(err) {
	case codes.OK:
		return l, nil
	case codes.FailedPrecondition, codes.NotFound: // used, or deleted, since it was read
		return nil, errUsed.Because(err)
	}
	return nil, classify("consume login", err)
}
