// Command smoke looks at a deployment from outside, as a caller that it does not
// know:
//
//	terraform -chdir=terraform/examples/production output -json | go run ./functions/cmd/smoke
//
// Every public path must answer as the program answers strangers, whatever is
// on no path must be answered so too, nothing may be had without TLS, and what
// is not public must be refused before the program sees it. So a wrong address,
// a function behind the wrong path, an instance that does not start, and a door
// that is open by mistake are found before users find them. It changes nothing.
//
// The list is functions.Table; the addresses are Terraform's outputs paths and
// function_urls.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"time"

	"gcpconnect/functions"
	"gcpconnect/shared/connect"
)

func main() {
	patience := flag.Duration("patience", 3*time.Minute, "how long an answer that is not right may take to become so")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	s := smoke{client: &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, patience: *patience, pause: 5 * time.Second}
	err := s.run(ctx, os.Stdin, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// smoke is how to look.
type smoke struct {
	client   *http.Client  // which follows no redirect
	patience time.Duration // until an answer must be right, of all together
	pause    time.Duration // between two tries
}

// outputs are those of Terraform that say where things are.
type outputs struct {
	Paths     output `json:"paths"`         // URLs by the load balancer's pattern of a path
	Functions output `json:"function_urls"` // URLs of the services by function
}

type output struct {
	Value map[string]string `json:"value"`
}

// look is one look at a deployment.
type look struct {
	method, url string
	want        string // what the answer must be, for people
	right       func(answer) bool
}

// answer is what came back.
type answer struct {
	*http.Response
	body []byte
}

// code is that of the program's own answers, "" for those of anybody else.
func (a answer) code() connect.Code {
	var said struct {
		Error string       `json:"error"`
		Code  connect.Code `json:"code"`
	}
	if json.Unmarshal(a.body, &said) != nil || said.Error == "" {
		return ""
	}
	return said.Code
}

// run looks at everything and reports each look. The error joins what is wrong.
func (s smoke) run(ctx context.Context, in io.Reader, out io.Writer) error {
	var where outputs
	if err := json.NewDecoder(in).Decode(&where); err != nil {
		return fmt.Errorf("read Terraform's outputs: %w", err)
	}
	looks, err := plan(where)
	if err != nil {
		return err
	}
	patience := time.Now().Add(s.patience)
	var faults []error
	for _, l := range looks {
		if err := s.try(ctx, l, patience); err != nil {
			faults = append(faults, err)
			continue
		}
		fmt.Fprintf(out, "ok  %-4s %s: %s\n", l.method, l.url, l.want)
	}
	return errors.Join(faults...)
}

// variable is a part of a path that stands for any.
var variable = regexp.MustCompile(`\{[a-z_]+\}`)

// plan says what to look at.
func plan(where outputs) ([]look, error) {
	var looks []look
	var faults []error
	hosts := map[string]bool{}
	for _, f := range functions.Table() {
		if f.Caller != functions.CallerUser && f.Caller != functions.CallerBrowser {
			at := where.Functions.Value[f.Name]
			if at == "" {
				faults = append(faults, fmt.Errorf("the output function_urls has no %s", f.Name))
			}
			looks = append(looks, look{http.MethodPost, at + "/", "refused by Google", closed})
			continue
		}
		for _, r := range f.Routes {
			pattern := variable.ReplaceAllString(r.Path, "*")
			at := where.Paths.Value[pattern]
			u, err := url.Parse(at)
			if err != nil || u.Scheme != "https" || u.Host == "" {
				faults = append(faults, fmt.Errorf("the output paths has %q for %s, which is no https URL", at, pattern))
				continue
			}
			hosts[u.Host] = true
			looks = append(looks, stranger(f, r.Method, strings.ReplaceAll(at, "*", "smoke")))
		}
	}
	for host := range hosts {
		looks = append(looks,
			look{http.MethodGet, "https://" + host + "/no/such/path", "404 from the program", ours(http.StatusNotFound, connect.NotFound)},
			look{http.MethodGet, "http://" + host + "/login", "sent to https", func(a answer) bool {
				return a.StatusCode/100 == 3 && strings.HasPrefix(a.Header.Get("Location"), "https://"+host)
			}})
	}
	slices.SortStableFunc(looks, func(a, b look) int { return strings.Compare(a.url, b.url) })
	return looks, errors.Join(faults...)
}

// stranger is what somebody unknown must get of a public function.
func stranger(f functions.Function, method, at string) look {
	if f.Caller == functions.CallerBrowser {
		return look{method, at, "400 from the program: nobody was on the way back", ours(http.StatusBadRequest, connect.Invalid)}
	}
	return look{method, at, "401 from the program", ours(http.StatusUnauthorized, connect.Unauthenticated)}
}

// ours tells an answer of the program itself.
func ours(status int, code connect.Code) func(answer) bool {
	return func(a answer) bool {
		return a.StatusCode == status && a.code() == code && a.Header.Get("Strict-Transport-Security") != ""
	}
}

// closed tells an answer of Google's front end to somebody who may not come in
// (https://cloud.google.com/run/docs/securing/ingress): the program has not
// given it.
func closed(a answer) bool {
	return slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound}, a.StatusCode) && a.code() == ""
}

// try looks until what it sees is right, or patience ends: an address can need a
// moment to be known, an instance to start, and a rate limit to let us on.
func (s smoke) try(ctx context.Context, l look, patience time.Time) error {
	for {
		got, right := s.see(ctx, l)
		if right {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(patience) {
			return fmt.Errorf("%s %s must be %s, and is %s", l.method, l.url, l.want, got)
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.pause):
		}
	}
}

// see looks once. It returns what it saw, for people.
func (s smoke) see(ctx context.Context, l look) (got string, right bool) {
	r, err := http.NewRequestWithContext(ctx, l.method, l.url, http.NoBody)
	if err != nil {
		return err.Error(), false
	}
	response, err := s.client.Do(r)
	if err != nil {
		return err.Error(), false
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return err.Error(), false
	}
	return fmt.Sprintf("%d %.200q", response.StatusCode, body), l.right(answer{response, body})
}
