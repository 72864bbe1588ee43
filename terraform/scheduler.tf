# Gets setups going again whose task was lost. One execution at a time is enough:
# sweep is safe when run twice, and the next minute's does what this one cannot.
resource "google_cloud_scheduler_job" "sweep" {
  count = length(module.function) > 0 ? 1 : 0

  project          = var.project_id
  region           = var.region
  name             = "${var.name}-sweep"
  description      = "Revives stalled setups, gives up logins that were not confirmed and tokens that are nobody's"
  schedule         = "* * * * *"
  time_zone        = "Etc/UTC"
  attempt_deadline = local.task_deadline
  paused           = var.settings.scheduler_paused

  http_target {
    http_method = "POST"
    uri         = local.function_urls["sweep"]
    body        = base64encode("{}")
    headers     = { "Content-Type" = "application/json" }

    oidc_token {
      service_account_email = local.emails.scheduler
      audience              = local.function_urls["sweep"]
    }
  }

  retry_config {
    retry_count = 0
  }

  depends_on = [google_project_service.api]
}
