package google

import (
	"fmt"
	"maps"
	"slices"
)

// SetLatencies changes how long calls take from now on.
func (s *Server) SetLatencies(l Latencies) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.scenario.Latencies = l
}

// SetPropagation changes how long changes made from now on take to be seen.
func (s *Server) SetPropagation(p Propagation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.scenario.Propagation = p
}

// RevokeUser takes back all that a user has granted to any client, as the user
// can on Google's account page: every token dies.
func (s *Server) RevokeUser(email string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.world.users[email] == nil {
		return fmt.Errorf("user %q: %w", email, errNotFound)
	}
	for _, g := range s.world.grants {
		if g.user == email {
			s.world.revoke(g)
		}
	}
	maps.DeleteFunc(s.world.access, func(_ string, t *accessToken) bool { return t.user == email })
	return nil
}

// SetRefreshError makes a user's refreshes fail: "invalid_rapt",
// "invalid_grant", or "" for none.
func (s *Server) SetRefreshError(email, kind string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.world.users[email]
	switch {
	case u == nil:
		return fmt.Errorf("user %q: %w", email, errNotFound)
	case !slices.Contains([]string{"", "invalid_rapt", "invalid_grant"}, kind):
		return fmt.Errorf("refresh error %q is neither invalid_rapt nor invalid_grant", kind)
	}
	u.RefreshError = kind
	return nil
}

// MintToken makes an access token of a user or service account out of thin
// air, good for an hour; without scopes it has cloud-platform. A user's token
// is of the scenario's first client.
func (s *Server) MintToken(email string, scopes ...string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(scopes) == 0 {
		scopes = []string{cloudPlatform}
	}
	expires := s.clock.Now().Add(tokenLifetime)
	if a := s.world.accounts[email]; a != nil {
		token, _ := s.world.mint(a, scopes, expires)
		return token, nil
	}
	if s.world.users[email] == nil || len(s.world.scenario.Clients) == 0 {
		return "", fmt.Errorf("user or service account %q: %w", email, errNotFound)
	}
	token := "ya29.a0" + secret()
	s.world.access[token] = &accessToken{user: email, client: s.world.scenario.Clients[0].ID, scopes: scopes, expires: expires}
	return token, nil
}

// SetPolicy replaces a project's policy from outside, as another administrator
// would, with effect at once; the etag changes.
func (s *Server) SetPolicy(project string, bindings []Binding) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.world.projectNamed(project)
	if p == nil {
		return fmt.Errorf("project %q: %w", project, errNotFound)
	}
	s.world.replace(p.policy, cloneBindings(bindings), s.clock.Now(), spread{})
	return nil
}
