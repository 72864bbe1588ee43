# What variables refuse: each names itself.
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

run "a_project_that_is_none" {
  command = plan
  variables {
    project_id = "Aurora"
  }
  expect_failures = [var.project_id]
}

run "a_number_that_is_an_id" {
  command = plan
  variables {
    project_number = "aurora-connector"
  }
  expect_failures = [var.project_number]
}

run "a_zone_for_a_region" {
  command = plan
  variables {
    region = "europe-west1-b"
  }
  expect_failures = [var.region]
}

run "a_name_that_is_too_long" {
  command = plan
  variables {
    name = "gcpconnect"
  }
  expect_failures = [var.name]
}

run "an_image_by_tag" {
  command = plan
  variables {
    image = "europe-west1-docker.pkg.dev/p/r/gcpconnect:latest"
  }
  expect_failures = [var.image]
}

run "another_kind_of_client" {
  command = plan
  variables {
    oauth_client_id = "aurora"
  }
  expect_failures = [var.oauth_client_id]
}

run "a_front_in_the_clear" {
  command = plan
  variables {
    front_url = "http://aurora.example.com"
  }
  expect_failures = [var.front_url]
}

run "any_origin" {
  command = plan
  variables {
    cors_origins = ["https://*.example.com"]
  }
  expect_failures = [var.cors_origins]
}

run "an_origin_with_a_path" {
  command = plan
  variables {
    cors_origins = ["https://a.example.com/x"]
  }
  expect_failures = [var.cors_origins]
}

run "local_callers" {
  command = plan
  variables {
    auth = { mode = "local" }
  }
  expect_failures = [var.auth]
}

run "a_backend_that_is_nobody" {
  command = plan
  variables {
    auth = {}
  }
  expect_failures = [var.auth]
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

run "a_binding_that_is_none" {
  command = plan
  variables {
    login_binding = "none"
  }
  expect_failures = [var.login_binding]
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

run "a_vault_in_the_clear" {
  command = plan
  variables {
    vault = { address = "http://vault.example.com:8200" }
  }
  expect_failures = [var.vault]
}

run "another_egress" {
  command = plan
  variables {
    network = { network = "n", subnetwork = "s", egress = "NONE" }
  }
  expect_failures = [var.network]
}

run "a_domain_that_is_a_url" {
  command = plan
  variables {
    load_balancer = { domain = "https://connect.example.com" }
  }
  expect_failures = [var.load_balancer]
}

run "limits_that_stop_a_poll" {
  command = plan
  variables {
    load_balancer = { domain = "connect.example.com", requests_a_minute = 5 }
  }
  expect_failures = [var.load_balancer]
}

run "another_public_access" {
  command = plan
  variables {
    public_access = "everybody"
  }
  expect_failures = [var.public_access]
}

run "memory_in_no_unit" {
  command = plan
  variables {
    scaling = { login = { memory = "512M" } }
  }
  expect_failures = [var.scaling]
}

run "scaling_of_no_function" {
  command = plan
  variables {
    scaling = { nothing = {} }
  }
  expect_failures = [var.scaling]
}

run "no_instances" {
  command = plan
  variables {
    scaling = { login = { max_instances = 0 } }
  }
  expect_failures = [var.scaling]
}

run "too_few_attempts" {
  command = plan
  variables {
    settings = { task_max_attempts = 3 }
  }
  expect_failures = [var.settings]
}

run "owners" {
  command = plan
  variables {
    settings = { agent_roles = ["roles/owner"] }
  }
  expect_failures = [var.settings]
}

run "another_log_level" {
  command = plan
  variables {
    settings = { log_level = "LOUD" }
  }
  expect_failures = [var.settings]
}

run "backups_for_a_year" {
  command = plan
  variables {
    firestore = { weekly_backup_days = 365 }
  }
  expect_failures = [var.firestore]
}

run "a_channel_that_is_none" {
  command = plan
  variables {
    alerts = { channels = ["#oncall"] }
  }
  expect_failures = [var.alerts]
}

run "an_address_that_is_none" {
  command = plan
  variables {
    alerts = { emails = ["oncall"] }
  }
  expect_failures = [var.alerts]
}

run "a_budget_of_nothing" {
  command = plan
  variables {
    budget = { billing_account = "012345-6789AB-CDEF01", amount = 0 }
  }
  expect_failures = [var.budget]
}

run "a_repository_that_is_not_connected" {
  command = plan
  variables {
    delivery = { repository = "github.com/aurora/gcpconnect", bucket = "b", approvers = ["group:owners@example.com"] }
  }
  expect_failures = [var.delivery]
}

run "deployments_that_nobody_approves" {
  command = plan
  variables {
    delivery = { repository = "projects/p/locations/l/connections/c/repositories/r", bucket = "b", approvers = [] }
  }
  expect_failures = [var.delivery]
}
