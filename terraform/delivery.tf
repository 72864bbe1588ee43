# Releases: a push to the release branch starts two builds. The builder's checks,
# tests, builds the image and plans (cloudbuild.yaml); the deployer's waits for an
# approval and carries out that plan (terraform/deploy.yaml). Neither account has
# more than its build does. The builder, which runs a commit's tests, cannot deploy;
# it can put a plan forward, so the approver reads the plan. The deployer makes
# accounts and gives them their rights, which reaches every account of the project:
# who approves decides about all of it.
locals {
  delivery = var.delivery == null ? {} : { this = var.delivery }
  builder  = "serviceAccount:${var.name}-builder@${var.project_id}.iam.gserviceaccount.com"
  deployer = "serviceAccount:${var.name}-deployer@${var.project_id}.iam.gserviceaccount.com"

  # What `terraform plan` reads to see what is there: settings, and no contents.
  builder_roles = var.delivery == null ? [] : concat([
    "roles/artifactregistry.reader",
    "roles/cloudbuild.builds.viewer", # the triggers
    "roles/cloudscheduler.viewer",
    "roles/cloudtasks.viewer",
    "roles/iam.securityReviewer", # policies, of all of these
    "roles/logging.logWriter",    # its own log
    "roles/monitoring.viewer",
    "roles/run.viewer",
    "roles/secretmanager.viewer",              # secrets' settings, not their payloads
    "roles/serviceusage.serviceUsageConsumer", # the examples' provider names the project that quota is counted against
    "roles/serviceusage.serviceUsageViewer",
  ], local.delivers_compute ? ["roles/compute.viewer"] : [])

  # What `terraform apply` writes, each for the file of its concern.
  deployer_roles = var.delivery == null ? [] : concat([
    "roles/artifactregistry.admin",               # registry.tf
    "roles/cloudbuild.builds.viewer",             # it sees the triggers, and does not change them
    "roles/cloudscheduler.admin",                 # scheduler.tf
    "roles/cloudtasks.admin",                     # tasks.tf, with who may enqueue
    "roles/containeranalysis.notes.attacher",     # what is in an image is kept with it
    "roles/containeranalysis.notes.editor",       # likewise
    "roles/containeranalysis.occurrences.editor", # likewise, and where it comes from is read
    "roles/iam.securityReviewer",                 # policies, to compare
    "roles/iam.serviceAccountAdmin",              # accounts.tf, with who may act as them
    "roles/logging.configWriter",                 # observability.tf
    "roles/logging.logWriter",                    # its own log
    "roles/monitoring.editor",                    # observability.tf
    "roles/run.admin",                            # functions.tf, with who may call them
    "roles/serviceusage.serviceUsageAdmin",       # apis.tf
    "roles/serviceusage.serviceUsageConsumer",    # as the builder
    ], local.delivers_compute ? [
    "roles/compute.loadBalancerAdmin", # loadbalancer.tf
    "roles/compute.networkAdmin",      # the network that functions leave through
    "roles/compute.securityAdmin",     # certificate and rates
  ] : [])
  delivers_compute = var.load_balancer != null || var.network != null

  # What both do with the database and the secrets has no role that leaves their
  # contents out.
  settings_permissions = {
    read = [
      "datastore.backupSchedules.get", "datastore.backupSchedules.list", "datastore.databases.get", "datastore.databases.getMetadata",
      "datastore.databases.list", "datastore.indexes.get", "datastore.indexes.list", "datastore.operations.get", "datastore.operations.list",
      "logging.logMetrics.get", "logging.logMetrics.list",
    ]
    write = [
      "datastore.backupSchedules.create", "datastore.backupSchedules.delete", "datastore.backupSchedules.update",
      "datastore.databases.create", "datastore.databases.update",
      "datastore.indexes.create", "datastore.indexes.delete", "datastore.indexes.update",
      "secretmanager.secrets.create", "secretmanager.secrets.get", "secretmanager.secrets.getIamPolicy", "secretmanager.secrets.list",
      "secretmanager.secrets.setIamPolicy", "secretmanager.secrets.update",
    ]
  }

  # The roles that the deployer may give and take in the project: those that
  # accounts.tf gives.
  grantable_roles = ["roles/datastore.user", "roles/serviceusage.serviceUsageConsumer", "roles/telemetry.writer"]
}

resource "google_service_account" "builder" {
  for_each = local.delivery

  project      = var.project_id
  account_id   = "${var.name}-builder"
  display_name = "Tests, builds and plans releases of the connector (Cloud Build)"

  depends_on = [google_project_service.api]
}

resource "google_service_account" "deployer" {
  for_each = local.delivery

  project      = var.project_id
  account_id   = "${var.name}-deployer"
  display_name = "Deploys approved releases of the connector (Cloud Build)"

  depends_on = [google_project_service.api]
}

