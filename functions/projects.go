package functions

import "net/http"

// projects lists the projects that the user sees at Google.
func (e *edge) projects(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	listed, root, err := e.Service.Projects(r.Context(), user)
	if err != nil {
		return err
	}
	type project struct {
		ID        string `json:"projectId"`
		Name      string `json:"name"`
		Number    string `json:"projectNumber"`
		State     string `json:"lifecycleState"`
		Billing   bool   `json:"billingEnabled"`
		Available bool   `json:"available"`
		Root      bool   `json:"isRootProject"`
	}
	projects := make([]project, 0, len(listed))
	billed := 0
	for _, p := range listed {
		projects = append(projects, project{p.ID, p.Name, p.Number, p.State, p.BillingEnabled, p.Available(), p.Root})
		if p.BillingEnabled {
			billed++
		}
	}
	if len(projects) == 0 {
		return e.json(w, http.StatusOK, struct {
			Message  string    `json:"message"`
			Projects []project `json:"projects"`
		}{"No GCP projects found. Create one in the Google Cloud console.", projects})
	}
	return e.json(w, http.StatusOK, struct {
		Projects []project `json:"projects"`
		Count    int       `json:"count"`
		Billed   int       `json:"billing_enabled_count"`
		Root     *string   `json:"root_project"`
	}{projects, len(projects), billed, optional(root)})
}

// optional is null in JSON for an empty string.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
