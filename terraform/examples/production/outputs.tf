output "redirect_uri" {
  description = "The redirect URI that the OAuth client must list."
  value       = module.connector.redirect_uri
}

output "backend_url" {
  description = "Where the functions are, and the audience of callers' tokens."
  value       = module.connector.backend_url
}

output "paths" {
  description = "Where each of the contract's paths is."
  value       = module.connector.paths
}

output "function_urls" {
  description = "The address of each function's service."
  value       = module.connector.function_urls
}

output "image_repository" {
  description = "Where the image is pushed."
  value       = module.connector.image_repository
}

output "client_secret" {
  description = "The secret into which the OAuth client's secret goes."
  value       = module.connector.client_secret
}

output "login_key" {
  description = "The secret into which the login key goes."
  value       = module.connector.login_key
}

output "platform_service_account" {
  description = "Aurora's account at customers."
  value       = module.connector.platform_service_account
}

output "vault_commands" {
  description = "What prepares Vault."
  value       = module.connector.vault_commands
}

output "front_address" {
  description = "The load balancer's address: the domain's A record."
  value       = module.connector.front_address
}
