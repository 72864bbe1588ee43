package console

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"

	"gcpconnect/emulators/google"
)

//go:embed scenarios
var scenarioFiles embed.FS

// Scenario is a Google to play, by name.
type Scenario struct {
	Name        string `json:"name"`
	Description string `json:"description"`

	content []byte // its JSON
}

// Scenarios lists the built-in scenarios, with the default one first.
var Scenarios = sync.OnceValues(func() ([]Scenario, error) {
	standard := google.DefaultScenario()
	content, err := json.Marshal(standard)
	if err != nil {
		return nil, fmt.Errorf("encode the default scenario: %w", err)
	}
	scenarios := []Scenario{{"default", standard.Description, content}}
	entries, err := scenarioFiles.ReadDir("scenarios")
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		content, err := scenarioFiles.ReadFile(path.Join("scenarios", entry.Name()))
		if err != nil {
			return nil, err
		}
		s, err := google.ParseScenario(content)
		if err != nil {
			return nil, fmt.Errorf("scenario %s: %w", entry.Name(), err)
		}
		scenarios = append(scenarios, Scenario{strings.TrimSuffix(entry.Name(), ".json"), s.Description, content})
	}
	return scenarios, nil
})

// administered is what the panel needs of the emulated Google's administration.
var administered = []string{
	"GET /admin/scenario", "PUT /admin/scenario", "GET /admin/faults", "POST /admin/faults", "DELETE /admin/faults",
	"PUT /admin/latencies", "GET /admin/calls", "POST /admin/users/{email}/revoke", "POST /admin/users/{email}/rapt",
}

// Developers serves what the developers' panel needs under /dev/: scenarios,
// and a part of the administration of the emulated Google, which has an origin
// of its own that the page may not reach. It is for local stacks only.
func Developers(administration http.Handler) (http.Handler, error) {
	scenarios, err := Scenarios()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /dev/scenarios", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"scenarios": scenarios})
	})
	mux.HandleFunc("GET /dev/scenarios/{name}", func(w http.ResponseWriter, r *http.Request) {
		i := slices.IndexFunc(scenarios, func(s Scenario) bool { return s.Name == r.PathValue("name") })
		if i < 0 {
			answer(w, http.StatusNotFound, map[string]string{"error": "There is no such scenario."})
			return
		}
		answer(w, http.StatusOK, json.RawMessage(scenarios[i].content))
	})
	for _, pattern := range administered {
		method, path, _ := strings.Cut(pattern, " ")
		mux.Handle(method+" /dev"+path, http.StripPrefix("/dev", administration))
	}
	mux.HandleFunc("/dev/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusNotFound, map[string]string{"error": "There is nothing at this path."})
	})
	// A page of another origin changes nothing here.
	return http.NewCrossOriginProtection().Handler(mux), nil
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // to a page that may have gone
}
