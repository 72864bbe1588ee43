mock_provider "google" {}

variables {
  project_id                = "aurora-connector"
  project_number            = "123456789012"
  image                     = "europe-west1-docker.pkg.dev/aurora-connector/aurora/gcpconnect@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  oauth_client_id           = "1-x.apps.googleusercontent.com"
  domain                    = "connect.aurora.example.com"
  front_url                 = "https://aurora.example.com/chat"
  users_issuer              = "https://login.aurora.example.com"
  users_audience            = "frontend"
  internal_service_accounts = ["assistant@aurora-app.iam.gserviceaccount.com"]
  vault_address             = "https://vault.internal.example.com:8200"
  vault_service_account     = "vault-server@aurora-vault.iam.gserviceaccount.com"
  oncall_emails             = ["oncall@example.com"]
  billing_account           = "012345-6789AB-CDEF01"
  repository                = "projects/aurora-connector/locations/europe-west1/connections/github/repositories/gcpconnect"
  approvers                 = ["group:connector-owners@example.com"]
}

run "first_without_an_image" {
  command = plan
  variables {
    image = null
  }
  assert {
    condition     = output.redirect_uri == "https://connect.aurora.example.com/callback"
    error_message = "the redirect URI is known before there are functions"
  }
}

run "then_with_one" {
  command = apply
  assert {
    condition     = output.paths["/login"] == "https://connect.aurora.example.com/login" && output.paths["/internal/token"] == "https://aurora-token-123456789012.europe-west1.run.app/internal/token"
    error_message = "users' paths are on the domain, and token is not"
  }
}
