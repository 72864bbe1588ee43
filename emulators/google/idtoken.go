package google

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A signer signs ID tokens with keys of its server alone, made when they are
// needed: many servers never need one.
type signer struct {
	mu   sync.Mutex
	keys []signingKey // the newest, which signs, first
}

type signingKey struct {
	*rsa.PrivateKey
	id string
}

// keptKeys are the keys that tokens may be signed with: the one in use and the
// one before it, as at Google, so that tokens outlive a rotation.
const keptKeys = 2

// rotate begins a new key. It needs the lock.
func (s *signer) rotate() {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("no RSA key: " + err.Error()) // of a size that is always possible
	}
	sum := sha256.Sum256(key.N.Bytes())
	s.keys = slices.Insert(s.keys, 0, signingKey{key, base64.RawURLEncoding.EncodeToString(sum[:12])})
	s.keys = s.keys[:min(len(s.keys), keptKeys)]
}

// all returns the published keys, the newest first.
func (s *signer) all() []signingKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) == 0 {
		s.rotate()
	}
	return slices.Clone(s.keys)
}

// RotateKeys signs ID tokens with a new key from now on. The one before stays
// published; those before that one are good no more.
func (s *Server) RotateKeys() {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	if len(s.keys.keys) == 0 {
		s.keys.rotate() // there is one to follow
	}
	s.keys.rotate()
}

// sign makes a JWT signed with RS256.
func (s *signer) sign(claims map[string]any) string {
	key := s.all()[0]
	segment := func(v any) string {
		encoded, _ := json.Marshal(v) // strings and numbers always encode
		return base64.RawURLEncoding.EncodeToString(encoded)
	}
	text := segment(map[string]string{"alg": "RS256", "kid": key.id, "typ": "JWT"}) + "." + segment(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key.PrivateKey, crypto.SHA256, sum[:])
	if err != nil {
		panic("cannot sign: " + err.Error())
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// addIDToken adds an ID token to an answer when the scopes ask for one.
func (c *call) addIDToken(out map[string]any, email string, client *Client, scopes []string, nonce string) {
	if !slices.Contains(scopes, "openid") {
		return
	}
	u := c.world.users[email]
	token, _ := out["access_token"].(string)
	access := sha256.Sum256([]byte(token))
	claims := map[string]any{
		"iss": c.issuer, "azp": client.ID, "aud": client.ID, "sub": u.Sub,
		"at_hash": base64.RawURLEncoding.EncodeToString(access[:16]),
		"iat":     c.now.Unix(), "exp": c.now.Add(time.Hour).Unix(),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	u.describe(claims, scopes)
	out["id_token"] = c.keys.sign(claims)
}

// describe adds what the scopes let a client know of the user.
func (u *User) describe(claims map[string]any, scopes []string) {
	if slices.Contains(scopes, scopeURL("email")) {
		claims["email"], claims["email_verified"] = u.Email, true
	}
	if u.Domain != "" {
		claims["hd"] = u.Domain
	}
	if slices.Contains(scopes, scopeURL("profile")) && u.Name != "" {
		given, family, _ := strings.Cut(u.Name, " ")
		claims["name"], claims["given_name"], claims["family_name"] = u.Name, given, family
	}
}

func (c *call) userInfo() (int, any) {
	if c.token == nil || c.token.user == "" {
		c.w.Header().Set("WWW-Authenticate", realm+`, error="invalid_request"`)
		return http.StatusUnauthorized, oauthError{Error: "invalid_request", Description: "Invalid Credentials"}
	}
	u := c.world.users[c.token.user]
	claims := map[string]any{"sub": u.Sub}
	u.describe(claims, c.token.scopes)
	return http.StatusOK, claims
}

func (c *call) certs() (int, any) {
	keys := []any{}
	for _, key := range c.keys.all() {
		keys = append(keys, map[string]string{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": key.id,
			"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		})
	}
	return http.StatusOK, map[string]any{"keys": keys}
}

// accountCerts publishes the certificates of the keys that Google keeps for a service
// account, by key ID. One set of keys serves all accounts here.
func (c *call) accountCerts() (int, any) {
	a := c.world.accountNamed(c.vars["account"])
	if a == nil {
		return http.StatusNotFound, map[string]any{"error": map[string]any{"code": http.StatusNotFound, "message": "Requested entity was not found.", "status": "NOT_FOUND"}}
	}
	certificates := map[string]string{}
	for _, key := range c.keys.all() {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: a.uid}, NotBefore: c.now.Add(-time.Hour), NotAfter: c.now.Add(14 * 24 * time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key.PrivateKey)
		if err != nil {
			panic("no certificate: " + err.Error()) // of a key and a template that are always possible
		}
		certificates[key.id] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return http.StatusOK, certificates
}

func (c *call) discovery() (int, any) {
	urls := Endpoints(c.base(c.r))
	return http.StatusOK, map[string]any{
		"issuer":                                c.issuer,
		"authorization_endpoint":                urls.Auth,
		"token_endpoint":                        urls.Token,
		"userinfo_endpoint":                     urls.UserInfo,
		"revocation_endpoint":                   urls.Revoke,
		"jwks_uri":                              urls.Certs,
		"response_types_supported":              []string{"code"},
		"response_modes_supported":              []string{"query"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"scopes_supported":                      []string{"openid", "email", "profile"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"},
		"claims_supported":                      []string{"aud", "email", "email_verified", "exp", "family_name", "given_name", "iat", "iss", "name", "sub"},
		"code_challenge_methods_supported":      []string{"S256"},
		"grant_types_supported":                 []string{"authorization_code", "refresh_token", grantAssertion},
	}
}

// base is where the server is reached.
func (s *Server) base(r *http.Request) string {
	if s.publicURL != "" {
		return s.publicURL
	}
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// IDToken returns an ID token of a service account for an audience, as Google
// makes them for Cloud Tasks and Cloud Scheduler. It is valid for an hour.
func (s *Server) IDToken(email, audience string) (string, error) {
	at := s.clock.Now()
	sum := sha256.Sum256([]byte(email))
	id := "1" + new(big.Int).SetBytes(sum[:8]).String() // accounts' IDs have some 21 digits
	return s.keys.sign(map[string]any{
		"iss": s.issuer, "azp": id, "aud": audience, "sub": id, "email": email, "email_verified": true,
		"iat": at.Unix(), "exp": at.Add(time.Hour).Unix(),
	}), nil
}
