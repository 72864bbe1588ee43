package connect

import (
	"context"
	"errors"
	"log/slog"
	"slices"
)

type aboutKey struct{}

// About returns a context for work that is about these things: a setup, a step,
// a project. Whatever is logged within it names them, however far from here
// (telemetry.NewLogger writes them). A thing takes the place of one of the same
// name that was set before.
func About(ctx context.Context, things ...slog.Attr) context.Context {
	all := slices.DeleteFunc(slices.Clone(Subject(ctx)), func(old slog.Attr) bool {
		return slices.ContainsFunc(things, func(a slog.Attr) bool { return a.Key == old.Key })
	})
	return context.WithValue(ctx, aboutKey{}, append(all, things...))
}

// Subject returns what the work within ctx is about.
func Subject(ctx context.Context) []slog.Attr {
	things, _ := ctx.Value(aboutKey{}).([]slog.Attr)
	return things
}

// Within returns err with the attributes of ctx, so that a caller that logs it
// without ctx can say what it is about.
func Within(ctx context.Context, err error) error {
	if things := Subject(ctx); err != nil && len(things) > 0 {
		return &subjectError{err, things}
	}
	return err
}

type subjectError struct {
	error

	things []slog.Attr
}

func (e *subjectError) Unwrap() error { return e.error }

// SubjectOf returns what the work that failed with err was about.
func SubjectOf(err error) []slog.Attr {
	if e, ok := errors.AsType[*subjectError](err); ok {
		return e.things
	}
	return nil
}
