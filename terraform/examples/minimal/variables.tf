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

variable "front_url" {
  description = "A page of Aurora's frontend, to which the browser returns."
  type        = string
}

variable "backend_service_account" {
  description = "Email of the service account of Aurora's backend, which calls the functions in users' names."
  type        = string
}

variable "vault_address" {
  description = "https://host:port of Vault."
  type        = string
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
