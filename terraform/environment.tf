# The environment of each function: what shared/config reads. A function gets what
# it needs and no more.
locals {
  common_environment = {
    AUTH                     = var.auth.mode
    AUTH_AUDIENCE            = join(",", var.auth.audience)
    AUTH_ISSUER              = var.auth.issuer
    BACKENDS                 = "real"
    BACKEND_SERVICE_ACCOUNTS = join(",", var.auth.backend_service_accounts)
    CLIENT_ID                = var.oauth_client_id
    CORS_ORIGINS             = join(",", var.cors_origins)
    FIRESTORE_DATABASE       = var.firestore.database
    FRONTURL                 = var.front_url
    GOOGLE_CLOUD_PROJECT     = var.project_id
    LOGIN_BINDING            = coalesce(var.login_binding, var.auth.mode == "oidc" && var.load_balancer != null ? "cookie" : "confirm")
    LOG_LEVEL                = var.settings.log_level
    NEXT_PUBLIC_BACKEND_URL  = local.backend_url

    AGENT_ROLES              = try(join(",", var.settings.agent_roles), null)
    ASK_ROLES                = try(join(",", var.settings.ask_roles), null)
    INCLUDE_SYS_PROJECTS     = var.settings.include_sys_projects
    MAX_AUTO_PROJECTS        = var.settings.max_auto_projects
    MAX_SELECTED_PROJECTS    = var.settings.max_selected_projects
    PLATFORM_QUOTA           = var.settings.platform_quota
    PLATFORM_SERVICE_ACCOUNT = var.settings.platform_impersonates ? local.emails.platform : null
    SETUP_GIVE_UP_AFTER      = var.settings.setup_give_up_after
    TASK_MAX_ATTEMPTS        = var.settings.task_max_attempts
    UPDATE_ORG_POLICIES      = var.settings.update_org_policies
    VERIFY_ATTEMPTS          = var.settings.verify_attempts
    VERIFY_INTERVAL          = var.settings.verify_interval

    OTEL_EXPORTER_OTLP_ENDPOINT = var.settings.telemetry_endpoint != null ? var.settings.telemetry_endpoint : var.settings.telemetry_to_google ? "https://telemetry.googleapis.com" : null
    OTEL_TRACES_SAMPLER_ARG     = var.settings.trace_ratio
  }

  queue_environment = {
    CLOUD_TASKS_QUEUE           = "projects/${var.project_id}/locations/${var.region}/queues/${google_cloud_tasks_queue.queue["setups"].name}"
    CLOUD_TASKS_DISCOVERY_QUEUE = "projects/${var.project_id}/locations/${var.region}/queues/${google_cloud_tasks_queue.queue["discoveries"].name}"
    SCHEDULER_SERVICE_ACCOUNT   = local.emails.scheduler
    TASK_SERVICE_ACCOUNT        = local.emails.tasks
    TASK_TARGET                 = local.task_target
  }

  login_key_environment = {
    LOGIN_KEY = "sm://projects/${var.project_id}/secrets/${google_secret_manager_secret.login_key.secret_id}"
  }

  tokens_environment = {
    CLIENT_SECRET    = "sm://projects/${var.project_id}/secrets/${google_secret_manager_secret.client_secret.secret_id}"
    VAULT_ADDR       = var.vault.address
    VAULT_AUTH_MOUNT = var.vault.auth_mount

    VAULT_CACERT_BYTES = var.vault.ca_certificate # read by Vault's client
    VAULT_MOUNT        = var.vault.mount
    VAULT_NAMESPACE    = var.vault.namespace
    VAULT_ROLE         = var.vault.role
  }

  environments = {
    for name, f in local.functions : name => {
      for variable, value in merge(
        local.common_environment,
        f.login_key ? local.login_key_environment : {},
        f.queue ? local.queue_environment : {},
        f.tokens ? merge(local.tokens_environment, { VAULT_SERVICE_ACCOUNT = local.emails[local.runs_as[name]] }) : {},
        f.caller == "service" ? {
          INTERNAL_SERVICE_ACCOUNTS = join(",", var.auth.internal_service_accounts)
          INTERNAL_AUDIENCE         = local.function_urls[name]
        } : {},
        contains(["user", "browser"], f.caller) ? {} : { INVOKER_IAM_CHECK = "true" },
      ) : variable => tostring(value) if value != null && value != ""
    }
  }
}
