# The load balancer, alerts and budget: made where they are asked for.
mock_provider "google" {}

variables {
  project_id      = "aurora-connector"
  project_number  = "123456789012"
  region          = "europe-west1"
  image           = "europe-west1-docker.pkg.dev/aurora-connector/aurora/gcpconnect@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  oauth_client_id = "1-x.apps.googleusercontent.com"
  front_url       = "https://aurora.example.com/chat"
  auth            = { backend_service_accounts = ["backend@aurora-app.iam.gserviceaccount.com"] }
  vault           = { address = "https://vault.example.com:8200" }
}

run "without_one_users_confirm" {
  command = plan

  assert {
    condition     = length(google_compute_url_map.front) == 0 && length(google_compute_backend_service.function) == 0 && length(google_compute_security_policy.front) == 0
    error_message = "no load balancer unless it is asked for"
  }
  assert {
    condition     = local.environments["login"].LOGIN_BINDING == "confirm"
    error_message = "without a common domain no cookie binds a login"
  }
  assert {
    condition     = output.redirect_uri == "https://aurora-callback-123456789012.europe-west1.run.app/callback"
    error_message = "the browser returns to the callback's own address: ${output.redirect_uri}"
  }
}

run "one_domain_with_the_contracts_paths" {
  variables {
    load_balancer = { domain = "connect.aurora.example.com" }
  }

  assert {
    condition     = toset(keys(google_compute_backend_service.function)) == toset(keys(local.public_functions))
    error_message = "users' functions are on it, and no others"
  }
  assert {
    condition     = length(flatten([for r in google_compute_url_map.front[0].path_matcher[0].path_rule : [for p in r.paths : p if startswith(p, "/tasks") || startswith(p, "/internal")]])) == 0
    error_message = "step functions and token are not on it"
  }
  assert {
    condition     = google_compute_url_map.to_https[0].default_url_redirect[0].https_redirect && google_compute_ssl_policy.front[0].min_tls_version == "TLS_1_2"
    error_message = "HTTPS only"
  }
  assert {
    condition     = local.environments["login"].LOGIN_BINDING == "confirm" && output.redirect_uri == "https://connect.aurora.example.com/callback"
    error_message = "a backend that calls login has no browser's cookie"
  }
  assert {
    condition     = !google_compute_backend_service.function["callback"].log_config[0].enable && google_compute_backend_service.function["status"].log_config[0].enable
    error_message = "codes in the callback's address must not be logged"
  }
  assert {
    condition     = length([for r in google_compute_security_policy.front[0].rule : r if r.action == "throttle"]) == 2
    error_message = "rates are limited"
  }
}

run "users_who_call_themselves_are_bound_by_cookie" {
  variables {
    load_balancer = { domain = "connect.aurora.example.com" }
    auth          = { mode = "oidc", issuer = "https://login.example.com", audience = ["frontend"] }
  }

  assert {
    condition     = local.environments["login"].LOGIN_BINDING == "cookie"
    error_message = "on one domain the browser's cookie binds the login"
  }
}

run "alerts_have_reasons_and_somebody_to_tell" {
  variables {
    alerts = { emails = ["oncall@example.com"], channels = ["projects/p/notificationChannels/1"] }
  }

  assert {
    condition     = length(local.channels) == 2 && alltrue([for a in google_monitoring_alert_policy.lines : length(a.notification_channels) == 2])
    error_message = "all channels are told"
  }
  assert {
    condition     = alltrue([for key, a in google_monitoring_alert_policy.lines : strcontains(a.documentation[0].content, "terraform/README.md#") && length(local.line_alerts[key].reason) > 40])
    error_message = "every alert says why, and where to read what to do"
  }
}

run "a_budget_where_wanted" {
  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", amount = 100 }
  }

  assert {
    condition     = google_billing_budget.month[0].amount[0].specified_amount[0].units == "100"
    error_message = "the budget is what was asked for"
  }
}
