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
	c, err := e.connected(r, user)
	if err != nil {
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
	if c != nil {
		answer.Connected = true
		answer.Email, answer.Name, answer.Text = optional(c.Email), optional(c.Name), c.Email
		answer.NeedsReauth = c.NeedsReauth
		answer.Scopes = append(answer.Scopes, c.Scopes...)
		answer.ConnectedAt = optional(c.ConnectedAt.UTC().Format(time.RFC3339))
	}
	return e.json(w, http.StatusOK, answer)
}

// connected returns the user's connection if it stands, and nil if not.
func (e *edge) connected(r *http.Request, user string) (*connect.Connection, error) {
	c, err := e.Store.Connection(r.Context(), user)
	if connect.CodeOf(err) == connect.NotFound || err == nil && !c.Connected {
		return nil, nil //nolint:nilnil // none is an answer here
	}
	return c, err
}
