locals {
  # What the connector itself runs on.
  platform_apis = [
    "artifactregistry.googleapis.com",
    "billingbudgets.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudscheduler.googleapis.com",
    "cloudtasks.googleapis.com",
    "compute.googleapis.com",
    "containeranalysis.googleapis.com",
    "firestore.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "telemetry.googleapis.com",
  ]

  # What it asks about customers' projects. Google wants these enabled in the
  # project of the OAuth client too, which is this one.
  control_apis = [
    "cloudasset.googleapis.com",
    "cloudbilling.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "orgpolicy.googleapis.com",
    "serviceusage.googleapis.com",
  ]
}

resource "google_project_service" "api" {
  for_each = toset(concat(local.platform_apis, local.control_apis))

  project = var.project_id
  service = each.value

  # An API may serve others in the project: destroying the connector leaves it.
  disable_on_destroy = false
}
