package functions

import (
	"encoding/json"
	"net/http"

	"gcpconnect/shared/connect"
)

// parseSelection reads the selection of a body; none in an empty one.
func parseSelection(content []byte, unknown fields) ([]string, error) {
	var request struct {
		Selected *[]json.RawMessage `json:"selected_project_ids"`
	}
	given, err := parse(content, &request, unknown)
	switch {
	case err != nil:
		return nil, err
	case !given:
		return nil, nil
	case request.Selected == nil:
		return nil, connect.Errorf(connect.Invalid, "selected_project_ids is missing. Send a list of project IDs, or no body.")
	case len(*request.Selected) == 0:
		return nil, connect.Errorf(connect.Invalid, "selected_project_ids must hold at least 1 project.")
	}
	var ids []string
	for i, raw := range *request.Selected {
		var id string
		if err := json.Unmarshal(raw, &id); err != nil || id == "" {
			return nil, connect.Errorf(connect.Invalid, "selected_project_ids[%d] must be a non-empty string.", i)
		}
		ids = append(ids, id)
	}
	return distinct(ids), nil
}

// selection is parseSelection for the request's body.
func selection(r *http.Request, unknown fields) ([]string, error) {
	content, err := body(r)
	if err != nil {
		return nil, err
	}
	return parseSelection(content, unknown)
}

// selectProjects starts a setup of the chosen projects, or of those that did
// not succeed.
func (e *edge) selectProjects(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	selected, err := selection(r, ignoreUnknown)
	if err != nil {
		return err
	}
	s, err := e.Service.Restart(r.Context(), user, selected)
	if err != nil {
		return err
	}
	return e.json(w, http.StatusOK, started{"started", s.ID})
}
