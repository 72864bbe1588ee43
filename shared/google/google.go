// Package google is the chain's view of Google Cloud (setup.Cloud) over
// Google's own Go clients.
//
// The clients are made once for the process and carry no identity; each call
// gets its token and its quota project from the Cloud that it is made through.
// One function, do, makes every call: it waits for the call's turn, authorizes,
// retries what is worth retrying, and turns what remains into an error of a
// class. Start there. The table in api.go decides which project and quota a
// call is counted against, pace.go when it may be made; errors.go decides what
// an answer that is no success means.
package google

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	cloudasset "google.golang.org/api/cloudasset/v1"
	cloudbilling "google.golang.org/api/cloudbilling/v1"
	cloudresourcemanager "google.golang.org/api/cloudresourcemanager/v3"
	iam "google.golang.org/api/iam/v1"
	iamcredentials "google.golang.org/api/iamcredentials/v1"
	"google.golang.org/api/option"
	orgpolicy "google.golang.org/api/orgpolicy/v2"
	serviceusage "google.golang.org/api/serviceusage/v1"

	"gcpconnect/shared/calls"
	"gcpconnect/shared/connect"
	"gcpconnect/shared/setup"
)

// Endpoints are the base URLs of the APIs, each ending in a slash. An empty
// one is Google's own.
type Endpoints struct {
	CloudResourceManager string
	CloudBilling         string
	ServiceUsage         string
	IAM                  string
	IAMCredentials       string
	OrgPolicy            string
	CloudAsset           string
}

// EndpointsUnder are the endpoints of a Google that is emulated under one
// address, with a path for each API.
func EndpointsUnder(base string) Endpoints {
	under := func(api string) string { return strings.TrimSuffix(base, "/") + "/" + api + "/" }
	return Endpoints{
		CloudResourceManager: under("cloudresourcemanager"),
		CloudBilling:         under("cloudbilling"),
		ServiceUsage:         under("serviceusage"),
		IAM:                  under("iam"),
		IAMCredentials:       under("iamcredentials"),
		OrgPolicy:            under("orgpolicy"),
		CloudAsset:           under("cloudasset"),
	}
}

// Options say how to reach Google.
type Options struct {
	Endpoints Endpoints
	Transport http.RoundTripper // nil: one of its own. All calls of all identities share it
	Logger    *slog.Logger      // nil: slog's default
	Watch     *calls.Watch      // of all calls; nil: none
	// PlatformQuota is how much of Google's default quotas this instance may use
	// of the platform's project, against which the calls of all users are
	// counted; 0 is 1, all of them. Less where instances share it, more where
	// Google raised them.
	PlatformQuota float64
}

// Google is Google Cloud for any identity. It implements setup.Google.
type Google struct {
	projects    *cloudresourcemanager.ProjectsService
	billing     *cloudbilling.ProjectsService
	services    *serviceusage.ServicesService
	operations  *serviceusage.OperationsService
	accounts    *iam.ProjectsServiceAccountsService
	credentials *iamcredentials.ProjectsServiceAccountsService
	policies    *orgpolicy.ProjectsPoliciesService
	assets      *cloudasset.V1Service
	paces       *paces
	log         *slog.Logger
	watch       *calls.Watch
}

var _ setup.Google = (*Google)(nil)

// connectionsPerHost is how many idle connections are kept to each API: as
// many as a step makes calls at once. Google speaks HTTP/2, where one serves
// all; an emulated one does not.
const connectionsPerHost = 32

// New makes the clients. It makes no call and looks for no credentials.
func New(opts Options) (*Google, error) {
	if opts.Transport == nil {
		transport, ok := http.DefaultTransport.(*http.Transport)
		if !ok {
			return nil, fmt.Errorf("http.DefaultTransport is a %T", http.DefaultTransport)
		}
		transport = transport.Clone()
		transport.MaxIdleConnsPerHost = connectionsPerHost
		opts.Transport = transport
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	client := option.WithHTTPClient(&http.Client{
		Transport: connect.Punctual{Next: opts.Transport},
		// The APIs do not redirect. A token is not to follow who does.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	// The clients can log whole requests and answers, tokens included, when
	// GOOGLE_SDK_GO_LOGGING_LEVEL is set. These never do.
	silent := option.WithLogger(slog.New(slog.DiscardHandler))
	with := func(endpoint string) []option.ClientOption {
		if endpoint == "" {
			return []option.ClientOption{client, silent}
		}
		return []option.ClientOption{client, silent, option.WithEndpoint(endpoint)}
	}
	ctx := context.Background()
	resourceManager, err := cloudresourcemanager.NewService(ctx, with(opts.Endpoints.CloudResourceManager)...)
	if err != nil {
		return nil, fmt.Errorf("make Resource Manager client: %w", err)
	}
	billing, err := cloudbilling.NewService(ctx, with(opts.Endpoints.CloudBilling)...)
	if err != nil {
		return nil, fmt.Errorf("make Billing client: %w", err)
	}
	usage, err := serviceusage.NewService(ctx, with(opts.Endpoints.ServiceUsage)...)
	if err != nil {
		return nil, fmt.Errorf("make Service Usage client: %w", err)
	}
	accounts, err := iam.NewService(ctx, with(opts.Endpoints.IAM)...)
	if err != nil {
		return nil, fmt.Errorf("make IAM client: %w", err)
	}
	credentials, err := iamcredentials.NewService(ctx, with(opts.Endpoints.IAMCredentials)...)
	if err != nil {
		return nil, fmt.Errorf("make IAM Credentials client: %w", err)
	}
	policies, err := orgpolicy.NewService(ctx, with(opts.Endpoints.OrgPolicy)...)
	if err != nil {
		return nil, fmt.Errorf("make Org Policy client: %w", err)
	}
	assets, err := cloudasset.NewService(ctx, with(opts.Endpoints.CloudAsset)...)
	if err != nil {
		return nil, fmt.Errorf("make Cloud Asset client: %w", err)
	}
	return &Google{
		projects: resourceManager.Projects, billing: billing.Projects,
		services: usage.Services, operations: usage.Operations,
		accounts: accounts.Projects.ServiceAccounts, credentials: credentials.Projects.ServiceAccounts,
		policies: policies.Projects.Policies, assets: assets.V1,
		paces: newPaces(cmp.Or(opts.PlatformQuota, 1)), log: opts.Logger, watch: opts.Watch,
	}, nil
}

// As implements setup.Google.
func (g *Google) As(source setup.TokenSource) setup.Cloud {
	c := &cloud{Google: g, source: source}
	if payer, ok := source.(setup.Payer); ok {
		c.consumer = payer.Project()
	}
	return c
}

// cloud is Google Cloud as one identity sees it.
type cloud struct {
	*Google
	source   setup.TokenSource
	consumer string // the project that calls are counted against if they name none; "": the platform's
}

var _ setup.Cloud = (*cloud)(nil)

// Format keeps the source's tokens out of print: fmt shows fields that are not
// exported without asking their types.
func (c *cloud) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "Google Cloud") }
