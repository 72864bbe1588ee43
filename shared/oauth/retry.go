package oauth

import (
	"context"
	"fmt"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/retry"
)

// maxTries bounds the tries of one request: a browser or an instance waits.
const maxTries = 3

// watched does one request, under the eyes of c's watch.
func (c *Client) watched(method string, do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, call := c.watch.Begin(ctx, method, "")
		err := do(ctx)
		call.End(ctx, connect.CodeOf(err))
		return err
	}
}

// retry does what is named, again while it is Unavailable.
func (c *Client) retry(ctx context.Context, doing string, do func(context.Context) error) error {
	if err := (retry.Policy{Tries: maxTries, Log: c.log}).Do(ctx, doing, do); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}
