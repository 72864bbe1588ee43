# Who may do what in the connector's own project. What it may do in customers'
# projects is not here: customers grant that, to the platform account.

# In whose name Cloud Tasks calls the step functions.
resource "google_service_account" "tasks" {
  project      = var.project_id
  account_id   = "${var.name}-tasks"
  display_name = "Calls the connector's step functions (Cloud Tasks)"

  depends_on = [google_project_service.api]
}

# In whose name Cloud Scheduler calls sweep.
resource "google_service_account" "scheduler" {
  project      = var.project_id
  account_id   = "${var.name}-scheduler"
  display_name = "Calls the connector's sweep (Cloud Scheduler)"

  depends_on = [google_project_service.api]
}

# Aurora's own account, which customers allow to impersonate their two accounts.
# The functions that impersonate run as it; it has nothing else than they need.
resource "google_service_account" "platform" {
  project      = var.project_id
  account_id   = "${var.name}-platform"
  display_name = "Impersonates the service accounts of connected customers"

  depends_on = [google_project_service.api]
}

# Each other function runs as an account of its own.
resource "google_service_account" "function" {
  for_each = { for name, f in local.functions : name => f if !f.platform }

  project      = var.project_id
  account_id   = "${var.name}-${each.key}"
  display_name = "The connector's function ${each.key}"

  depends_on = [google_project_service.api]
}

locals {
  # Emails are composed rather than read back, so that a plan shows who gets what;
  # account_id is the account's all the same, which is made first.
  emails = merge(
    { for name, a in google_service_account.function : name => "${a.account_id}@${var.project_id}.iam.gserviceaccount.com" },
    {
      platform  = "${google_service_account.platform.account_id}@${var.project_id}.iam.gserviceaccount.com"
      tasks     = "${google_service_account.tasks.account_id}@${var.project_id}.iam.gserviceaccount.com"
      scheduler = "${google_service_account.scheduler.account_id}@${var.project_id}.iam.gserviceaccount.com"
    },
  )

  # The account that each function runs as: its name among the emails.
  runs_as = { for name, f in local.functions : name => f.platform ? "platform" : name }

  # The accounts that functions run as, with what they need: what any of its
  # functions does.
  accounts = {
    for account in distinct(values(local.runs_as)) : account => {
      email     = local.emails[account]
      member    = "serviceAccount:${local.emails[account]}"
      id        = "projects/${var.project_id}/serviceAccounts/${local.emails[account]}"
      login_key = anytrue([for name, f in local.functions : f.login_key if local.runs_as[name] == account])
      tokens    = anytrue([for name, f in local.functions : f.tokens if local.runs_as[name] == account])
      queue     = anytrue([for name, f in local.functions : f.queue if local.runs_as[name] == account])
    }
  }
}

# Every function reads or writes state, in the connector's database alone.
resource "google_project_iam_member" "database" {
  for_each = local.accounts

  project = var.project_id
  role    = "roles/datastore.user"
  member  = each.value.member

  condition {
    title       = "connector-database"
    description = "The connector's database and no other of the project."
    expression  = "resource.name == \"projects/${var.project_id}/databases/${var.firestore.database}\" || resource.name.startsWith(\"projects/${var.project_id}/databases/${var.firestore.database}/\")"
  }
}

# Traces and metrics go to Google's Telemetry API, which counts its quota against
# the project that the account names.
resource "google_project_iam_member" "telemetry" {
  for_each = var.settings.telemetry_to_google ? merge([for key, a in local.accounts : {
    for role in ["roles/telemetry.writer", "roles/serviceusage.serviceUsageConsumer"] : "${key} ${role}" => { member = a.member, role = role }
  }]...) : {}

  project = var.project_id
  role    = each.value.role
  member  = each.value.member
}

# Functions that use users' tokens log in to Vault by a JWT that the account signs
# for itself (iam.serviceAccounts.signJwt on itself, and on nobody else).
resource "google_service_account_iam_member" "signs_for_itself" {
  for_each = { for key, a in local.accounts : key => a if a.tokens }

  service_account_id = each.value.id
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = each.value.member
}

# Vault asks Google about the account that logs in, as what Vault itself is there.
resource "google_service_account_iam_member" "seen_by_vault" {
  for_each = { for key, a in local.accounts : key => a if a.tokens && var.vault.service_account != null }

  service_account_id = each.value.id
  role               = "roles/iam.serviceAccountViewer"
  member             = "serviceAccount:${var.vault.service_account}"
}

# Functions that hand over tasks name the account in whose name they are
# delivered: Cloud Tasks asks for iam.serviceAccounts.actAs on it.
resource "google_service_account_iam_member" "delivers_as_tasks" {
  for_each = { for key, a in local.accounts : key => a if a.queue }

  service_account_id = "projects/${var.project_id}/serviceAccounts/${local.emails.tasks}"
  role               = "roles/iam.serviceAccountUser"
  member             = each.value.member
}
