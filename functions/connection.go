package functions

import (
	"net/http"
	"time"

	"gcpconnect/shared/connect"
)

// connection answers who is connected.
func (e *edge) connection(w http.ResponseWriter, r *http.Request) error {
	user, err := e.user(r)
	if err != nil {
		return err
	}
	c, err := e.Store.Connection(r.Context(), user)
	if err != nil && connect.CodeOf(err) != connect.NotFound {
		return err
	}
	answer := struct {
		Connected   bool     `json:"isConnected"`
		Email       *string  `json:"email"`
		Name        *string  `json:"name"`
		Text        string   `json:"displayText"`
		AuthType    string   `json:"authType"`
		NeedsReauth bool     `json:"needsReauth"`
		Scopes      []string `json:"granted_scopes"`
		ConnectedAt *string  `json:"connected_at"`
	}{Text: "Not connected", AuthType: "oauth", Scopes: []string{}}
	if c != nil && c.Connected {
		answer.Connected = true
		answer.Email, answer.Name, answer.Text = optional(c.Email), optional(c.Name), c.Email
		answer.NeedsReauth = c.NeedsReauth
		answer.Scopes = append(answer.Scopes, c.Scopes...)
		answer.ConnectedAt = optional(c.ConnectedAt.UTC().Format(time.RFC3339))
	}
	return e.json(w, http.StatusOK, answer)
}
