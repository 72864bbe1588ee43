package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"

	"gcpconnect/shared/connect"
)

var errNoTokens = connect.Errorf(connect.NotFound, "There are no tokens of this connection.")

// classify decides what an error of Vault means. Its causes name paths and
// never values.
func classify(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, api.ErrSecretNotFound) {
		return errNoTokens
	}
	cause := fmt.Errorf("%s: %w", doing, err)
	unavailable := func(message string) error { return connect.Errorf(connect.Unavailable, "%s", message).Because(cause) }
	var answer *api.ResponseError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unavailable("The vault did not answer in time. Try again in a moment.")
	case !errors.As(err, &answer):
		return unavailable("The vault is not available. Try again in a moment.")
	case mismatch(answer):
		return connect.Errorf(connect.Conflict, "Another request has changed these tokens.").Because(cause)
	}
	switch answer.StatusCode {
	case http.StatusServiceUnavailable:
		return unavailable("The vault is sealed or under maintenance. Try again later.")
	case http.StatusForbidden, http.StatusUnauthorized, http.StatusNotFound:
		// A deployment that is not finished, or a policy or role that was
		// changed: nothing is lost once it is mended.
		return unavailable("The vault does not let this service in at present. Try again later.")
	case http.StatusPreconditionFailed:
		return unavailable("The vault is not up to date yet. Try again in a moment.")
	case http.StatusBadRequest, http.StatusMethodNotAllowed:
		return connect.Errorf(connect.Internal, "The vault refused a request.").Because(cause)
	}
	return unavailable("The vault is not available. Try again in a moment.")
}

// classifyLogin decides what an error of logging in means. Vault answers 400 to
// a role or a secret that it does not know.
func classifyLogin(err error) error {
	classified := classify("log in to Vault", err)
	if connect.CodeOf(classified) == connect.Internal {
		return connect.Errorf(connect.Unavailable, "The vault does not let this service in at present. Try again later.").Because(classified)
	}
	return classified
}

func forbidden(err error) bool {
	answer, ok := errors.AsType[*api.ResponseError](err)
	return ok && answer.StatusCode == http.StatusForbidden
}

// mismatch reports whether a write named another version than the one that
// stands. Vault says so in words only
// (https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#create-update-secret).
func mismatch(answer *api.ResponseError) bool {
	return answer.StatusCode == http.StatusBadRequest && strings.Contains(strings.Join(answer.Errors, " "), "check-and-set parameter did not match")
}
