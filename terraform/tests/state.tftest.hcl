# State, tasks and time: the database, the queues, the scheduler, the secret.
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

run "the_database_can_be_brought_back" {
  command = plan

  assert {
    condition     = google_firestore_database.state.type == "FIRESTORE_NATIVE" && google_firestore_database.state.delete_protection_state == "DELETE_PROTECTION_ENABLED" && google_firestore_database.state.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_ENABLED"
    error_message = "the database must be native, protected, and recoverable to any minute"
  }
  assert {
    condition     = google_firestore_backup_schedule.daily.retention == "604800s" && google_firestore_backup_schedule.weekly.weekly_recurrence[0].day == "SUNDAY"
    error_message = "backups a day and a week"
  }
  assert {
    condition     = google_firestore_database.state.location_id == var.region
    error_message = "the database is where the functions are unless it is said otherwise"
  }
}

run "what_ends_vanishes" {
  command = plan

  assert {
    condition     = length(google_firestore_field.field["logins ExpireAt"].ttl_config) == 1 && length(google_firestore_field.field["setups ExpireAt"].ttl_config) == 1
    error_message = "logins and setups must have a lifetime"
  }
  assert {
    condition     = length([for f in google_firestore_field.field : f if length(f.ttl_config) > 0]) == 2
    error_message = "nothing else may vanish"
  }
  assert {
    condition     = length(google_firestore_field.field["setups Bulk"].index_config[0].indexes) == 0 && length(google_firestore_field.field["connections Bulk"].index_config[0].indexes) == 0
    error_message = "what is large and never asked for has no index"
  }
}

run "queues_retry_longer_than_a_lease_and_know_the_last_attempt" {
  command = plan

  assert {
    condition     = alltrue([for q in google_cloud_tasks_queue.queue : q.retry_config[0].max_attempts == 20])
    error_message = "attempts decide"
  }
  assert {
    # 1, 2, 4, 8, 16, 30, 30... seconds: 8 attempts last longer than the 90 s lease
    # of an execution that died.
    condition     = alltrue([for q in google_cloud_tasks_queue.queue : q.retry_config[0].min_backoff == "1s" && q.retry_config[0].max_backoff == "30s" && q.retry_config[0].max_attempts >= 8])
    error_message = "retries must last longer than a dead execution's lease"
  }
  assert {
    condition     = toset(keys(google_cloud_tasks_queue.queue)) == toset(["setups", "discoveries"])
    error_message = "a queue for each class of work"
  }
}

run "sweep_is_called_every_minute_as_itself" {
  assert {
    condition     = google_cloud_scheduler_job.sweep[0].schedule == "* * * * *" && google_cloud_scheduler_job.sweep[0].http_target[0].uri == "https://aurora-sweep-123456789012.europe-west1.run.app"
    error_message = "every minute, at its own address"
  }
  assert {
    condition     = google_cloud_scheduler_job.sweep[0].http_target[0].oidc_token[0].service_account_email == local.emails.scheduler && google_cloud_scheduler_job.sweep[0].http_target[0].oidc_token[0].audience == google_cloud_scheduler_job.sweep[0].http_target[0].uri
    error_message = "by a token of the scheduler's account for that address"
  }
}

run "protection_can_be_lifted" {
  command = plan

  variables {
    deletion_protection = false
  }

  assert {
    condition     = google_firestore_database.state.delete_protection_state == "DELETE_PROTECTION_DISABLED" && google_firestore_database.state.deletion_policy == "DELETE" && !google_secret_manager_secret.client_secret.deletion_protection
    error_message = "who wants to destroy it can"
  }
}

run "vault_is_prepared_by_commands" {
  assert {
    condition     = strcontains(output.vault_commands, "vault policy write gcpconnect") && strcontains(output.vault_commands, "bound_service_accounts=") && strcontains(output.vault_commands, "path \"gcpconnect/data/tokens/*\"")
    error_message = "the commands have the policy and the accounts"
  }
}

run "another_mount_is_in_the_policy" {
  variables {
    vault = { address = "https://vault.example.com:8200", mount = "aurora", namespace = "team" }
  }

  assert {
    condition     = strcontains(output.vault_policy, "path \"aurora/data/tokens/*\"") && !strcontains(output.vault_policy, "\"gcpconnect/") && strcontains(output.vault_commands, "VAULT_NAMESPACE=team")
    error_message = "policy and commands follow mount and namespace"
  }
}
