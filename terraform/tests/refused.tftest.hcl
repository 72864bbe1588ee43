# What variables refuse: each names itself. A run costs a plan, so one run has a
# wrong value for each variable that no other needs.
mock_provider "google" {}

variables {
  project_id      = "aurora-connector"
  project_number  = "123456789012"
  region          = "europe-west1"
  oauth_client_id = "1-x.apps.googleusercontent.com"
  front_url       = "https://aurora.example.com/chat"
  auth            = { backend_service_accounts = ["backend@aurora-app.iam.gserviceaccount.com"] }
  vault           = { address = "https://vault.example.com:8200" }
}

run "defaults_are_accepted" {
  command = plan
}

run "no_value_that_is_none" {
  command = plan
  variables {
    project_id      = "Aurora"                                                                                                # an ID has no capitals
    project_number  = "aurora-connector"                                                                                      # an ID
    region          = "europe-west1-b"                                                                                        # a zone
    name            = "gcpconnect"                                                                                            # too long
    image           = "europe-west1-docker.pkg.dev/p/r/gcpconnect:latest"                                                     # by tag
    oauth_client_id = "aurora"                                                                                                # another kind of client
    front_url       = "http://aurora.example.com"                                                                             # in the clear
    cors_origins    = ["https://*.example.com"]                                                                               # any origin
    auth            = { mode = "local" }                                                                                      # for emulators only
    vault           = { address = "http://vault.example.com:8200" }                                                           # in the clear
    network         = { network = "n", subnetwork = "s", egress = "NONE" }                                                    # no such egress
    load_balancer   = { domain = "https://connect.example.com" }                                                              # a URL
    public_access   = "everybody"                                                                                             # no such access
    scaling         = { login = { memory = "512M" } }                                                                         # no unit of Cloud Run
    settings        = { task_max_attempts = 3 }                                                                               # fewer than a setup needs
    firestore       = { weekly_backup_days = 365 }                                                                            # longer than Firestore keeps one
    alerts          = { channels = ["#oncall"] }                                                                              # no channel
    budget          = { billing_account = "012345-6789AB-CDEF01", amount = 0 }                                                # nothing
    delivery        = { repository = "github.com/aurora/gcpconnect", bucket = "b", approvers = ["group:owners@example.com"] } # not connected
  }
  expect_failures = [var.project_id, var.project_number, var.region, var.name, var.image, var.oauth_client_id, var.front_url, var.cors_origins, var.auth, var.vault, var.network, var.load_balancer, var.public_access, var.scaling, var.settings, var.firestore, var.alerts, var.budget, var.delivery]
}

run "no_second_value_that_is_none" {
  command = plan
  variables {
    cors_origins  = ["https://a.example.com/x"]                                                                          # with a path
    auth          = {}                                                                                                   # no backend
    load_balancer = { domain = "connect.example.com", requests_a_minute = 5 }                                            # stops a poll
    scaling       = { nothing = {} }                                                                                     # no function
    settings      = { agent_roles = ["roles/owner"] }                                                                    # may do everything
    alerts        = { emails = ["oncall"] }                                                                              # no address
    delivery      = { repository = "projects/p/locations/l/connections/c/repositories/r", bucket = "b", approvers = [] } # approved by none
  }
  expect_failures = [var.cors_origins, var.auth, var.load_balancer, var.scaling, var.settings, var.alerts, var.delivery]
}

run "no_third_value_that_is_none" {
  command = plan
  variables {
    scaling       = { login = { max_instances = 0 } } # no instances
    settings      = { log_level = "LOUD" }            # no such level
    login_binding = "none"
  }
  expect_failures = [var.scaling, var.settings, var.login_binding]
}

run "users_without_an_issuer" {
  command = plan
  variables {
    auth = { mode = "oidc", audience = ["a"] }
  }
  expect_failures = [var.auth]
}

run "an_account_with_a_prefix" {
  command = plan
  variables {
    auth = { backend_service_accounts = ["serviceAccount:b@p.iam.gserviceaccount.com"] }
  }
  expect_failures = [var.auth]
}

run "a_user_for_a_service" {
  command = plan
  variables {
    auth = { backend_service_accounts = ["b@p.iam.gserviceaccount.com"], internal_service_accounts = ["me@example.com"] }
  }
  expect_failures = [var.auth]
}

run "a_cookie_over_many_hosts" {
  command = plan
  variables {
    login_binding = "cookie"
    auth          = { mode = "oidc", issuer = "https://login.example.com", audience = ["frontend"] }
  }
  expect_failures = [var.login_binding]
}

run "a_cookie_that_no_browser_gets" {
  command = plan
  variables {
    login_binding = "cookie"
    load_balancer = { domain = "connect.aurora.example.com" }
  }
  expect_failures = [var.login_binding]
}
