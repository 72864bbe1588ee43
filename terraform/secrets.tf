# The platform's own secrets. Terraform makes the secret, never its payload, which
# would be in the state: add it by hand (terraform/README.md), and rotate it the
# same way. Functions read the latest version when an instance starts.
resource "google_secret_manager_secret" "client_secret" {
  project   = var.project_id
  secret_id = "${var.name}-oauth-client-secret"

  replication {
    auto {}
  }

  annotations = {
    what     = "Secret of the OAuth client ${var.oauth_client_id}"
    rotation = "Add a second secret to the client, add it here as a new version, start new revisions, then delete the first. Once a year, and when somebody leaves who has seen it."
  }

  deletion_protection = var.deletion_protection

  depends_on = [google_project_service.api]
}

# Only functions that renew users' tokens may read it.
resource "google_secret_manager_secret_iam_member" "client_secret" {
  for_each = { for key, a in local.accounts : key => a if a.tokens }

  project   = var.project_id
  secret_id = google_secret_manager_secret.client_secret.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value.member
}

# The key that login and callback share: what a login must keep secret is derived
# from it. Callback reads the version that a login was begun with, so rotation ends
# no login as long as the version before it stays enabled for ten minutes.
resource "google_secret_manager_secret" "login_key" {
  project   = var.project_id
  secret_id = "${var.name}-login-key"

  replication {
    auto {}
  }

  annotations = {
    what     = "Key of logins, base64 of 32 random bytes"
    rotation = "Add a new version, start new revisions of login and callback, and ten minutes later disable the version before it. Once a year, and when a person leaves who has seen it."
  }

  deletion_protection = var.deletion_protection

  depends_on = [google_project_service.api]
}

resource "google_secret_manager_secret_iam_member" "login_key" {
  for_each = { for key, a in local.accounts : key => a if a.login_key }

  project   = var.project_id
  secret_id = google_secret_manager_secret.login_key.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value.member
}
