package functions

import (
	"net/http"

	"gcpconnect/shared/connect"
)

// change is an entry of the ledger in the answer.
type change struct {
	Project string  `json:"projectId"`
	Kind    string  `json:"kind"`
	Target  string  `json:"target"`
	Role    string  `json:"role,omitempty"`
	Member  string  `json:"member,omitempty"`
	State   string  `json:"state"` // planned (it may or may not have happened), done, undone, refused
	Setup   string  `json:"task_id,omitempty"`
	Planned *string `json:"planned_at"`
	Done    *string `json:"done_at"`
	Undone  *string `json:"undone_at"`
}

// changes answers a page of the ledger, newest first: what was changed in the
// user's cloud. A disconnect does not hide it.
func (e *edge) changes(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	q := connect.ChangeQuery{SetupID: query.Get("task_id"), ProjectID: query.Get("project"), State: connect.ChangeState(query.Get("state")), PageToken: query.Get("page_token")}
	switch q.State {
	case "", connect.ChangePlanned, connect.ChangeDone, connect.ChangeUndone, connect.ChangeRefused:
	default:
		return connect.Errorf(connect.Invalid, "state must be planned, done, undone or refused.")
	}
	if q.PageSize, err = pageSize(query); err != nil {
		return err
	}
	if err := checkUTF8(query, "task_id", "project"); err != nil {
		return err
	}
	page, next, err := e.Store.Changes(r.Context(), user, q)
	if err != nil {
		return err
	}
	answer := struct {
		Changes []change `json:"changes"`
		Count   int      `json:"count"`
		Next    string   `json:"next_page_token,omitempty"`
	}{make([]change, 0, len(page)), len(page), next}
	for _, c := range page {
		answer.Changes = append(answer.Changes, change{
			c.ProjectID, string(c.Kind), c.Target, c.Role, c.Member, string(c.State), c.SetupID,
			timestamp(c.PlannedAt), timestamp(c.DoneAt), timestamp(c.UndoneAt),
		})
	}
	return e.json(w, http.StatusOK, answer)
}
