package memory_test

import (
	"strings"
	"testing"
	"time"

	"gcpconnect/emulators/demo"
	"gcpconnect/emulators/google"
	"gcpconnect/emulators/google/googletest"
	"gcpconnect/emulators/stack/stacktest"
)

func TestSetup_IsInForceAtGoogle(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3, 5} {
		t.Run(string(rune('0'+n))+" projects", func(t *testing.T) {
			t.Parallel()
			stacktest.Run(t, googletest.Scenario(n), nil, func(y *stacktest.System) {
				final := y.Complete()
				y.WantSuccess(final, n, n)
				if final.Result.Redirect != "login=gcp_success&policy=policy_ok" {
					t.Errorf("redirect_params = %q", final.Result.Redirect)
				}
				var root struct {
					Accounts struct {
						Root string `json:"root_project"`
						Full string `json:"full_access_sa"`
						Read string `json:"read_only_sa"`
					} `json:"service_accounts"`
				}
				y.Call(200, "GET", "/api/gcp/root-project", nil, &root)
				if root.Accounts.Root != "project-001" {
					t.Errorf("root project is %q, want the first", root.Accounts.Root)
				}
				snapshot := y.Google.Snapshot()
				accounts := 0
				for _, p := range snapshot.Projects {
					accounts += len(p.ServiceAccounts)
					if p.ID == "aurora-platform" {
						continue
					}
					for role, member := range map[string]string{"roles/run.admin": root.Accounts.Full, "roles/viewer": root.Accounts.Read} {
						if !googletest.Holds(p.Bindings, role, "serviceAccount:"+member) {
							t.Errorf("%s lacks %s in %s", member, role, p.ID)
						}
					}
					for _, b := range p.Bindings {
						if b.Role == "roles/iam.serviceAccountTokenCreator" || b.Role == "roles/owner" && len(b.Members) > 1 {
							t.Errorf("%s was granted on project %s to %v", b.Role, p.ID, b.Members)
						}
					}
					enabled := strings.Join(p.EnabledAPIs, " ")
					for _, api := range []string{"run.googleapis.com", "container.googleapis.com", "vpcaccess.googleapis.com"} {
						if !strings.Contains(enabled, api) {
							t.Errorf("%s is not enabled in %s", api, p.ID)
						}
					}
				}
				if accounts != 2 {
					t.Errorf("%d service accounts were made, want 2", accounts)
				}
			})
		})
	}
}

func TestSetup_SecondRunKeepsGooglesState(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(3), nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 3, 3)
		before := y.Google.Snapshot()
		y.Google.ClearCalls()
		final := y.Await(y.Restart("project-001", "project-002", "project-003"))
		y.WantSuccess(final, 3, 3)
		if counts := y.Google.CallCounts(); counts.Writes != 0 {
			t.Errorf("the second run made %d writes: %v", counts.Writes, counts.ByMethod)
		}
		if final.Changes.Made != 0 || final.Changes.Stood == 0 {
			t.Errorf("the second run counts %+v", final.Changes)
		}
		after := y.Google.Snapshot()
		after.Time = before.Time
		if stacktest.Show(before) != stacktest.Show(after) {
			t.Error("the second run changed the state at Google")
		}
	})
}

func TestSelection_IsNeededForManyProjects(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(6), nil, func(y *stacktest.System) {
		before := y.Google.Snapshot()
		asked := y.Complete()
		if asked.Result == nil || asked.Result.Status != "needs_selection" || asked.Result.Count != 6 || len(asked.Result.Eligible) != 6 || asked.Result.Eligible[0].ID != "project-001" {
			t.Fatalf("setup ended with %s", stacktest.Show(asked))
		}
		if now := y.Google.Snapshot(); stacktest.Show(now.Projects) != stacktest.Show(before.Projects) {
			t.Error("something was changed before the user had chosen")
		}
		y.Call(400, "POST", "/gcp/post-auth-retry", nil, nil) // a selection is needed
		y.WantSuccess(y.Await(y.Restart("project-002", "project-005")), 2, 2)
		if p, _ := y.Google.Project("project-001"); len(p.Bindings) != 1 || len(p.ServiceAccounts) != 0 {
			t.Error("a project that was not selected was changed, or made the root project")
		}
		if p, _ := y.Google.Project("project-002"); len(p.ServiceAccounts) != 2 {
			t.Error("the root project is not the first of the selected")
		}
	})
}

