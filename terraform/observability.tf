# What is watched, and who is told. Each alert has its reason here and a section of
# the playbook that says what to do. Few alerts: each is something that somebody
# must do something about.
locals {
  channels = concat(var.alerts.channels, [for c in google_monitoring_notification_channel.email : c.id])

  # The connector's log lines that are counted: metric => filter of what the
  # functions log, and labels taken from the line.
  log_metrics = {
    setups_ended = {
      description = "Setups and cleanups that ended, by state and code"
      filter      = "jsonPayload.message=\"setup ended\""
      labels      = { state = "EXTRACT(jsonPayload.state)", code = "EXTRACT(jsonPayload.code)" }
    }
    setups_revived = {
      description = "Setups whose task was lost and that sweep got going again"
      filter      = "jsonPayload.message=\"stalled setup was revived\""
      labels      = { step = "EXTRACT(jsonPayload.step)" }
    }
    setups_given_up = {
      description = "Setups that sweep could not get going again"
      filter      = "jsonPayload.message=\"stalled setup was given up\""
      labels      = { step = "EXTRACT(jsonPayload.step)" }
    }
    steps_lost = {
      description = "Steps that failed on their last delivery"
      filter      = "jsonPayload.message=\"step failed on its last delivery\""
      labels      = { step = "EXTRACT(jsonPayload.step)" }
    }
    dependency_errors = {
      description = "Requests and steps that a dependency kept from being done"
      filter      = "(jsonPayload.message=\"step will be tried again\" OR (jsonPayload.message=\"request failed\" AND severity>=ERROR))" # what strangers ask for is no error
      labels      = { function = "EXTRACT(jsonPayload.function)" }
    }
    panics = {
      description = "Functions that panicked"
      filter      = "jsonPayload.message=\"function panicked\""
      labels      = { function = "EXTRACT(jsonPayload.function)" }
    }
    tokens_given = {
      description = "Access tokens of customers' accounts that were given to Aurora's services"
      filter      = "jsonPayload.message=\"token given\""
      labels      = {}
    }
  }

  services = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=starts_with(\"${var.name}-\")"
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alerts.emails)

  project      = var.project_id
  display_name = "Connector: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }

  depends_on = [google_project_service.api]
}

resource "google_logging_metric" "lines" {
  for_each = local.log_metrics

  project     = var.project_id
  name        = "${var.name}/${each.key}"
  description = each.value.description
  filter      = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=~\"^${var.name}-\" AND ${each.value.filter}"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
    unit        = "1"

    dynamic "labels" {
      for_each = each.value.labels
      content {
        key        = labels.key
        value_type = "STRING"
      }
    }
  }

  label_extractors = each.value.labels

  depends_on = [google_project_service.api]
}

locals {
  metric = { for key, m in google_logging_metric.lines : key => "metric.type=\"logging.googleapis.com/user/${m.name}\" AND resource.type=\"cloud_run_revision\"" }

  # Thresholds on counts of log lines: more than `over` of them within `window`.
  line_alerts = {
    setups-given-up = {
      title    = "Setups were given up"
      severity = "CRITICAL"
      filter   = local.metric["setups_given_up"]
      over     = 0
      window   = "600s"
      reason   = "A setup did not move for as long as SETUP_GIVE_UP_AFTER, though sweep tried again and again: a customer is waiting for it."
    }
    steps-lost = {
      title    = "Steps failed on their last delivery"
      severity = "CRITICAL"
      filter   = local.metric["steps_lost"]
      over     = 0
      window   = "600s"
      reason   = "The queue tried a step as often as it may. The setup has failed, and the customer was told to retry: a dependency is down for long, or there is a defect."
    }
    setups-revived = {
      title    = "Tasks are being lost"
      severity = "WARNING"
      filter   = local.metric["setups_revived"]
      over     = 5
      window   = "900s"
      reason   = "One lost task is what sweep is for. Several in a quarter of an hour mean that the queue is paused or purged, or that the functions refuse its calls."
    }
    propagation-failed = {
      title    = "Access does not come into force"
      severity = "WARNING"
      filter   = "${local.metric["setups_ended"]} AND metric.labels.code=monitoring.regex.full_match(\"propagation|partial\")"
      over     = 5
      window   = "3600s"
      reason   = "Google takes 2 minutes, sometimes 7, to put access into force. Many setups whose projects could not be verified within 10 are Google's trouble, or a change of ours that asks for what nobody gets."
    }
    consent-lost = {
      title    = "Many customers must consent again"
      severity = "WARNING"
      filter   = "${local.metric["setups_ended"]} AND metric.labels.code=\"needs_reauth\""
      over     = 10
      window   = "3600s"
      reason   = "One customer takes a consent back now and then. Many at once mean that the OAuth client or its consent screen was changed."
    }
    dependency-errors = {
      title    = "A dependency is failing"
      severity = "ERROR"
      filter   = local.metric["dependency_errors"]
      over     = 100
      window   = "300s"
      reason   = "Nothing is lost for as long as the queue tries, but customers wait and are asked to: Vault, Firestore, Cloud Tasks or an API of Google's."
    }
    panics = {
      title    = "A function panicked"
      severity = "ERROR"
      filter   = local.metric["panics"]
      over     = 0
      window   = "600s"
      reason   = "A defect. The task comes again until its attempts are used up: a mended release within that time loses nothing."
    }
  }
}