resource "google_project_iam_custom_role" "settings" {
  for_each = var.delivery == null ? {} : local.settings_permissions

  project     = var.project_id
  role_id     = "${var.name}_settings_${each.key}"
  title       = "Connector: settings of database and secrets (${each.key})"
  description = "What Terraform does with the database and the secrets, without their contents."
  permissions = each.value

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "builder" {
  for_each = toset(local.builder_roles)

  project = var.project_id
  role    = each.value
  member  = local.builder

  depends_on = [google_service_account.builder]
}

resource "google_project_iam_member" "deployer" {
  for_each = toset(local.deployer_roles)

  project = var.project_id
  role    = each.value
  member  = local.deployer

  depends_on = [google_service_account.deployer]
}

# The builder reads settings; the deployer reads and writes them.
resource "google_project_iam_member" "settings" {
  for_each = var.delivery == null ? {} : {
    "builder read"   = { role = "read", member = local.builder }
    "deployer read"  = { role = "read", member = local.deployer }
    "deployer write" = { role = "write", member = local.deployer }
  }

  project = var.project_id
  role    = "projects/${var.project_id}/roles/${google_project_iam_custom_role.settings[each.value.role].role_id}"
  member  = each.value.member

  depends_on = [google_service_account.builder, google_service_account.deployer]
}

# The deployer gives accounts of functions their roles, those and no others.
resource "google_project_iam_member" "grants" {
  for_each = local.delivery

  project = var.project_id
  role    = "roles/resourcemanager.projectIamAdmin"
  member  = local.deployer

  condition {
    title       = "connector-roles"
    description = "The roles that functions have in the project, and no others."
    expression  = "api.getAttribute('iam.googleapis.com/modifiedGrantsByRole', []).hasOnly([${join(", ", [for r in local.grantable_roles : "'${r}'"])}])"
  }

  depends_on = [google_service_account.deployer]
}

# Who deploys a service acts as its account; who makes the scheduler's job, as its.
resource "google_service_account_iam_member" "deploys_as" {
  for_each = var.delivery == null ? {} : merge({ for key, a in local.accounts : key => a.id }, {
    scheduler = "projects/${var.project_id}/serviceAccounts/${local.emails.scheduler}"
  })

  service_account_id = each.value
  role               = "roles/iam.serviceAccountUser"
  member             = local.deployer

  depends_on = [google_service_account.deployer]
}

# Cloud Build pushes the image with the build's account.
resource "google_artifact_registry_repository_iam_member" "builder" {
  for_each = local.delivery

  project    = var.project_id
  location   = var.region
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = local.builder

  depends_on = [google_service_account.builder]
}

# State, variables and plans are in one bucket: the builder reads it and adds
# plans, of which it can overwrite none; the deployer uses it.
resource "google_storage_bucket_iam_member" "builder_reads" {
  for_each = local.delivery

  bucket = each.value.bucket
  role   = "roles/storage.objectViewer"
  member = local.builder

  depends_on = [google_service_account.builder]
}

resource "google_storage_bucket_iam_member" "builder_adds" {
  for_each = local.delivery

  bucket = each.value.bucket
  role   = "roles/storage.objectCreator"
  member = local.builder

  condition {
    title       = "plans"
    description = "Plans, and not the state."
    expression  = "resource.name.startsWith(\"projects/_/buckets/${each.value.bucket}/objects/deployments/\")"
  }

  depends_on = [google_service_account.builder]
}

resource "google_storage_bucket_iam_member" "deployer" {
  for_each = local.delivery

  bucket = each.value.bucket
  role   = "roles/storage.objectUser"
  member = local.deployer

  depends_on = [google_service_account.deployer]
}

# Who may let a plan be carried out.
resource "google_project_iam_member" "approver" {
  for_each = var.delivery == null ? toset([]) : toset(var.delivery.approvers)

  project = var.project_id
  role    = "roles/cloudbuild.builds.approver"
  member  = each.value
}

locals {
  triggers = var.delivery == null ? {} : {
    build = {
      description = "Test, build and plan a release"
      file        = "cloudbuild.yaml"
      account     = google_service_account.builder["this"].account_id
      approval    = false
      more        = {}
    }
    deploy = {
      description = "Carry out the plan of a release, when somebody has approved it"
      file        = "terraform/deploy.yaml"
      account     = google_service_account.deployer["this"].account_id
      approval    = true
      more        = { _NAME = var.name, _REGION = var.region }
    }
  }
}

resource "google_cloudbuild_trigger" "release" {
  for_each = local.triggers

  project         = var.project_id
  location        = split("/", var.delivery.repository)[3]
  name            = "${var.name}-${each.key}"
  description     = each.value.description
  filename        = each.value.file
  service_account = "projects/${var.project_id}/serviceAccounts/${each.value.account}@${var.project_id}.iam.gserviceaccount.com"

  repository_event_config {
    repository = var.delivery.repository
    push {
      branch = var.delivery.branch
    }
  }

  approval_config {
    approval_required = each.value.approval
  }

  substitutions = merge({
    _BUCKET          = var.delivery.bucket
    _IMAGE           = "${var.region}-docker.pkg.dev/${var.project_id}/${google_artifact_registry_repository.images.repository_id}/gcpconnect"
    _ROOT            = var.delivery.root
    _SERVICE_ACCOUNT = "${each.value.account}@${var.project_id}.iam.gserviceaccount.com"
  }, each.value.more)

  depends_on = [google_project_iam_member.builder, google_project_iam_member.deployer]
}
