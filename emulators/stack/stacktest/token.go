package stacktest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// AccountToken is the answer of POST /internal/token.
type AccountToken struct {
	Token   string    `json:"access_token"`
	Expires time.Time `json:"expire_time"`
	Project string    `json:"project_id"`
	Email   string    `json:"service_account_email"`

	Code string `json:"code"` // of an error
}

// RequestToken requests a token as one of Aurora's services and checks the
// status of the answer.
func (y *System) RequestToken(want int, request map[string]any) AccountToken {
	y.T.Helper()
	content, err := json.Marshal(request)
	if err != nil {
		y.T.Fatal(err)
	}
	r, err := http.NewRequestWithContext(y.T.Context(), http.MethodPost, y.URL+"/internal/token", bytes.NewReader(content))
	if err != nil {
		y.T.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Internal-Service", "tools")
	response, err := y.Client().Do(r)
	if err != nil {
		y.T.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		y.T.Fatal(err)
	}
	var answer AccountToken
	if err := json.Unmarshal(body, &answer); err != nil {
		y.T.Fatalf("%v answered %q: %v", request, body, err)
	}
	if response.StatusCode != want || (want == http.StatusOK) != (answer.Token != "") {
		y.T.Errorf("%v answered %d, code %q, want %d", request, response.StatusCode, answer.Code, want)
	}
	return answer
}

// PermissionsOf returns those of the permissions that a token has in a project.
func (y *System) PermissionsOf(token, projectID string, permissions ...string) string {
	y.T.Helper()
	body, err := json.Marshal(map[string]any{"permissions": permissions})
	if err != nil {
		y.T.Fatal(err)
	}
	r, err := http.NewRequestWithContext(y.T.Context(), http.MethodPost, y.GoogleURL+"/cloudresourcemanager/v3/projects/"+projectID+":testIamPermissions", bytes.NewReader(body))
	if err != nil {
		y.T.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	response, err := y.Client().Do(r)
	if err != nil {
		y.T.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Permissions []string `json:"permissions"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusOK {
		y.T.Errorf("testing permissions answered %d, %v", response.StatusCode, err)
	}
	return strings.Join(answer.Permissions, " ")
}

// CallGoogle calls Google as a user by other means than Aurora's.
func (y *System) CallGoogle(email, method, path string, body any) {
	y.T.Helper()
	token, err := y.Google.MintToken(email, "https://www.googleapis.com/auth/cloud-platform")
	if err != nil {
		y.T.Fatal(err)
	}
	content, err := json.Marshal(body)
	if err != nil {
		y.T.Fatal(err)
	}
	r, err := http.NewRequestWithContext(y.T.Context(), method, y.GoogleURL+path, bytes.NewReader(content))
	if err != nil {
		y.T.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	response, err := y.Client().Do(r)
	if err != nil {
		y.T.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(response.Body)
		y.T.Fatalf("%s %s answered %d %s", method, path, response.StatusCode, answer)
	}
}