# A metric that was just made is unknown to alerts for some minutes, and without
# functions there is nothing to tell of: alerts come with the image.
resource "google_monitoring_alert_policy" "lines" {
  for_each = { for key, a in local.line_alerts : key => a if var.image != null }

  project               = var.project_id
  display_name          = "Connector: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.channels

  conditions {
    display_name = each.value.title
    condition_threshold {
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.over
      duration        = "0s"

      aggregations {
        alignment_period     = each.value.window
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "Connector: ${each.value.title}"
    content   = "${each.value.reason}\n\nWhat to do: ${var.alerts.playbook_base}#${replace(lower(each.value.title), " ", "-")}"
  }
}

# sweep answers every minute. When it does not, lost tasks stay lost.
resource "google_monitoring_alert_policy" "sweep_silent" {
  count = var.image == null ? 0 : 1

  project               = var.project_id
  display_name          = "Connector: sweep does not run"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels

  conditions {
    display_name = "sweep has not succeeded for 10 minutes"
    condition_absent {
      filter   = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.name}-sweep\" AND metric.type=\"run.googleapis.com/request_count\" AND metric.labels.response_code_class=\"2xx\""
      duration = "600s"

      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "Connector: sweep does not run"
    content   = "Setups whose task is lost are revived by sweep alone.\n\nWhat to do: ${var.alerts.playbook_base}#sweep-does-not-run"
  }

  depends_on = [google_project_service.api]
}

# Users' functions answer 5xx. 503 is what they say when a dependency is down.
resource "google_monitoring_alert_policy" "errors" {
  count = var.image == null ? 0 : 1

  project               = var.project_id
  display_name          = "Connector: users get errors"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels

  conditions {
    display_name = "more than 5 % of the answers are 5xx for 5 minutes"
    condition_threshold {
      filter             = "${local.services} AND metric.type=\"run.googleapis.com/request_count\" AND metric.labels.response_code_class=\"5xx\" AND resource.labels.service_name=${local.public_services}"
      denominator_filter = "${local.services} AND metric.type=\"run.googleapis.com/request_count\" AND resource.labels.service_name=${local.public_services}"
      comparison         = "COMPARISON_GT"
      threshold_value    = 0.05
      duration           = "300s"

      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
      denominator_aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "Connector: users get errors"
    content   = "Customers are told to try again, or that something is broken: a dependency is down, or a release is bad.\n\nWhat to do: ${var.alerts.playbook_base}#users-get-errors"
  }

  depends_on = [google_project_service.api]
}

# Tasks are delivered late: the queue is too slow, or the functions refuse it.
resource "google_monitoring_alert_policy" "queue_age" {
  count = var.image == null ? 0 : 1

  project               = var.project_id
  display_name          = "Connector: tasks are delivered late"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels

  conditions {
    display_name = "one task in twenty is a minute late or more, for 10 minutes"
    condition_threshold {
      filter          = "resource.type=\"cloud_tasks_queue\" AND resource.labels.queue_id=monitoring.regex.full_match(\"${join("|", [for q in google_cloud_tasks_queue.queue : q.name])}\") AND metric.type=\"cloudtasks.googleapis.com/queue/task_attempt_delays\""
      comparison      = "COMPARISON_GT"
      threshold_value = 60000 # milliseconds
      duration        = "600s"

      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_PERCENTILE_95"
        cross_series_reducer = "REDUCE_MAX"
        group_by_fields      = ["resource.labels.queue_id"]
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    subject   = "Connector: tasks are delivered late"
    content   = "Setups stand still though nothing is wrong with them: the queue is too slow, or the functions refuse its tasks. (A paused queue delivers nothing, and so nothing late: revived setups tell of that.)\n\nWhat to do: ${var.alerts.playbook_base}#tasks-are-delivered-late"
  }
}

locals {
  public_services = "monitoring.regex.full_match(\"${join("|", [for name in keys(local.public_functions) : "${var.name}-${name}"])}\")"

  # The dashboard: what to look at first, from the customers' side to ours.
  charts = [
    { title = "Setups that ended, by state and code", filter = local.metric["setups_ended"], aligner = "ALIGN_DELTA", by = ["metric.labels.state", "metric.labels.code"] },
    { title = "Setups revived by sweep", filter = local.metric["setups_revived"], aligner = "ALIGN_DELTA", by = ["metric.labels.step"] },
    { title = "Answers of users' functions, by class", filter = "${local.services} AND metric.type=\"run.googleapis.com/request_count\" AND resource.labels.service_name=${local.public_services}", aligner = "ALIGN_RATE", by = ["metric.labels.response_code_class"] },
    { title = "Time to answer, 95th percentile, by function (ms)", filter = "${local.services} AND metric.type=\"run.googleapis.com/request_latencies\"", aligner = "ALIGN_PERCENTILE_95", by = ["resource.labels.service_name"], reducer = "REDUCE_MAX" },
    { title = "Tasks waiting", filter = "resource.type=\"cloud_tasks_queue\" AND metric.type=\"cloudtasks.googleapis.com/queue/depth\"", aligner = "ALIGN_MAX", by = ["resource.labels.queue_id"], reducer = "REDUCE_SUM" },
    { title = "Tasks' delay, 95th percentile (ms)", filter = "resource.type=\"cloud_tasks_queue\" AND metric.type=\"cloudtasks.googleapis.com/queue/task_attempt_delays\"", aligner = "ALIGN_PERCENTILE_95", by = ["resource.labels.queue_id"], reducer = "REDUCE_MAX" },
    { title = "What dependencies kept from being done", filter = local.metric["dependency_errors"], aligner = "ALIGN_DELTA", by = ["metric.labels.function"] },
    { title = "Steps' answers to the queue, by class", filter = "${local.services} AND metric.type=\"run.googleapis.com/request_count\" AND resource.labels.service_name!=${local.public_services}", aligner = "ALIGN_RATE", by = ["metric.labels.response_code_class"] },
    { title = "Instances, by function", filter = "${local.services} AND metric.type=\"run.googleapis.com/container/instance_count\"", aligner = "ALIGN_MAX", by = ["resource.labels.service_name"], reducer = "REDUCE_SUM" },
    { title = "Access tokens given to Aurora's services", filter = local.metric["tokens_given"], aligner = "ALIGN_DELTA", by = [] },
  ]
}

resource "google_monitoring_dashboard" "connector" {
  project = var.project_id

  dashboard_json = jsonencode({
    displayName = "Connector (${var.name})"
    mosaicLayout = {
      columns = 48
      tiles = [for i, c in local.charts : {
        xPos   = (i % 2) * 24
        yPos   = floor(i / 2) * 16
        width  = 24
        height = 16
        widget = {
          title = c.title
          xyChart = {
            dataSets = [{
              plotType   = "LINE"
              targetAxis = "Y1"
              timeSeriesQuery = {
                timeSeriesFilter = {
                  filter = c.filter
                  aggregation = {
                    alignmentPeriod    = "60s"
                    perSeriesAligner   = c.aligner
                    crossSeriesReducer = try(c.reducer, "REDUCE_SUM")
                    groupByFields      = c.by
                  }
                }
              }
            }]
          }
        }
      }]
    }
  })

  depends_on = [google_project_service.api]
}
