package google

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// servePlain answers what is no API call: the consent page, /admin/ and the
// metadata server. It reports whether the path was one of these.
func (s *Server) servePlain(w http.ResponseWriter, r *http.Request) bool {
	path := r.URL.Path
	switch {
	case path == authPath || path == "/o/oauth2/auth":
		s.authorizePage(w, r)
	case strings.HasPrefix(path, "/admin/"):
		s.serveAdmin(w, r)
	case path == "/computeMetadata" || strings.HasPrefix(path, "/computeMetadata/"):
		s.serveMetadata(w, r, s.Scenario().Metadata)
	default:
		return false
	}
	return true
}

// An adminRoute is one administrative endpoint; {} in the path is an email.
type adminRoute struct {
	verb, path string
	handle     func(s *Server, email string, r *http.Request, body []byte) (any, error)
}

var errNotFound = errors.New("not found")

var adminRoutes = []adminRoute{
	{"GET", "/admin/health", func(*Server, string, *http.Request, []byte) (any, error) {
		return map[string]string{"status": "ok"}, nil
	}},
	{"GET", "/admin/scenario", func(s *Server, _ string, _ *http.Request, _ []byte) (any, error) { return s.Scenario(), nil }},
	{"PUT", "/admin/scenario", func(s *Server, _ string, _ *http.Request, body []byte) (any, error) {
		scenario, err := ParseScenario(body)
		if err != nil {
			return nil, err
		}
		return done, s.Load(scenario)
	}},
	{"POST", "/admin/reset", func(s *Server, _ string, _ *http.Request, _ []byte) (any, error) { s.Reset(); return done, nil }},
	{"GET", "/admin/faults", func(s *Server, _ string, _ *http.Request, _ []byte) (any, error) {
		return map[string]any{"faults": s.Scenario().Faults}, nil
	}},
	{"POST", "/admin/faults", func(s *Server, _ string, _ *http.Request, body []byte) (any, error) {
		var f Fault
		if err := strictly(body, &f); err != nil {
			return nil, err
		}
		return done, s.AddFault(f)
	}},
	{"DELETE", "/admin/faults", func(s *Server, _ string, _ *http.Request, _ []byte) (any, error) { s.ClearFaults(); return done, nil }},
	{"PUT", "/admin/latencies", func(s *Server, _ string, _ *http.Request, body []byte) (any, error) { return s.retime(body) }},
	{"GET", "/admin/calls", func(s *Server, _ string, r *http.Request, _ []byte) (any, error) {
		calls := s.Calls()
		if r.URL.Query().Get("detail") != "true" {
			return countCalls(calls), nil
		}
		skip, err := strconv.Atoi(cmp.Or(r.URL.Query().Get("skip"), "0"))
		if err != nil || skip < 0 {
			return nil, errors.New("skip must be a number of calls")
		}
		return struct {
			Counts
			Calls []Call `json:"calls"`
		}{countCalls(calls), append([]Call{}, calls[min(skip, len(calls)):]...)}, nil
	}},
	{"GET", "/admin/log", func(s *Server, _ string, _ *http.Request, _ []byte) (any, error) {
		var log strings.Builder
		for _, c := range s.Calls() {
			log.WriteString(c.String() + "\n")
		}
		return plainText(log.String()), nil
	}},
	{"DELETE", "/admin/calls", func(s *Server, _ string, _ *http.Request, _ []byte) (any, error) { s.ClearCalls(); return done, nil }},
	{"GET", "/admin/snapshot", func(s *Server, _ string, _ *http.Request, _ []byte) (any, error) { return s.Snapshot(), nil }},
	{"GET", "/admin/diff", func(s *Server, _ string, _ *http.Request, _ []byte) (any, error) { return asLines(s.Changes()), nil }},
	{"POST", "/admin/diff", func(s *Server, _ string, _ *http.Request, body []byte) (any, error) {
		var before Snapshot
		if err := strictly(body, &before); err != nil {
			return nil, err
		}
		return asLines(Diff(before, s.Snapshot())), nil
	}},
	{"POST", "/admin/keys/rotate", func(s *Server, _ string, _ *http.Request, _ []byte) (any, error) { s.RotateKeys(); return done, nil }},
	{"POST", "/admin/users/{}/revoke", func(s *Server, email string, _ *http.Request, _ []byte) (any, error) {
		return done, s.RevokeUser(email)
	}},
	{"POST", "/admin/users/{}/rapt", func(s *Server, email string, _ *http.Request, _ []byte) (any, error) {
		return done, s.SetRefreshError(email, "invalid_rapt")
	}},
	{"POST", "/admin/users/{}/restore", func(s *Server, email string, _ *http.Request, _ []byte) (any, error) {
		return done, s.SetRefreshError(email, "")
	}},
	{"POST", "/admin/tokens", func(s *Server, _ string, _ *http.Request, body []byte) (any, error) {
		var req struct {
			Email  string   `json:"email"`
			Scopes []string `json:"scopes"`
		}
		if err := strictly(body, &req); err != nil {
			return nil, err
		}
		token, err := s.MintToken(req.Email, req.Scopes...)
		return map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int(tokenLifetime / time.Second)}, err
	}},
}

var done = struct{}{}

// A plainText is an answer for people, not JSON.
type plainText string

func asLines(changes []string) any {
	return struct {
		Changes []string `json:"changes"`
	}{append([]string{}, changes...)} // [] and not null where there are none
}

func (s *Server) serveAdmin(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
	if err != nil {
		adminError(w, http.StatusRequestEntityTooLarge, err)
		return
	}
	known := false
	for _, route := range adminRoutes {
		email, ok := emailIn(route.path, r.URL.Path)
		known = known || ok
		if !ok || route.verb != r.Method {
			continue
		}
		answer, err := route.handle(s, email, r, body)
		switch {
		case errors.Is(err, errNotFound):
			adminError(w, http.StatusNotFound, err)
		case err != nil:
			adminError(w, http.StatusBadRequest, err)
		default:
			if text, ok := answer.(plainText); ok {
				w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
				io.WriteString(w, string(text))
				return
			}
			writeJSON(w, http.StatusOK, answer)
		}
		return
	}
	if known {
		adminError(w, http.StatusMethodNotAllowed, errors.New("method not allowed"))
		return
	}
	adminError(w, http.StatusNotFound, errors.New("no such endpoint"))
}

func emailIn(pattern, path string) (string, bool) {
	before, after, ok := strings.Cut(pattern, "{}")
	if !ok {
		return "", pattern == path
	}
	path, ok = strings.CutPrefix(path, before)
	email, found := strings.CutSuffix(path, after)
	return email, ok && found && !strings.Contains(email, "/")
}

func adminError(w http.ResponseWriter, code int, err error) {
	writeJSON(w, code, map[string]string{"error": err.Error()})
}

func strictly(body []byte, into any) error {
	if err := decode(body, into); err != nil {
		return errors.New(err.message)
	}
	return nil
}

// retime changes the latencies and propagation that are given and leaves the
// others. What has begun keeps its time.
func (s *Server) retime(body []byte) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	timing := struct {
		Latencies   Latencies   `json:"latencies"`
		Propagation Propagation `json:"propagation"`
	}{s.world.scenario.Latencies, s.world.scenario.Propagation}
	if err := strictly(body, &timing); err != nil {
		return nil, err
	}
	var check findings
	check.latencies(timing.Latencies)
	if err := check.err(); err != nil {
		return nil, err
	}
	s.world.scenario.Latencies, s.world.scenario.Propagation = timing.Latencies, timing.Propagation
	return timing, nil
}
