package setup

import (
	"context"
	"fmt"
	"runtime/debug"

	"golang.org/x/sync/errgroup"
)

// concurrently runs work for 0 to n-1, at most `concurrency` at once, and
// returns the first error, which cancels the context of the others.
func concurrently(ctx context.Context, n int, work func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrency)
	for i := range n {
		group.Go(func() error { return safely(func() error { return work(ctx, i) }) })
	}
	return group.Wait()
}

// safely turns a panic of work into an error. In a goroutine of its own it
// would end the process, with every other setup in it.
func safely(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return work()
}
