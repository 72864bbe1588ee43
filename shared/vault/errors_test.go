package vault

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"gcpconnect/shared/connect"
)

func TestClassesOfErrors(t *testing.T) {
	t.Parallel()
	answer := func(code int, words ...string) error {
		return fmt.Errorf("error writing secret: %w", &api.ResponseError{StatusCode: code, Errors: words})
	}
	for name, c := range map[string]struct {
		err   error
		want  connect.Code
		words string
	}{
		"none":                        {nil, "", ""},
		"sealed":                      {answer(503, "Vault is sealed"), connect.Unavailable, "sealed"},
		"a policy that denies":        {answer(403, "permission denied"), connect.Unavailable, "does not let this service in"},
		"a mount that is missing":     {answer(404), connect.Unavailable, "does not let this service in"},
		"a replica that is behind":    {answer(412, "required index state not present"), connect.Unavailable, "not up to date"},
		"too many requests":           {answer(429), connect.Unavailable, "not available"},
		"a standby":                   {answer(473), connect.Unavailable, "not available"},
		"a server that fails":         {answer(500), connect.Unavailable, "not available"},
		"another version that stands": {answer(400, "check-and-set parameter did not match the current version"), connect.Conflict, "Another request"},
		"a request that is wrong":     {answer(400, "bad"), connect.Internal, "refused"},
		"no token there":              {fmt.Errorf("%w: at p", api.ErrSecretNotFound), connect.NotFound, "no tokens"},
		"a time-out":                  {&url.Error{Op: "Get", URL: "u", Err: context.DeadlineExceeded}, connect.Unavailable, "in time"},
		"a network that is down":      {errors.New("connection refused"), connect.Unavailable, "not available"},
	} {
		got := classify("store tokens", c.err)
		if connect.CodeOf(got) != c.want || c.want != "" && !strings.Contains(connect.MessageOf(got), c.words) {
			t.Errorf("%s: %v, want %s with %q", name, got, c.want, c.words)
		}
	}
}
