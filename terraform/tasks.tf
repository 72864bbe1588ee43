locals {
  # How fast each queue delivers and how it retries, and why:
  # shared/cloudtasks/cloudtasks.go.
  queues = jsondecode(file("${path.module}/files/queues.json"))
}

resource "google_cloud_tasks_queue" "queue" {
  for_each = local.queues

  project  = var.project_id
  location = var.region
  name     = "${var.name}-${each.key}"

  rate_limits {
    max_dispatches_per_second = each.value.rateLimits.maxDispatchesPerSecond
    max_concurrent_dispatches = each.value.rateLimits.maxConcurrentDispatches
  }

  # max_retry_duration stays unset: with both, retries would end only when both
  # are met, and the functions count attempts to know the last one.
  retry_config {
    max_attempts  = var.settings.task_max_attempts
    min_backoff   = each.value.retryConfig.minBackoff
    max_backoff   = each.value.retryConfig.maxBackoff
    max_doublings = each.value.retryConfig.maxDoublings
  }

  stackdriver_logging_config {
    sampling_ratio = var.settings.task_log_sampling_rate
  }

  depends_on = [google_project_service.api]
}

# Functions that hand over tasks may do that, on these queues, and no more: not
# read tasks, not pause or purge a queue.
resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = merge([for queue in keys(local.queues) : {
    for key, a in local.accounts : "${queue} ${key}" => { queue = queue, member = a.member } if a.queue
  }]...)

  project  = var.project_id
  location = var.region
  name     = google_cloud_tasks_queue.queue[each.value.queue].name
  role     = "roles/cloudtasks.enqueuer"
  member   = each.value.member
}
