package functions

import (
	"fmt"
	"net/http"

	"gcpconnect/shared/connect"
)

// accounts are the service accounts in an answer.
type accounts struct {
	RootProject string `json:"root_project"`
	Agent       string `json:"full_access_sa"`
	Ask         string `json:"read_only_sa"`
}

// rootProject answers where the service accounts are.
func (e *edge) rootProject(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	c, err := e.connected(r, user)
	if err != nil {
		return err
	}
	answer := struct {
		Root     *string   `json:"root_project"`
		Accounts *accounts `json:"service_accounts"`
	}{}
	if c != nil && c.Accounts.RootProject != "" {
		answer.Accounts = new(accounts(c.Accounts))
		answer.Root = &c.Accounts.RootProject
	}
	return e.json(w, http.StatusOK, answer)
}

// chooseRootProject moves the service accounts' work to another project.
func (e *edge) chooseRootProject(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	var request struct {
		ProjectID string `json:"project_id"`
		Camel     string `json:"projectId"`
	}
	if err := decode(r, &request); err != nil {
		return err
	}
	if request.ProjectID == "" {
		request.ProjectID = request.Camel
	}
	if request.ProjectID == "" {
		return connect.Errorf(connect.Invalid, "project_id is missing.")
	}
	s, err := e.Service.ChooseRoot(r.Context(), user, request.ProjectID)
	if err != nil {
		return err
	}
	return e.json(w, http.StatusAccepted, struct {
		Success   bool   `json:"success"`
		Saved     bool   `json:"preference_saved"`
		SetupWord string `json:"service_account_setup"`
		Root      string `json:"root_project"`
		TaskID    string `json:"task_id"`
		Message   string `json:"message"`
	}{true, true, "pending", request.ProjectID, s.ID, fmt.Sprintf("Root project set to %s. Its service accounts are being set up.", request.ProjectID)})
}
