# The table of functions: who calls each, what it needs, and the contract's paths
# that lead to it. A test compares it with functions.Table, which says the same to
# the program.
locals {
  functions = {
    # Users, or Aurora's backend in a user's name, and the browser on its way back.
    login           = { caller = "user", login_key = true, tokens = false, queue = false, platform = false, paths = ["/login"] }
    callback        = { caller = "browser", login_key = true, tokens = true, queue = true, platform = false, paths = ["/callback"] }
    confirm         = { caller = "user", login_key = false, tokens = true, queue = true, platform = false, paths = ["/gcp/setup/confirm"] }
    status          = { caller = "user", login_key = false, tokens = false, queue = false, platform = false, paths = ["/gcp/setup/status/*"] }
    plan            = { caller = "user", login_key = false, tokens = true, queue = false, platform = false, paths = ["/gcp/setup/plan"] }
    select-projects = { caller = "user", login_key = false, tokens = true, queue = true, platform = false, paths = ["/gcp/post-auth-retry"] }
    root-project    = { caller = "user", login_key = false, tokens = true, queue = true, platform = false, paths = ["/api/gcp/root-project"] }
    disconnect      = { caller = "user", login_key = false, tokens = true, queue = true, platform = false, paths = ["/api/gcp/force-disconnect"] }
    projects        = { caller = "user", login_key = false, tokens = true, queue = false, platform = false, paths = ["/api/gcp/projects"] }
    project-access  = { caller = "user", login_key = false, tokens = true, queue = false, platform = false, paths = ["/api/gcp/sa-project-access"] }
    connection      = { caller = "user", login_key = false, tokens = false, queue = false, platform = false, paths = ["/api/gcp/connection"] }
    changes         = { caller = "user", login_key = false, tokens = false, queue = false, platform = false, paths = ["/api/gcp/changes"] }
    resources = { caller = "user", login_key = false, tokens = false, queue = true, platform = false, paths = [
      "/api/gcp/resources", "/api/gcp/resources/summary", "/api/gcp/discover",
    ] }

    # Aurora's own services.
    token = { caller = "service", login_key = false, tokens = true, queue = false, platform = true, paths = ["/internal/token"] }

    # The queue: the chain, the removal, and discovery.
    validate-projects       = { caller = "queue", login_key = false, tokens = true, queue = true, platform = false, paths = [] }
    enable-apis             = { caller = "queue", login_key = false, tokens = true, queue = true, platform = false, paths = [] }
    create-service-accounts = { caller = "queue", login_key = false, tokens = true, queue = true, platform = false, paths = [] }
    grant-access            = { caller = "queue", login_key = false, tokens = true, queue = true, platform = false, paths = [] }
    update-org-policies     = { caller = "queue", login_key = false, tokens = true, queue = true, platform = false, paths = [] }
    verify-permissions      = { caller = "queue", login_key = false, tokens = true, queue = true, platform = true, paths = [] }
    discover-resources      = { caller = "queue", login_key = false, tokens = true, queue = true, platform = false, paths = [] }
    remove-access           = { caller = "queue", login_key = false, tokens = true, queue = true, platform = false, paths = [] }
    discover-project        = { caller = "queue", login_key = false, tokens = true, queue = true, platform = true, paths = [] }

    # Cloud Scheduler.
    sweep = { caller = "scheduler", login_key = false, tokens = true, queue = true, platform = false, paths = [] }
  }

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
  scaling         = try(var.scaling[each.key], null)

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
