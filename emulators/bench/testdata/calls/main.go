// Command calls makes the calls of a setup with the libraries of the product and does nothing
// else. The product's processor time is compared with it. It prints the processor time that it
// used, in nanoseconds.
//
//	CALLS            how often to call each method of Google, as JSON
//	PROJECTS         how many projects there are: project-001 and so on
//	TRANSACTIONS     of Firestore, of two reads and a write each
//	WRITES           to Firestore besides, in batches
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"cloud.google.com/go/firestore"
	"golang.org/x/oauth2"
	"golang.org/x/sync/errgroup"
	cloudasset "google.golang.org/api/cloudasset/v1"
	cloudbilling "google.golang.org/api/cloudbilling/v1"
	cloudresourcemanager "google.golang.org/api/cloudresourcemanager/v3"
	"google.golang.org/api/option"
	orgpolicy "google.golang.org/api/orgpolicy/v2"
	serviceusage "google.golang.org/api/serviceusage/v1"

	"gcpconnect/shared/google"
	"gcpconnect/shared/setup"
)

const atOnce = 32 // as a step does

var apis = []string{
	"cloudresourcemanager.googleapis.com", "compute.googleapis.com", "container.googleapis.com", "run.googleapis.com", "cloudfunctions.googleapis.com",
	"storage.googleapis.com", "sqladmin.googleapis.com", "cloudbilling.googleapis.com", "iam.googleapis.com", "serviceusage.googleapis.com",
	"iamcredentials.googleapis.com", "cloudasset.googleapis.com", "orgpolicy.googleapis.com", "bigquery.googleapis.com", "artifactregistry.googleapis.com",
	"cloudbuild.googleapis.com", "eventarc.googleapis.com", "pubsub.googleapis.com", "secretmanager.googleapis.com", "logging.googleapis.com",
	"monitoring.googleapis.com", "cloudtrace.googleapis.com", "dns.googleapis.com", "servicenetworking.googleapis.com", "vpcaccess.googleapis.com",
}

func main() {
	began := cpu()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println((cpu() - began).Nanoseconds())
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// times runs work n times, as the product does.
func times(n int, work func(i int) error) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error { return work(i) })
	}
	return group.Wait()
}

func number(name string) int { n, _ := strconv.Atoi(os.Getenv(name)); return n }

