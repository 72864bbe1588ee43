package firestore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gcpconnect/shared/connect"
)

// classify decides what an error of Firestore means. A document that is not
// there is no error of Firestore's here (see Store.read), so NotFound says
// that the database is missing.
func classify(doing string, err error) error {
	cause := fmt.Errorf("%s: %w", doing, err)
	late := connect.Errorf(connect.Unavailable, "The database did not answer in time. Try again in a moment.").Because(cause)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return late
	}
	switch status.Code(err) {
	case codes.DeadlineExceeded, codes.Canceled:
		return late
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented:
		if lost(err) {
			return late
		}
		// A document that is too large, an index that is missing: the same
		// call will never work.
		return connect.Errorf(connect.Internal, "The database refused a request.").Because(cause)
	case codes.AlreadyExists:
		return connect.Errorf(connect.Conflict, "This exists already.").Because(cause)
	case codes.Aborted:
		return connect.Errorf(connect.Unavailable, "Others are changing the same data. Try again in a moment.").Because(cause)
	case codes.NotFound, codes.PermissionDenied, codes.Unauthenticated:
		// A deployment that is not finished: nothing is lost once it is mended.
		return connect.Errorf(connect.Unavailable, "The database cannot be used at present. Try again later.").Because(cause)
	}
	return connect.Errorf(connect.Unavailable, "The database is not available. Try again in a moment.").Because(cause)
}

// lost reports whether an error says that a commit's outcome is not known: the
// client repeats a commit whose answer was lost, and the transaction is over
// then, whether it took effect or not. Firestore has words for it only, and its
// emulator others.
func lost(err error) bool {
	if status.Code(err) != codes.InvalidArgument {
		return false
	}
	text := err.Error()
	return strings.Contains(text, "transaction has expired or is no longer valid") || strings.Contains(text, "Transaction is invalid or closed")
}
