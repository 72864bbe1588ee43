# A deployment for customers: one domain behind a global load balancer, users who
# show their own tokens, a Vault inside a network, alerts, and a budget.
provider "google" {
  project = var.project_id
  region  = var.region

  user_project_override = true
  billing_project       = var.project_id
}

# The network that Vault is in, or one that reaches it: by peering, by VPN, or by
# Private Service Connect. Functions get addresses of this subnetwork: two for each
# instance at most, and a revision that is starting needs its own.
resource "google_compute_network" "connector" {
  project                 = var.project_id
  name                    = "connector"
  auto_create_subnetworks = false

  depends_on = [google_project_service.compute]
}

resource "google_compute_subnetwork" "functions" {
  project                  = var.project_id
  region                   = var.region
  name                     = "connector-functions"
  network                  = google_compute_network.connector.id
  ip_cidr_range            = "10.10.0.0/22"
  private_ip_google_access = true
}

resource "google_project_service" "compute" {
  project            = var.project_id
  service            = "compute.googleapis.com"
  disable_on_destroy = false
}

module "connector" {
  source = "../.."

  project_id     = var.project_id
  project_number = var.project_number
  region         = var.region
  image          = var.image

  oauth_client_id = var.oauth_client_id
  front_url       = var.front_url

  auth = {
    mode                      = "oidc"
    issuer                    = var.users_issuer
    audience                  = [var.users_audience]
    internal_service_accounts = var.internal_service_accounts
  }

  vault = {
    address         = var.vault_address
    service_account = var.vault_service_account
  }

  deletion_protection = var.deletion_protection

  network = {
    network    = google_compute_network.connector.id
    subnetwork = google_compute_subnetwork.functions.id
  }

  load_balancer = {
    domain = var.domain
  }

  # What users wait for is kept warm; a step's cold start is lost in Google's own
  # time.
  scaling = {
    login    = { min_instances = 1 }
    callback = { min_instances = 1 }
    status   = { min_instances = 1 }
  }

  alerts = {
    emails = var.oncall_emails
  }

  delivery = {
    repository = var.repository
    bucket     = "${var.project_id}-terraform"
    root       = "terraform/examples/production"
    approvers  = var.approvers
  }

  budget = {
    billing_account = var.billing_account
    amount          = 500
  }
}