func TestSelection_NamesIneligibleProjects(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(7, func(s *google.Scenario) {
		googletest.Project(s, "project-006").BillingAccount = ""
		googletest.Project(s, "project-007").ID = "sys-00000000000000000000000001"
	})
	stacktest.Run(t, s, map[string]string{"MAX_SELECTED_PROJECTS": "3"}, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 5, 5)
		body := y.Call(400, "POST", "/gcp/post-auth-retry", map[string]any{"selected_project_ids": []string{"project-001", "project-006", "sys-00000000000000000000000001"}}, nil)
		if !strings.Contains(body, "project-006 (no active billing)") || !strings.Contains(body, "sys-00000000000000000000000001 (not visible") || strings.Contains(body, "project-001") {
			t.Errorf("the answer is %s", body)
		}
		y.Call(400, "POST", "/gcp/post-auth-retry", map[string]any{"selected_project_ids": []string{"a", "b", "c", "d"}}, nil)
		y.Call(400, "POST", "/gcp/post-auth-retry", nil, nil) // nothing failed: nothing to retry
	})
}

func TestSetup_WithoutProjectsFails(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(1, func(s *google.Scenario) { googletest.Project(s, "project-001").State = "DELETE_REQUESTED" })
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		y.WantFailed(y.Complete(), "login=gcp_no_projects", "No GCP projects found during login")
	})
}

func TestSetup_WithoutBillingFails(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(2, func(s *google.Scenario) {
		googletest.Project(s, "project-001").BillingAccount = ""
		googletest.Project(s, "project-002").BillingClosed = true
	})
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		y.WantFailed(y.Complete(), "login=gcp_failed_billing", "No GCP project with active billing found")
	})
}

func TestSetup_TakesOnlyEligibleProjects(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(4, func(s *google.Scenario) {
		googletest.Project(s, "project-001").BillingAccount = ""
		googletest.Project(s, "project-002").State = "DELETE_REQUESTED"
		googletest.Project(s, "project-003").ID = "sys-012345678901234567890"
	})
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		final := y.Complete()
		y.WantSuccess(final, 1, 1)
		if final.Projects[0].ID != "project-004" {
			t.Errorf("%s was set up", final.Projects[0].ID)
		}
	})
}

func TestSetup_ForbiddenProjectIsPartial(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(3, func(s *google.Scenario) {
		googletest.Project(s, "project-002").Bindings[0].Role = "roles/viewer"
	})
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		final := y.Complete()
		y.WantSuccess(final, 2, 3)
		if !strings.Contains(final.Result.Redirect, "partial_setup=true") || !strings.Contains(final.Result.Redirect, "propagation_partial=true") {
			t.Errorf("redirect_params = %q", final.Result.Redirect)
		}
		if !strings.Contains(final.Result.Message, "Propagation verification: PARTIAL (2/3 projects)") {
			t.Errorf("message = %q", final.Result.Message)
		}
		if !strings.Contains(stacktest.ProjectError(final, "project-002"), "then retry") {
			t.Errorf("the project's error is %q", stacktest.ProjectError(final, "project-002"))
		}
		// An administrator helps, and only what failed is retried.
		if err := y.Google.SetPolicy("project-002", []google.Binding{{Role: "roles/owner", Members: []string{"user:" + owner}}}); err != nil {
			t.Fatal(err)
		}
		y.Google.ClearCalls()
		again := y.Await(y.Restart())
		y.WantSuccess(again, 1, 1)
		if n := y.Google.CallCounts().ByProject["project-003"]; n != 0 {
			t.Errorf("the retry made %d calls about a project that had succeeded", n)
		}
		if p, _ := y.Google.Project("project-002"); len(p.ServiceAccounts) != 0 {
			t.Error("the retry made other service accounts than there were")
		}
	})
}

