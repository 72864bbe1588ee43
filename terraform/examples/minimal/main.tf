# The smallest deployment: functions at their own addresses, called by Aurora's
# backend. Without a common domain no cookie can bind a login to its browser, so
# users confirm after the callback.
provider "google" {
  project = var.project_id
  region  = var.region

  # APIs that count quota want to know the project, also of a person's credentials.
  user_project_override = true
  billing_project       = var.project_id
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
    backend_service_accounts = [var.backend_service_account]
  }

  vault = {
    address         = var.vault_address
    service_account = var.vault_service_account
  }

  deletion_protection = var.deletion_protection
}
