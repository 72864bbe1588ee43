package functions

import (
	"net/http"

	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// projectAccess answers where Aurora's accounts have access.
func (e *edge) projectAccess(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	access, root, err := e.Service.Access(r.Context(), user)
	if err != nil {
		return err
	}
	type project struct {
		ID            string `json:"projectId"`
		Name          string `json:"name"`
		Enabled       bool   `json:"enabled"`
		HasPermission bool   `json:"hasPermission"`
		Root          bool   `json:"isRootProject"`
	}
	projects := make([]project, 0, len(access))
	for _, a := range access {
		projects = append(projects, project{a.ID, a.Name, a.Enabled, a.HasPermission, a.Root})
	}
	return e.json(w, http.StatusOK, struct {
		Projects []project `json:"projects"`
		Root     *string   `json:"root_project"`
	}{projects, optional(root)})
}

// parseAccess reads the toggles of a body.
func parseAccess(content []byte) ([]setup.AccessChange, error) {
	var request struct {
		Projects []struct {
			ID      string `json:"projectId"`
			Short   string `json:"id"`
			Enabled *bool  `json:"enabled"`
		} `json:"projects"`
	}
	if _, err := parse(content, &request, ignoreUnknown); err != nil {
		return nil, err
	}
	if len(request.Projects) == 0 {
		return nil, connect.Errorf(connect.Invalid, "projects must hold at least 1 project.")
	}
	seen := map[string]bool{}
	var changes []setup.AccessChange
	for i, p := range request.Projects {
		if p.ID == "" {
			p.ID = p.Short
		}
		switch {
		case p.ID == "":
			return nil, connect.Errorf(connect.Invalid, "projects[%d].projectId is missing.", i)
		case p.Enabled == nil:
			return nil, connect.Errorf(connect.Invalid, "projects[%d].enabled is missing.", i)
		case seen[p.ID]:
			return nil, connect.Errorf(connect.Invalid, "projects[%d].projectId %q is named twice.", i, p.ID)
		}
		seen[p.ID] = true
		changes = append(changes, setup.AccessChange{ID: p.ID, Enabled: *p.Enabled})
	}
	return changes, nil
}

// setProjectAccess gives or takes the access of Aurora's accounts, project by
// project. Success is claimed only when every change held.
func (e *edge) setProjectAccess(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	content, err := body(r)
	if err != nil {
		return err
	}
	changes, err := parseAccess(content)
	if err != nil {
		return err
	}
	changes, err = e.Service.SetAccess(r.Context(), user, changes)
	if err != nil {
		return err
	}
	type outcome struct {
		ID      string       `json:"projectId"`
		Enabled bool         `json:"enabled"` // what was asked for
		Success bool         `json:"success"`
		Error   string       `json:"error,omitempty"`
		Code    connect.Code `json:"code,omitempty"`
	}
	answer := struct {
		Success  bool      `json:"success"`
		Projects []outcome `json:"projects,omitempty"`
	}{Success: true}
	for _, c := range changes {
		o := outcome{ID: c.ID, Enabled: c.Enabled, Success: c.Err == nil}
		if c.Err != nil {
			answer.Success = false
			o.Error, o.Code = connect.MessageOf(c.Err), connect.CodeOf(c.Err)
			e.Log.WarnContext(r.Context(), "access was not changed", "project", c.ID, "error", c.Err)
		}
		answer.Projects = append(answer.Projects, o)
	}
	if answer.Success {
		answer.Projects = nil
		return e.json(w, http.StatusOK, answer)
	}
	return e.json(w, http.StatusMultiStatus, answer)
}