func TestEnableAPIs_RefusedAPIIsNamed(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"call", "operation", "failures"} {
		t.Run("refused at "+at, func(t *testing.T) {
			t.Parallel()
			s := googletest.Scenario(2, func(s *google.Scenario) {
				googletest.Project(s, "project-001").EnabledAPIs = &[]string{"serviceusage.googleapis.com"}
				googletest.Project(s, "project-001").ServiceFailures = []google.ServiceFailure{{Service: "eventarc.googleapis.com", At: at}}
			})
			stacktest.Run(t, s, nil, func(y *stacktest.System) {
				final := y.Complete()
				y.WantSuccess(final, 2, 2)
				if !strings.Contains(final.Result.Redirect, "partial_setup=true") {
					t.Errorf("redirect_params = %q", final.Result.Redirect)
				}
				message := stacktest.ProjectError(final, "project-001")
				if !strings.Contains(message, "Error enabling required APIs in project project-001: eventarc.googleapis.com") || strings.Contains(message, "pubsub") {
					t.Errorf("the project's error is %q", message)
				}
				p, _ := y.Google.Project("project-001")
				if enabled := len(p.EnabledAPIs); enabled != 24 {
					t.Errorf("%d APIs are enabled, want all 25 but one", enabled)
				}
			})
		})
	}
}

func TestOrgPolicy(t *testing.T) {
	t.Parallel()
	t.Run("that the user may not change is reported and not fatal", func(t *testing.T) {
		t.Parallel()
		stacktest.Run(t, googletest.Scenario(2, googletest.Restricted), nil, func(y *stacktest.System) {
			final := y.Complete()
			y.WantSuccess(final, 2, 2)
			if !strings.Contains(final.Result.Redirect, "policy=policy_failed&policy_details=") || !strings.Contains(final.Result.Message, "Org Policy update failed for some projects: project-001, project-002") {
				t.Errorf("result = %s", stacktest.Show(final.Result))
			}
			if final.Projects[0].OrgPolicy != "forbidden" || final.Projects[0].Error != nil {
				t.Errorf("project = %s", stacktest.Show(final.Projects[0]))
			}
		})
	})
	t.Run("that the user may change is changed in the project, and once", func(t *testing.T) {
		t.Parallel()
		s := googletest.Scenario(2, func(s *google.Scenario) {
			googletest.Restricted(s)
			googletest.PolicyAdministrator(s)
			googletest.Project(s, "project-002").OrgPolicies = map[string]google.PolicySpec{
				"iam.allowedPolicyMemberDomains": {Rules: []google.PolicyRule{{Values: &google.StringValues{AllowedValues: []string{"C0example", "C0partner"}}}}},
			}
		})
		stacktest.Run(t, s, nil, func(y *stacktest.System) {
			final := y.Complete()
			y.WantSuccess(final, 2, 2)
			if final.Result.Redirect != "login=gcp_success&policy=policy_ok" {
				t.Errorf("redirect_params = %q", final.Result.Redirect)
			}
			for _, id := range []string{"project-001", "project-002"} {
				p, _ := y.Google.Project(id)
				if spec := p.OrgPolicies["iam.allowedPolicyMemberDomains"]; len(spec.Rules) != 1 || !spec.Rules[0].AllowAll {
					t.Errorf("%s has %s", id, stacktest.Show(spec))
				}
			}
		})
	})
	t.Run("stays alone when updating is switched off", func(t *testing.T) {
		t.Parallel()
		stacktest.Run(t, googletest.Scenario(1, googletest.Restricted), map[string]string{"UPDATE_ORG_POLICIES": "false"}, func(y *stacktest.System) {
			final := y.Complete()
			y.WantSuccess(final, 1, 1)
			if final.Result.Redirect != "login=gcp_success" || final.Projects[0].OrgPolicy != "not_applicable" {
				t.Errorf("result = %s", stacktest.Show(final))
			}
			for method := range y.Google.CallCounts().ByMethod {
				if strings.HasPrefix(method, "orgpolicy.") {
					t.Errorf("%s was called", method)
				}
			}
		})
	})
}

