# The table of functions: who calls each, what it needs, and the contract's paths
# that lead to it. The file is written from functions.Table, by
# go test ./terraform -run TestFiles -update
locals {
  functions = { for f in jsondecode(file("${path.module}/files/functions.json")) : f.name => f }

  # What Cloud Run lets in without asking who it is: users' functions and the
  # callback find that out themselves. Nothing else is public.
  public_functions = { for name, f in local.functions : name => f if contains(["user", "browser"], f.caller) }

  public_invokers = var.public_access == "all_users" ? ["allUsers"] : []

  # Who else may call what, as Cloud Run checks it.
  invokers = {
    queue     = ["serviceAccount:${local.emails.tasks}"]
    scheduler = ["serviceAccount:${local.emails.scheduler}"]
    service   = [for a in var.auth.internal_service_accounts : "serviceAccount:${a}"]
  }

  # A service's address, known before it is made
  # (https://cloud.google.com/run/docs/triggering/https-request#deterministic):
  # functions must know each other's.
  function_urls = { for name, _ in local.functions : name => "https://${var.name}-${name}-${var.project_number}.${var.region}.run.app" }
  task_target   = "https://${var.name}-{function}-${var.project_number}.${var.region}.run.app"

  # Where browsers reach the functions: the redirect URI is this + /callback.
  backend_url = var.load_balancer != null ? "https://${var.load_balancer.domain}" : local.function_urls["callback"]

  # A function gives up by itself after 95 s at most, and its server cuts an
  # answer off after 100 s; then Cloud Run does, and then the queue, which
  # delivers again: each must outlast the one before it.
  request_timeout = "105s"
  task_deadline   = "110s" # of sweep; tasks carry their own, the same

  # Requests at once to an instance, where 80 are too many for its memory: a page of a
  # project's resources has 500 of them with their attributes, megabytes of JSON that
  # take several times as much while they are decoded.
  concurrency = { (local.functions["discover-project"].name) = 16 }

  deployed = var.image == null ? {} : local.functions
}

module "function" {
  source   = "./modules/function"
  for_each = local.deployed

  project_id = var.project_id
  region     = var.region
  name       = "${var.name}-${each.key}"
  function   = each.key
  image      = var.image

  service_account = local.emails[local.runs_as[each.key]]
  environment     = local.environments[each.key]
  timeout         = local.request_timeout
  network         = each.value.tokens ? var.network : null # Vault is all that may be private
  scaling = merge(try(var.scaling[each.key], {}), {
    concurrency = try(coalesce(var.scaling[each.key].concurrency), lookup(local.concurrency, each.key, 80))
  })
  regional_cpu    = var.regional_cpu
  regional_memory = var.regional_memory

  # Services of Aurora's that ask for tokens are in projects of their own, which is
  # outside for Cloud Run: its invoker check is their door.
  ingress            = each.value.caller == "service" ? "all" : !contains(keys(local.public_functions), each.key) ? "internal" : var.load_balancer == null ? "all" : "load_balancer"
  invoker_iam_check  = !(contains(keys(local.public_functions), each.key) && length(local.public_invokers) == 0)
  invokers           = contains(keys(local.public_functions), each.key) ? local.public_invokers : local.invokers[each.value.caller]
  deletion_protected = var.deletion_protection

  depends_on = [
    google_project_service.api,
    google_firestore_index.index,
    google_firestore_field.field,
    google_secret_manager_secret_iam_member.client_secret,
    google_secret_manager_secret_iam_member.login_key,
    google_service_account_iam_member.signs_for_itself,
    google_service_account_iam_member.delivers_as_tasks,
    google_project_iam_member.database,
  ]
}
