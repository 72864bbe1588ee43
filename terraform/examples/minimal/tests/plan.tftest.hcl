mock_provider "google" {}

variables {
  project_id              = "aurora-connector"
  project_number          = "123456789012"
  image                   = "europe-west1-docker.pkg.dev/aurora-connector/aurora/gcpconnect@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  oauth_client_id         = "1-x.apps.googleusercontent.com"
  front_url               = "https://aurora.example.com/chat"
  backend_service_account = "backend@aurora-app.iam.gserviceaccount.com"
  vault_address           = "https://vault.example.com:8200"
  vault_service_account   = "vault-server@aurora-vault.iam.gserviceaccount.com"
}

run "first_without_an_image" {
  command = plan
  variables {
    image = null
  }
  assert {
    condition     = output.redirect_uri == "https://aurora-callback-123456789012.europe-west1.run.app/callback"
    error_message = "the redirect URI is known before there are functions"
  }
}

run "then_with_one" {
  command = plan
  assert {
    condition     = output.paths["/login"] == "https://aurora-login-123456789012.europe-west1.run.app/login"
    error_message = "functions are at their own addresses"
  }
}
