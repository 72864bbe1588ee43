# Functions: who reaches each, its account, and how long it may take.
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

run "private_by_default" {
  command = plan

  assert {
    condition     = alltrue([for name, f in local.functions : contains(["user", "browser"], f.caller) || try(local.invokers[f.caller], null) != null])
    error_message = "a function that is not for users must have invokers of its own"
  }
  assert {
    condition     = toset(keys(local.public_functions)) == toset(["login", "callback", "confirm", "status", "plan", "select-projects", "root-project", "disconnect", "projects", "project-access", "connection", "changes", "resources"])
    error_message = "a function has become public: ${join(", ", keys(local.public_functions))}"
  }
  assert {
    condition     = length(local.invokers.service) == 0
    error_message = "nobody may have tokens of customers' accounts unless named"
  }
}

run "nothing_is_deployed_without_an_image" {
  command = plan

  variables {
    image = null
  }

  assert {
    condition     = length(module.function) == 0 && length(google_cloud_scheduler_job.sweep) == 0
    error_message = "functions or what calls them would be made without an image"
  }
  assert {
    condition     = google_artifact_registry_repository.images.format == "DOCKER"
    error_message = "the registry must be there before the image"
  }
}

run "functions_get_what_they_need" {
  assert {
    condition     = alltrue([for name, f in local.functions : contains(keys(local.environments[name]), "CLIENT_SECRET") == f.tokens && contains(keys(local.environments[name]), "VAULT_ADDR") == f.tokens])
    error_message = "a function that uses no tokens must not know of Vault and of the client's secret"
  }
  assert {
    condition     = alltrue([for name, f in local.functions : contains(keys(local.environments[name]), "CLOUD_TASKS_QUEUE") == f.queue])
    error_message = "a function that hands over no tasks must not know of the queue"
  }
  assert {
    condition     = alltrue([for name, f in local.functions : (lookup(local.environments[name], "INVOKER_IAM_CHECK", "") == "true") != contains(["user", "browser"], f.caller)])
    error_message = "what Cloud Run checks and what the program believes must be the same"
  }
  assert {
    condition     = length(google_service_account.function) == length([for f in local.functions : f if !f.platform])
    error_message = "each function runs as an account of its own"
  }
  assert {
    condition     = toset(keys(google_secret_manager_secret_iam_member.login_key)) == toset(["login", "callback"])
    error_message = "login and callback, and no other function, read the login key"
  }
  assert {
    condition     = length(google_secret_manager_secret_iam_member.client_secret) == length([for a in local.accounts : a if a.tokens])
    error_message = "only accounts that renew users' tokens may read the client's secret"
  }
}

run "requests_end_before_their_task_comes_again" {
  command = plan

  assert {
    condition     = tonumber(trimsuffix(local.request_timeout, "s")) > 100 && tonumber(trimsuffix(local.request_timeout, "s")) < tonumber(trimsuffix(local.task_deadline, "s"))
    error_message = "Cloud Run must cut a request off after the program does and before the queue delivers again"
  }
  assert {
    condition     = google_cloud_scheduler_job.sweep[0].attempt_deadline == local.task_deadline
    error_message = "the scheduler must wait as long as the queue does"
  }
}

run "public_functions_by_role_where_wanted" {
  command = plan

  variables {
    public_access = "all_users"
  }

  assert {
    condition     = join(",", local.public_invokers) == "allUsers"
    error_message = "users' functions are open to all users, by a role"
  }
}
