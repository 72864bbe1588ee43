package google

import "net/http"

// Hosts returns what answers at each of Google's own host names, for programs that
// are not told of another address.
func (s *Server) Hosts() map[string]http.Handler {
	hosts := map[string]http.Handler{
		"accounts.google.com": s, "oauth2.googleapis.com": s, "openidconnect.googleapis.com": s, "www.googleapis.com": s,
	}
	for _, m := range methods {
		if a := m.api; a.prefix != "" {
			hosts[a.name] = under(a.prefix, s)
		}
	}
	return hosts
}

// under serves requests as if their paths began with a prefix.
func under(prefix string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.URL.Path = "/" + prefix + r.URL.Path
		if r.URL.RawPath != "" {
			r.URL.RawPath = "/" + prefix + r.URL.RawPath
		}
		next.ServeHTTP(w, r)
	})
}

// MetadataServer is the metadata server of a machine that runs as a service account
// of a project: each Cloud Run service has one of its own.
func (s *Server) MetadataServer(project, account string) http.Handler {
	m := &Metadata{Project: project, ServiceAccount: account}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serveMetadata(w, r, m) })
}
