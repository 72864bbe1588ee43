package tasks_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/idtoken"
	"google.golang.org/api/option"

	"gcpconnect/emulators/google"
	"gcpconnect/emulators/tasks"
)

// to sends every request to one server, whatever its host.
type to struct{ url *url.URL }

func (t to) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = t.url.Scheme, t.url.Host
	return http.DefaultTransport.RoundTrip(r)
}

// Google's own validator, which asks for Google's keys, takes the token that a
// delivery carries.
func TestTokensAreOfTheAccountAndForTheAudience(t *testing.T) {
	t.Parallel()
	signer, err := google.NewServer(google.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/oauth2/v3/certs" { // as it is at www.googleapis.com
			signer.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	defer keys.Close()
	at, err := url.Parse(keys.URL)
	if err != nil {
		t.Fatal(err)
	}
	validator, err := idtoken.NewValidator(t.Context(), option.WithHTTPClient(&http.Client{Transport: to{at}}))
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan string, 1)
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { came <- r.Header.Get("Authorization") }))
	defer target.Close()
	s, err := tasks.NewServer(tasks.Options{Token: signer.IDToken})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	const queue = "projects/p/locations/l/queues/q"
	if _, err := s.UpdateQueue(t.Context(), &cloudtaskspb.UpdateQueueRequest{Queue: &cloudtaskspb.Queue{Name: queue}}); err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[string]string{"": target.URL + "/f", "https://functions.example.com": "https://functions.example.com"} {
		_, err := s.CreateTask(t.Context(), &cloudtaskspb.CreateTaskRequest{Parent: queue, Task: &cloudtaskspb.Task{
			MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
				Url: target.URL + "/f",
				AuthorizationHeader: &cloudtaskspb.HttpRequest_OidcToken{OidcToken: &cloudtaskspb.OidcToken{
					ServiceAccountEmail: "queue@p.iam.gserviceaccount.com", Audience: asked,
				}},
			}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		token := strings.TrimPrefix(<-came, "Bearer ")
		payload, err := validator.Validate(t.Context(), token, want)
		if err != nil {
			t.Fatalf("for the audience %q: %v", want, err)
		}
		if payload.Issuer != "https://accounts.google.com" || payload.Claims["email"] != "queue@p.iam.gserviceaccount.com" || payload.Claims["email_verified"] != true {
			t.Errorf("claims = %v", payload.Claims)
		}
		if _, err := validator.Validate(t.Context(), token, "https://other.example.com"); err == nil {
			t.Error("a token for another audience is accepted")
		}
	}
}
