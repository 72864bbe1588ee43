package google

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// grantAssertion is the grant with which a service account's key gets tokens
// (https://developers.google.com/identity/protocols/oauth2/service-account#httprest).
const grantAssertion = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// accountKey is the key of every service account of every server in this
// process: making one takes long.
var accountKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("no RSA key: " + err.Error()) // of a size that is always possible
	}
	return key
})

// AccountKey returns a key of a service account as a JSON key file, such as
// `gcloud iam service-accounts keys create` writes. The server needs a
// PublicURL for it. The key outlives the scenario.
func (s *Server) AccountKey(email string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.world.accounts[email]
	if a == nil {
		return nil, fmt.Errorf("there is no service account %s", email)
	}
	private, err := x509.MarshalPKCS8PrivateKey(accountKey())
	if err != nil {
		return nil, fmt.Errorf("encode the key of %s: %w", email, err)
	}
	return json.Marshal(map[string]string{
		"type": "service_account", "project_id": a.project.id, "client_email": a.email, "client_id": a.uid,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"token_uri":   Endpoints(s.publicURL).Token, "universe_domain": "googleapis.com",
	})
}

// exchangeAssertion gives a service account a token for what its key signed.
func (c *call) exchangeAssertion(form url.Values) (int, any) {
	assertion, err := jwt.ParseSigned(form.Get("assertion"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return invalidGrant("Bad Request")
	}
	var claims struct {
		jwt.Claims
		Scope string `json:"scope"`
	}
	if err := assertion.Claims(accountKey().Public(), &claims); err != nil {
		return invalidGrant("Invalid JWT Signature.")
	}
	lifetime := claims.Expiry.Time().Sub(claims.IssuedAt.Time())
	a := c.world.accounts[claims.Issuer]
	switch {
	case a == nil:
		return invalidGrant("Invalid grant: account not found")
	case a.disabled:
		return http.StatusUnauthorized, oauthError{Error: "disabled_client", Description: "The OAuth client was disabled."}
	case !claims.Audience.Contains(Endpoints(c.base(c.r)).Token):
		return invalidGrant("Invalid JWT: Failed audience check.")
	case claims.ValidateWithLeeway(jwt.Expected{Time: c.now}, time.Minute) != nil || lifetime <= 0 || lifetime > time.Hour+time.Minute:
		return invalidGrant("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.")
	}
	scopes := strings.Fields(claims.Scope)
	if len(scopes) == 0 {
		return http.StatusBadRequest, oauthError{Error: "invalid_scope", Description: "Invalid OAuth scope or ID token audience provided."}
	}
	token, _ := c.world.mint(a, scopes, c.now.Add(tokenLifetime))
	return http.StatusOK, map[string]any{"access_token": token, "expires_in": int(tokenLifetime / time.Second), "token_type": "Bearer"}
}
