output "backend_url" {
  description = "NEXT_PUBLIC_BACKEND_URL: where browsers reach the functions, and the audience of the ID tokens of Aurora's backend."
  value       = local.backend_url
}

output "redirect_uri" {
  description = "The redirect URI that the OAuth client must list."
  value       = "${local.backend_url}/callback"
}

output "paths" {
  description = "Where the contract's paths are."
  value = merge([for name, f in merge(local.public_functions, { token = local.functions.token }) : {
    for path in f.paths : path => (var.load_balancer != null && name != "token" ? "${local.backend_url}${path}" : "${local.function_urls[name]}${path}")
  }]...)
}

output "function_urls" {
  description = "The address of each function's service."
  value       = local.function_urls
}

output "front_address" {
  description = "The load balancer's address, to which the domain's A record must point."
  value       = one(google_compute_global_address.front[*].address)
}

output "image_repository" {
  description = "Where the image is pushed."
  value       = "${var.region}-docker.pkg.dev/${var.project_id}/${google_artifact_registry_repository.images.repository_id}"
}

output "client_secret" {
  description = "The secret into which the OAuth client's secret goes."
  value       = google_secret_manager_secret.client_secret.secret_id
}

output "login_key" {
  description = "The secret into which the login key goes."
  value       = google_secret_manager_secret.login_key.secret_id
}

output "platform_service_account" {
  description = "Aurora's own account: customers see it in the access of their two service accounts."
  value       = local.emails.platform
}

output "vault_policy" {
  description = "What the connector may do in Vault."
  value       = local.vault_policy
}

output "vault_commands" {
  description = "What prepares Vault: terraform output -raw vault_commands."
  value       = local.vault_commands
}
