package oauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"gcpconnect/shared/connect"
)

// ReasonScopeMissing is the reason of an error about a scope that the user
// did not grant.
const ReasonScopeMissing = "SCOPE_MISSING"

// Grant is what a consent came to.
type Grant struct {
	Token   connect.Token
	Email   string // verified by Google
	Subject string // Google's stable ID of the account
	Name    string // empty unless Google told: the scopes do not ask for it
}

// Exchange turns the code of a login into a grant, and verifies who gave it. The
// proof is that of the login's state (Logins.Proof). Its errors are Forbidden with ReasonScopeMissing when a
// required scope was unticked, NeedsReauth when Google gave no refresh token or,
// with ReasonAdminPolicy, the user's administrator forbids it, Unavailable when
// Google cannot be reached, and Invalid for a code or an id_token that is not
// good.
//
// The tokens of a grant that is not accepted are dropped and not revoked:
// revoking takes back all that this Google account granted to any client of
// the platform's project, and would end its other connections too
// (https://developers.google.com/identity/protocols/oauth2/web-server#tokenrevoke).
func (c *Client) Exchange(ctx context.Context, code connect.Secret, proof Proof) (Grant, error) {
	verifier := proof.verifier()
	var token *oauth2.Token
	// A code is good for one success only. After an answer that was lost, a
	// retry finds it used and fails, as would have been the end without one.
	err := c.retry(ctx, "exchange the code", c.watched("oauth.token", func(ctx context.Context) (err error) {
		token, err = c.config().Exchange(c.with(ctx), code.Reveal(), oauth2.VerifierOption(verifier))
		return c.classify(err, code.Reveal(), verifier)
	}))
	if e, ok := errors.AsType[*connect.Error](err); ok && e.Reason == ReasonInvalidGrant {
		return Grant{}, connect.Errorf(connect.Invalid, "This login can no longer be completed. Connect again.").Because(err)
	}
	if err != nil {
		return Grant{}, err
	}
	granted := strings.Fields(extra(token, "scope"))
	if missing := missingScopes(granted); len(missing) > 0 {
		return Grant{}, &connect.Error{
			Code: connect.Forbidden, Reason: ReasonScopeMissing,
			Message: "These permissions were not granted: " + strings.Join(missing, ", ") + ". Connect again and leave every box ticked.",
		}
	}
	who, err := c.identify(ctx, extra(token, "id_token"), proof.nonce())
	if err != nil {
		return Grant{}, err
	}
	if token.RefreshToken == "" {
		return Grant{}, connect.Errorf(connect.NeedsReauth, connect.NoRefreshToken)
	}
	return Grant{
		Token: connect.Token{
			Access: connect.Secret(token.AccessToken), Refresh: connect.Secret(token.RefreshToken), Expiry: token.Expiry, Scopes: granted,
		},
		Email: who.Email, Subject: who.subject, Name: who.Name,
	}, nil
}

// extra is a further field of a token answer.
func extra(t *oauth2.Token, field string) string {
	value, _ := t.Extra(field).(string)
	return value
}

// missingScopes are the required scopes that are not among the granted. Google
// answers "email" by its long name; tolerating both costs nothing.
func missingScopes(granted []string) []string {
	var missing []string
	for _, scope := range scopes() {
		if !slices.Contains(granted, scope) && (scope != ScopeEmail || !slices.Contains(granted, "email")) {
			missing = append(missing, scope)
		}
	}
	return missing
}

// identity is who an id_token is about
// (https://developers.google.com/identity/openid-connect/openid-connect#an-id-tokens-payload).
type identity struct {
	subject  string
	Email    string `json:"email"`
	Verified bool   `json:"email_verified"`
	Name     string `json:"name"`
	Party    string `json:"azp"` // the client that it was issued to
}

// identify verifies an id_token: signature, issuer, audience, expiry, nonce,
// and that Google verified the email, which people will be shown.
func (c *Client) identify(ctx context.Context, raw, nonce string) (identity, error) {
	who := identity{}
	err := c.retry(ctx, "verify the id_token", func(ctx context.Context) error {
		token, err := c.verifier.Verify(ctx, raw)
		switch {
		case err != nil && keysUnreachable(err):
			return connect.Errorf(connect.Unavailable, textUnreachable).Because(c.plain(err, raw))
		case err != nil:
			return c.plain(err, raw)
		case token.Nonce != nonce:
			return errors.New("it is of another login")
		}
		who.subject = token.Subject
		return c.plain(token.Claims(&who), raw)
	})
	switch {
	case connect.CodeOf(err) == connect.Unavailable:
		return identity{}, err
	case err == nil && who.Party != "" && who.Party != c.id:
		err = fmt.Errorf("id_token was issued to %q", who.Party)
	case err == nil && who.subject == "":
		err = errors.New("id_token is about nobody")
	case err == nil && (who.Email == "" || !who.Verified):
		err = errors.New("id_token holds no verified email")
	}
	if err != nil {
		return identity{}, connect.Errorf(connect.Invalid, "Google's answer does not say who consented. Connect again.").Because(err)
	}
	return who, nil
}

// keysUnreachable reports whether the keys could not be read. The verifier
// says so in words alone.
func keysUnreachable(err error) bool {
	return strings.HasPrefix(err.Error(), "failed to verify signature: fetching keys")
}
