output "name" {
  description = "The service's name."
  value       = google_cloud_run_v2_service.function.name
}

output "uri" {
  description = "Its address, as Cloud Run says it."
  value       = google_cloud_run_v2_service.function.uri
}
