package setup

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// concurrently runs work for 0 to n-1, at most `concurrency` at once, and
// returns the first error, which cancels the context of the others: what is not
// begun by then may never be. Goroutines are kept from one piece of work to the
// next: a call to Google needs a deep stack, which each would have to grow.
func concurrently(ctx context.Context, n int, work func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var begun atomic.Int64
	for range min(n, concurrency) {
		group.Go(func() error {
			for i := begun.Add(1) - 1; i < int64(n); i = begun.Add(1) - 1 {
				if err := safely(func() error { return work(ctx, int(i)) }); err != nil {
					return err
				}
			}
			return nil
		})
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
