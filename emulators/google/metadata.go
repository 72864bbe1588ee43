package google

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// serveMetadata is the metadata server of a machine, for application default
// credentials (GCE_METADATA_HOST). nil: there is none.
func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request, m *Metadata) {
	w.Header().Set("Metadata-Flavor", "Google")
	w.Header().Set("Server", "Metadata Server for VM")
	if r.Header.Get("Metadata-Flavor") != "Google" {
		http.Error(w, "Missing required header \"Metadata-Flavor\": \"Google\"", http.StatusForbidden)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m == nil {
		notFoundPage(w, r)
		return
	}
	p, a := s.world.projects[m.Project], s.world.accounts[m.ServiceAccount]
	path := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/computeMetadata/v1/"), "/")
	path = strings.Replace(path, "/service-accounts/"+m.ServiceAccount, "/service-accounts/default", 1)
	text := func(value string) {
		w.Header().Set("Content-Type", "application/text")
		io.WriteString(w, value) //nolint:gosec // text for programs; a client that has gone needs no answer
	}
	now := s.clock.Now()
	switch path {
	case "project/project-id":
		text(p.id)
		return
	case "project/numeric-project-id":
		text(p.number)
		return
	}
	if a == nil {
		notFoundPage(w, r)
		return
	}
	switch path {
	case "instance/service-accounts/default/email":
		text(a.email)
	case "instance/service-accounts/default/scopes":
		text(cloudPlatform + "\n")
	case "instance/service-accounts/default":
		answer, _ := json.Marshal(map[string]any{"aliases": []string{"default"}, "email": a.email, "scopes": []string{cloudPlatform}})
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer)
	case "instance/service-accounts/default/token":
		token, _ := s.world.mint(a, []string{cloudPlatform}, now.Add(tokenLifetime))
		writeJSON(w, http.StatusOK, map[string]any{"access_token": token, "expires_in": int(tokenLifetime / time.Second), "token_type": "Bearer"})
	case "instance/service-accounts/default/identity":
		audience := r.URL.Query().Get("audience")
		if audience == "" {
			http.Error(w, "non-empty audience parameter required", http.StatusBadRequest)
			return
		}
		text(s.keys.sign(map[string]any{
			"iss": s.issuer, "aud": audience, "azp": a.uid, "sub": a.uid, "email": a.email, "email_verified": true,
			"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		}))
	default:
		notFoundPage(w, r)
	}
}