func TestGrantAccess_RestrictedSharingIsPartial(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(2, func(s *google.Scenario) {
		// An external member from before the restriction makes every write of
		// the policy fail.
		p := googletest.Project(s, "project-002")
		p.Bindings = append(p.Bindings, google.Binding{Role: "roles/viewer", Members: []string{"user:partner@elsewhere.example"}})
		p.OrgPolicies = map[string]google.PolicySpec{googletest.DomainConstraint: googletest.OwnMembersOnly()}
	})
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		final := y.Complete()
		y.WantSuccess(final, 1, 2)
		if message := stacktest.ProjectError(final, "project-002"); !strings.Contains(message, "iam.allowedPolicyMemberDomains") {
			t.Errorf("the project's error is %q", message)
		}
	})
}

func TestGrantAccess_KeepsConditionalBindings(t *testing.T) {
	t.Parallel()
	conditional := google.Binding{
		Role: "roles/run.admin", Members: []string{"user:" + owner},
		Condition: &google.Condition{Title: "until 2030", Expression: `request.time < timestamp("2030-01-01T00:00:00Z")`},
	}
	s := googletest.Scenario(1, func(s *google.Scenario) {
		googletest.Project(s, "project-001").Bindings = append(googletest.Project(s, "project-001").Bindings, conditional)
	})
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		y.WantSuccess(y.Complete(), 1, 1)
		p, _ := y.Google.Project("project-001")
		kept := 0
		for _, b := range p.Bindings {
			if b.Condition != nil {
				kept++
				if stacktest.Show(b) != stacktest.Show(conditional) {
					t.Errorf("the conditional binding became %s", stacktest.Show(b))
				}
			}
		}
		if kept != 1 {
			t.Errorf("%d conditional bindings are left", kept)
		}
	})
}

func TestVerify_ChecksEvery30Seconds(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(3), nil, func(y *stacktest.System) { // grants take 60 s
		started := time.Now()
		final := y.Complete()
		y.WantSuccess(final, 3, 3)
		if took := time.Since(started); took < time.Minute || took > 70*time.Second {
			t.Errorf("the setup took %v, want the third check after a minute", took)
		}
		if n := y.Google.CallCounts().ByMethod["iamcredentials.serviceAccounts.generateAccessToken"]; n != 3 {
			t.Errorf("a token was asked for %d times, want 3", n)
		}
	})
}