func run(ctx context.Context) error {
	var counts map[string]int
	if err := json.Unmarshal([]byte(os.Getenv("CALLS")), &counts); err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = atOnce
	client := &http.Client{Transport: &oauth2.Transport{
		Source: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: os.Getenv("TOKEN")}), Base: transport,
	}}
	at := google.EndpointsUnder(os.Getenv("GOOGLE_ENDPOINT"))
	with := func(endpoint string) []option.ClientOption {
		return []option.ClientOption{option.WithHTTPClient(client), option.WithEndpoint(endpoint)}
	}
	crm, err1 := cloudresourcemanager.NewService(ctx, with(at.CloudResourceManager)...)
	billing, err2 := cloudbilling.NewService(ctx, with(at.CloudBilling)...)
	usage, err3 := serviceusage.NewService(ctx, with(at.ServiceUsage)...)
	policies, err4 := orgpolicy.NewService(ctx, with(at.OrgPolicy)...)
	assets, err5 := cloudasset.NewService(ctx, with(at.CloudAsset)...)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	projects := number("PROJECTS")
	project := func(i int) string { return fmt.Sprintf("projects/project-%03d", 1+i%projects) }
	var roles, proofs []string
	for _, r := range append(setup.DefaultAgentRoles(), setup.DefaultAskRoles()...) {
		roles = append(roles, r.Name)
	}
	for _, r := range setup.DefaultAgentRoles() {
		if !slices.Contains(proofs, r.Proof) {
			proofs = append(proofs, r.Proof)
		}
	}
	var mu sync.Mutex
	var operations []string
	found := make([]*cloudresourcemanager.Policy, projects)
	methods := []struct {
		name string
		call func(i int) error
	}{
		{"cloudbilling.projects.getBillingInfo", func(i int) error {
			_, err := billing.Projects.GetBillingInfo(project(i)).Do()
			return err
		}},
		{"serviceusage.services.batchGet", func(i int) error {
			names := make([]string, len(apis))
			for n, api := range apis {
				names[n] = project(i) + "/services/" + api
			}
			_, err := usage.Services.BatchGet(project(i)).Names(names...).Fields("services(name,state)").Do()
			return err
		}},
		{"serviceusage.services.batchEnable", func(i int) error {
			batch := apis[:20]
			if i >= projects {
				batch = apis[20:]
			}
			o, err := usage.Services.BatchEnable(project(i), &serviceusage.BatchEnableServicesRequest{ServiceIds: batch}).Fields("name,done,error,response").Do()
			if err == nil {
				mu.Lock()
				operations = append(operations, o.Name)
				mu.Unlock()
			}
			return err
		}},
		{"serviceusage.operations.get", func(i int) error {
			_, err := usage.Operations.Get(operations[i%len(operations)]).Fields("name,done,error,response").Do()
			return err
		}},
		{"cloudresourcemanager.projects.getIamPolicy", func(i int) (err error) {
			found[i%projects], err = crm.Projects.GetIamPolicy(project(i), &cloudresourcemanager.GetIamPolicyRequest{
				Options: &cloudresourcemanager.GetPolicyOptions{RequestedPolicyVersion: 3},
			}).Do()
			return err
		}},
		{"cloudresourcemanager.projects.setIamPolicy", func(i int) error {
			policy := found[i%projects]
			policy.Version = 3
			for _, role := range roles {
				policy.Bindings = append(policy.Bindings, &cloudresourcemanager.Binding{Role: role, Members: []string{os.Getenv("MEMBER")}})
			}
			_, err := crm.Projects.SetIamPolicy(project(i), &cloudresourcemanager.SetIamPolicyRequest{Policy: policy}).Fields("etag").Do()
			return err
		}},
		{"orgpolicy.policies.getEffectivePolicy", func(i int) error {
			_, err := policies.Projects.Policies.GetEffectivePolicy(project(i) + "/policies/iam.allowedPolicyMemberDomains").Do()
			return err
		}},
		{"cloudresourcemanager.projects.testIamPermissions", func(i int) error {
			_, err := crm.Projects.TestIamPermissions(project(i), &cloudresourcemanager.TestIamPermissionsRequest{Permissions: proofs}).Do()
			return err
		}},
		{"cloudasset.searchAllResources", func(i int) error {
			_, err := assets.V1.SearchAllResources(project(i)).ReadMask("name,assetType").PageSize(500).Do()
			return err
		}},
	}
	for _, m := range methods {
		if err := times(counts[m.name], m.call); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		delete(counts, m.name)
	}
	for name, n := range counts {
		if n >= projects {
			return fmt.Errorf("%s is called %d times, and not here", name, n)
		}
	}
	if os.Getenv("FIRESTORE_EMULATOR_HOST") == "" {
		return nil
	}
	return state(ctx, number("TRANSACTIONS"), number("WRITES"))
}

// entry is about as large as an entry of the ledger.
type entry struct {
	ID, UserID, SetupID, ProjectID, Kind, Target, State string
	PlannedAt, DoneAt                                   time.Time
	Version                                             int
}

func state(ctx context.Context, transactions, writes int) error {
	store, err := firestore.NewClient(ctx, os.Getenv("GOOGLE_CLOUD_PROJECT"))
	if err != nil {
		return err
	}
	defer store.Close()
	e := entry{"0123456789abcdef0123456789abcdef", "user-1", "EQ5LY3UWAF2BNCW5Q47KGDL5CT", "project-001", "enable_api", "serviceusage.googleapis.com", "planned", time.Now(), time.Now(), 3}
	if err := times(transactions, func(i int) error {
		return store.RunTransaction(ctx, func(_ context.Context, t *firestore.Transaction) error {
			if _, err := t.GetAll([]*firestore.DocumentRef{store.Doc("bare/shared")}); err != nil {
				return err
			}
			own := store.Doc(fmt.Sprintf("bare/%d", i))
			if _, err := t.GetAll([]*firestore.DocumentRef{own}); err != nil {
				return err
			}
			return t.Set(own, e)
		})
	}); err != nil {
		return err
	}
	const batch = 20
	return times((writes+batch-1)/batch, func(i int) error {
		w := store.BulkWriter(ctx)
		var jobs []*firestore.BulkWriterJob
		for n := range batch {
			job, err := w.Set(store.Doc(fmt.Sprintf("bare/%d-%d", i, n)), e)
			if err != nil {
				return err
			}
			jobs = append(jobs, job)
		}
		w.End()
		for _, job := range jobs {
			if _, err := job.Results(); err != nil {
				return err
			}
		}
		return nil
	})
}
