variable "project_id" {
  description = "An empty project for the connector."
  type        = string
}

variable "project_number" {
  description = "gcloud projects describe PROJECT --format='value(projectNumber)'"
  type        = string
}

variable "region" {
  description = "Where the functions are."
  type        = string
  default     = "europe-west1"
}

variable "image" {
  description = "The program's image by digest; none at first."
  type        = string
  default     = null
}

variable "oauth_client_id" {
  description = "ID of the Google OAuth client."
  type        = string
}

variable "domain" {
  description = "Domain of the functions, such as connect.aurora.example.com."
  type        = string
}

variable "front_url" {
  description = "A page of Aurora's frontend, to which the browser returns."
  type        = string
}

variable "users_issuer" {
  description = "Issuer of the tokens that users of the frontend have."
  type        = string
}

variable "users_audience" {
  description = "Whom those tokens are for: the frontend's client ID at the issuer."
  type        = string
}

variable "internal_service_accounts" {
  description = "Emails of the service accounts of Aurora that work in customers' projects."
  type        = list(string)
}

variable "vault_address" {
  description = "https://host:port of Vault, inside the network."
  type        = string
}

variable "oncall_emails" {
  description = "Who is told when something is wrong."
  type        = list(string)
}

variable "billing_account" {
  description = "The project's billing account, for a budget."
  type        = string
}

variable "repository" {
  description = "The repository as it is connected to Cloud Build: projects/P/locations/L/connections/C/repositories/R."
  type        = string
}

variable "approvers" {
  description = "Who may approve deployments: user:EMAIL or group:EMAIL."
  type        = list(string)
}

variable "vault_service_account" {
  description = "Email of the service account that Vault is at Google."
  type        = string
}

variable "deletion_protection" {
  description = "Whether the database and the services are protected. Off, and applied, before they are destroyed."
  type        = bool
  default     = true
}