func TestStatus_NamesNextCheck(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(1), nil, func(y *stacktest.System) {
		told, came := map[int]time.Time{}, map[int]time.Time{} // by the check before
		_, err := y.User.Await(y.T.Context(), y.Connect(), time.Second, func(s *demo.Status) {
			switch {
			case s.Propagation == nil && s.Next != nil:
				t.Errorf("%s is said to go on at %v, and does not wait", s.Status, s.Next)
			case s.Propagation != nil && s.Next != nil:
				if came[s.Propagation.Current-1].IsZero() {
					came[s.Propagation.Current-1] = time.Now()
				}
				told[s.Propagation.Current] = *s.Next
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if late := came[1].Sub(told[1]); len(told) != 2 || late < 0 || late > time.Second || told[2].Sub(told[1]).Round(time.Second) != 30*time.Second {
			t.Errorf("the next checks were said to be at %v, and came at %v", told, came)
		}
	})
}

func TestVerify_UnpropagatedProjectIsPartial(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(3, func(s *google.Scenario) {
		googletest.Project(s, "project-003").Propagation = &google.GrantDelays{Project: new(google.Never)}
	})
	stacktest.Run(t, s, nil, func(y *stacktest.System) {
		started := time.Now()
		final := y.Complete()
		y.WantSuccess(final, 2, 3)
		if took := time.Since(started); took < 19*30*time.Second || took > 20*30*time.Second {
			t.Errorf("the checks lasted %v, want 20 checks 30 s apart", took)
		}
		if !strings.Contains(final.Result.Message, "Propagation verification: PARTIAL (2/3 projects)") {
			t.Errorf("message = %q", final.Result.Message)
		}
		if n := y.Google.CallCounts().ByProject["project-002"]; n > 12 {
			t.Errorf("%d calls about a project that was verified long before", n)
		}
	})
}

func TestVerify_LatePropagationFails(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(2, func(s *google.Scenario) { s.Propagation.Account = new(googletest.Seconds(300)) })
	stacktest.Run(t, s, map[string]string{"VERIFY_ATTEMPTS": "3"}, func(y *stacktest.System) {
		y.WantFailed(y.Complete(), "login=gcp_failed", "Propagation verification: PARTIAL (0/2 projects)")
		time.Sleep(5 * time.Minute) // it comes after all: retrying goes on from what is there
		y.Google.ClearCalls()
		y.WantSuccess(y.Await(y.Restart()), 2, 2)
		if n := y.Google.CallCounts().Writes; n != 0 {
			t.Errorf("the retry made %d writes", n)
		}
	})
}

func TestSetup_ManyPagesOfProjects(t *testing.T) {
	t.Parallel()
	s := googletest.Scenario(150, func(s *google.Scenario) { s.Pages = google.Pages{Size: 25, Short: true} })
	stacktest.Run(t, s, map[string]string{"MAX_AUTO_PROJECTS": "150"}, func(y *stacktest.System) {
		final := y.Complete()
		y.WantSuccess(final, 150, 150)
		if n := y.Google.CallCounts().ByMethod["cloudresourcemanager.projects.search"]; n < 6 {
			t.Errorf("%d pages of projects were read", n)
		}
	})
}

func TestStatus_IsForOwnerOnly(t *testing.T) {
	t.Parallel()
	stacktest.Run(t, googletest.Scenario(1), nil, func(y *stacktest.System) {
		task := y.Connect()
		y.Call(200, "GET", "/gcp/setup/status/"+task, nil, nil)
		y.Call(404, "GET", "/gcp/setup/status/unknown", nil, nil)
		owner := y.User
		y.User = y.NewUser("user-2")
		y.Call(404, "GET", "/gcp/setup/status/"+task, nil, nil)
		y.User = owner
		y.Await(task)
	})
}

// Each way in which a login ends without a connection has its own word, and
// leaves nothing.
func TestLogin_EndsWithoutConnection(t *testing.T) {
	t.Parallel()
	client := func(problem string) func(*google.Scenario) {
		return func(s *google.Scenario) { s.Clients[0].AuthError = problem }
	}
	for name, c := range map[string]struct {
		change func(*google.Scenario)
		answer google.Answer
		wait   time.Duration // before the browser comes back
		cookie bool          // that it brings
		want   string
	}{
		"denied":                      {answer: google.Answer{Deny: true}, cookie: true, want: "gcp_denied"},
		"denied in another browser":   {answer: google.Answer{Deny: true}, want: "gcp_denied"}, // which says nothing of anybody
		"without the cloud's scope":   {answer: google.Answer{Without: []string{"https://www.googleapis.com/auth/cloud-platform"}}, cookie: true, want: "gcp_scope_missing"},
		"under an administrator":      {change: client("admin_policy_enforced"), cookie: true, want: "gcp_admin_policy"},
		"for an organization's users": {change: client("org_internal"), cookie: true, want: "gcp_admin_policy"},
		"too late":                    {wait: 10 * time.Minute, cookie: true, want: "gcp_expired"},
		"in another browser":          {want: "gcp_other_browser"},
		"in time":                     {wait: 10*time.Minute - time.Second, cookie: true, want: "gcp_setup_pending"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stacktest.Run(t, googletest.Scenario(1, c.change), nil, func(y *stacktest.System) {
				address, cookie := y.BeginLogin("user-1")
				c.answer.User = owner
				back, err := y.Google.Authorize(address.String(), c.answer)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.wait)
				if !c.cookie {
					cookie = nil
				}
				if login := y.Callback(back.Query(), cookie); login != c.want {
					t.Errorf("the login ended with %s, want %s", login, c.want)
				}
				y.WantConnected(y.User, c.want == "gcp_setup_pending")
				if n := y.Counts(); c.want != "gcp_setup_pending" && (n.TokenWrites != 0 || n.Tasks != 0) {
					t.Errorf("%d tokens were stored and %d tasks enqueued", n.TokenWrites, n.Tasks)
				}
			})
		})
	}
}
