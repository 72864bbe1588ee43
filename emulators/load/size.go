package main

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"gcpconnect/emulators/google"
)

// size is how much load there is.
type size struct {
	users    int // who connect at once
	rate     int // status polls a second
	polls    int
	projects int // of the large setup
	// stop is the signal that ends the functions' process in the middle of the large setup.
	stop        syscall.Signal
	environment map[string]string
	look        time.Duration // between two polls of a user
	// together has the process end while the users' setups run too.
	together bool
	scenario *google.Scenario
}

// large is a load under which the figures mean something.
func large() size {
	ms := func(n int) google.Duration { return google.Duration(time.Duration(n) * time.Millisecond) }
	minute := ms(60_000)
	n := size{
		users: 500, rate: 2000, polls: 120_000, projects: 1000, stop: syscall.SIGKILL,
		look: 5 * time.Second,
	}
	n.scenario = n.newScenario([]string{"serviceusage.googleapis.com"}) // two batches to enable
	n.scenario.Quotas = true
	n.scenario.Latencies = google.Latencies{
		Read: ms(80), IAMWrite: ms(250), CreateAccount: ms(500),
		BatchEnable: ms(250), OAuth: ms(80), Operation: ms(15_000),
	}
	n.scenario.Propagation.GrantDelays = google.GrantDelays{Project: &minute, Account: &minute}
	return n
}

// small is a load of a few seconds. Google takes next to no time. All APIs are enabled, because an
// operation is not polled for 10 s. The process is terminated and not killed, because a lease that
// a killed process leaves takes 90 s to expire.
func small() size {
	n := size{
		users: 8, rate: 200, polls: 100, projects: 40, stop: syscall.SIGTERM, together: true,
		look:        100 * time.Millisecond,
		environment: map[string]string{"VERIFY_INTERVAL": "1s", "PLATFORM_QUOTA": "10"},
	}
	n.scenario = n.newScenario(enabled)
	n.scenario.Latencies.IAMWrite = google.Duration(50 * time.Millisecond) // the granting has a middle
	return n
}

// enabled are the APIs that a setup enables.
var enabled = strings.Fields(strings.ReplaceAll(`cloudresourcemanager. compute. container. run.
	cloudfunctions. storage. sqladmin. cloudbilling. iam. serviceusage. iamcredentials. cloudasset.
	orgpolicy. bigquery. artifactregistry. cloudbuild. eventarc. pubsub. secretmanager. logging.
	monitoring. cloudtrace. dns. servicenetworking. vpcaccess.`, ".", ".googleapis.com"))

// ownerEmail owns the projects of the large setup.
const ownerEmail = "owner@example.com"

func email(user int) string { return fmt.Sprintf("user-%03d@example.com", user) }

// newScenario returns a Google in which each user has one project and one user has many. These
// APIs are enabled in all of them.
func (n size) newScenario(apis []string) *google.Scenario {
	s := &google.Scenario{
		Clients: []google.Client{{
			ID: "demo-client.apps.googleusercontent.com", Secret: "demo-secret", Name: "Aurora",
			RedirectURIs: []string{"http://127.0.0.1:8080/callback"}, AnyLoopbackPort: true,
			Project: "aurora-platform",
		}},
		Projects: []google.Project{{
			ID: "aurora-platform", Number: "900000000001", BillingAccount: "0A0A0A-0B0B0B-0C0C0C",
			EnabledAPIs: &[]string{
				"cloudasset.googleapis.com", "cloudbilling.googleapis.com",
				"cloudresourcemanager.googleapis.com", "iam.googleapis.com",
				"iamcredentials.googleapis.com", "orgpolicy.googleapis.com",
				"serviceusage.googleapis.com",
			},
		}},
	}
	project := func(id, number, email string) {
		s.Projects = append(s.Projects, google.Project{
			ID: id, Number: number, Name: id, BillingAccount: "01A2B3-C4D5E6-F70819",
			Bindings:    []google.Binding{{Role: "roles/owner", Members: []string{"user:" + email}}},
			EnabledAPIs: &apis,
			Resources: []google.Resource{
				{AssetType: "storage.googleapis.com/Bucket", Name: id + "-files", Location: "eu"},
			},
		})
	}
	for i := range n.users {
		s.Users = append(s.Users,
			google.User{Email: email(i), Sub: fmt.Sprint(100_000_000_000_000_000 + i)})
		project(fmt.Sprintf("own-%04d", i), fmt.Sprint(200_000_000_000+i), email(i))
	}
	s.Users = append(s.Users, google.User{Email: ownerEmail, Sub: "300000000000000000000"})
	for i := range n.projects {
		project(fmt.Sprintf("many-%04d", i), fmt.Sprint(400_000_000_000+i), ownerEmail)
	}
	return s
}
