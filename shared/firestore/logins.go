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
	call := connect.NewID()
	ref := s.login(l.StateHash)
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := ref.Create(limited, loginDocument{*l, call})
	switch {
	case status.Code(err) == codes.AlreadyExists:
		if _, ours, failed := s.readLogin(ctx, ref, call); failed != nil || ours {
			return failed
		}
		return connect.Errorf(connect.Conflict, "This login exists already.").Because(err)
	case err != nil:
		return classify("create login", err)
	}
	return nil
}

// readLogin reads a login, and whether that call wrote it last: the answer to
// a write can be lost, and the client then repeats the write upon itself.
func (s *Store) readLogin(ctx context.Context, ref *firestore.DocumentRef, call string) (snapshot *firestore.DocumentSnapshot, ours bool, err error) {
	if snapshot, err = s.read(ctx, "login", ref); err != nil || !snapshot.Exists() {
		return snapshot, false, err
	}
	tx, _ := snapshot.DataAt("Tx") // documents of the first release have none
	return snapshot, tx == call, nil
}

// ConsumeLogin returns the login of that state and marks it used: the write
// holds only if nobody has written since the read. A transaction would do the
// same and lock; of many callers with one state each would wait for the others.
func (s *Store) ConsumeLogin(ctx context.Context, stateHash string, now time.Time) (*connect.Login, error) {
	errUsed := connect.Errorf(connect.NotFound, "This login is unknown, used or expired.")
	call := connect.NewID()
	ref := s.login(stateHash)
	snapshot, _, err := s.readLogin(ctx, ref, call)
	if err != nil {
		return nil, err
	}
	var l loginDocument
	if snapshot.Exists() {
		if err := snapshot.DataTo(&l); err != nil {
			return nil, connect.Errorf(connect.Internal, "This login cannot be read.").Because(err)
		}
	}
	// Expired ones are not deleted at once.
	if !snapshot.Exists() || !l.ConsumedAt.IsZero() || !now.Before(l.ExpireAt) {
		return nil, errUsed
	}
	l.ConsumedAt = now
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = ref.Update(limited, []firestore.Update{{Path: "ConsumedAt", Value: now}, {Path: "Tx", Value: call}}, firestore.LastUpdateTime(snapshot.UpdateTime))
	switch status.Code(err) {
	case codes.OK:
		return &l.Login, nil
	case codes.FailedPrecondition, codes.NotFound: // written, or deleted, since it was read
		if _, ours, failed := s.readLogin(ctx, ref, call); failed != nil {
			return nil, failed
		} else if ours {
			return &l.Login, nil
		}
		return nil, errUsed.Because(err)
	}
	return nil, classify("consume login", err)
}
